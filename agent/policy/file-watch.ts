import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeError, type Logger } from '../log.ts';

export interface FileWatchOptions {
  /** Something may have changed; called from a timer, never twice at a time without an event or change between. */
  readonly onSignal: () => void;
  readonly log: Logger;
  /** From the first event to the signal: what is written in steps is then seen whole. Default 100. */
  readonly debounceMs?: number;
  /** Between two looks at the files, for changes that no event tells of. Default 10000. */
  readonly pollIntervalMs?: number;
}

interface WatchedFolder {
  readonly watcher: FSWatcher;
  /** Tells a folder from another one of the same name. */
  readonly stamp: string;
}

/**
 * Tells when files may have changed. It watches their folders, because a mounted ConfigMap is changed by renaming a
 * link beside the file (Kubernetes `pkg/volume/util/atomic_writer.go`), and looks at the files now and then, for
 * file systems without events and for links into other folders. Nothing of it keeps the process alive.
 */
export class FileWatch {
  readonly #options: FileWatchOptions;
  readonly #folders = new Map<string, WatchedFolder>();
  readonly #unwatched = new Set<string>();
  #stamps = new Map<string, string>();
  #signalTimer: NodeJS.Timeout | undefined;
  #pollTimer: NodeJS.Timeout | undefined;
  #polling: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: FileWatchOptions) {
    this.#options = options;
  }

  /**
   * Watches these files (absolute paths) and no others. Resolves true when some are new: they may have changed before
   * they were watched, so they are to be read again.
   */
  async set(paths: readonly string[]): Promise<boolean> {
    const known = this.#stamps;
    const isNew = paths.some((path) => !known.has(path));
    await this.#arm(new Set(paths.map((path) => dirname(path))));
    const stamps = await Promise.all(
      paths.map(async (path) => [path, known.get(path) ?? (await fileStamp(path))] as const),
    );
    this.#stamps = new Map(stamps);
    this.#schedulePoll();
    return isNew;
  }

  /** Notes how the files are now. To be called before they are read, so that what changes later is seen. */
  async renew(): Promise<void> {
    for (const path of this.#stamps.keys()) this.#stamps.set(path, await fileStamp(path));
  }

  /** Ends all watching; resolves when a running look has ended. Safe twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#signalTimer);
    clearTimeout(this.#pollTimer);
    for (const { watcher } of this.#folders.values()) watcher.close();
    this.#folders.clear();
    await this.#polling;
  }

  /** Sees to it that exactly these folders are watched, each under the inode that it has now. */
  async #arm(wanted: ReadonlySet<string>): Promise<void> {
    for (const [folder, { watcher }] of this.#folders) {
      if (wanted.has(folder)) continue;
      watcher.close();
      this.#folders.delete(folder);
    }
    for (const folder of wanted) {
      const stamp = await folderStamp(folder);
      const known = this.#folders.get(folder);
      if (this.#isClosed || (known !== undefined && known.stamp === stamp)) continue;
      known?.watcher.close();
      this.#folders.delete(folder);
      if (stamp !== undefined) this.#watch(folder, stamp);
    }
  }

  #watch(folder: string, stamp: string): void {
    const giveUp = (error: unknown): void => {
      this.#folders.get(folder)?.watcher.close();
      this.#folders.delete(folder);
      if (this.#unwatched.has(folder)) return;
      this.#unwatched.add(folder);
      this.#options.log.warn('folder cannot be watched, its files are looked at from time to time', {
        folder,
        error: describeError(error),
      });
    };
    try {
      const watcher = watch(folder, { persistent: false }, () => this.#signalSoon());
      watcher.on('error', giveUp);
      this.#folders.set(folder, { watcher, stamp });
    } catch (error) {
      giveUp(error);
    }
  }

  /** The first event starts the wait, later ones do not lengthen it: a busy folder must not hold it back for ever. */
  #signalSoon(): void {
    if (this.#isClosed) return;
    this.#signalTimer ??= setTimeout(() => {
      this.#signalTimer = undefined;
      this.#options.onSignal();
    }, this.#options.debounceMs ?? 100);
    this.#signalTimer.unref();
  }

  #schedulePoll(): void {
    if (this.#isClosed || this.#pollTimer !== undefined) return;
    this.#pollTimer = setTimeout(() => {
      this.#polling = this.#poll().finally(() => {
        this.#pollTimer = undefined;
        this.#schedulePoll();
      });
    }, this.#options.pollIntervalMs ?? 10_000);
    this.#pollTimer.unref();
  }

  async #poll(): Promise<void> {
    const { size } = this.#folders;
    await this.#arm(new Set([...this.#stamps.keys()].map((path) => dirname(path))));
    let isChanged = this.#folders.size > size;
    for (const path of this.#stamps.keys()) {
      const stamp = await fileStamp(path);
      if (this.#stamps.get(path) === stamp || !this.#stamps.has(path)) continue;
      this.#stamps.set(path, stamp);
      isChanged = true;
    }
    if (isChanged) this.#signalSoon();
  }
}

/** Changes with the file, also when a link to it is swapped. */
async function fileStamp(path: string): Promise<string> {
  return stat(path, { bigint: true }).then(
    ({ dev, ino, size, mtimeNs, ctimeNs }) => [dev, ino, size, mtimeNs, ctimeNs].join(' '),
    (error: unknown) => `missing: ${describeError(error)}`,
  );
}

async function folderStamp(path: string): Promise<string | undefined> {
  return stat(path, { bigint: true }).then(
    ({ dev, ino }) => `${dev} ${ino}`,
    () => undefined,
  );
}
