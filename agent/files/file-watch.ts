import { isDeepStrictEqual } from 'node:util';
import { BackOff, defaultBackOff } from '../back-off.ts';
import type { Clock } from '../clock.ts';
import { describeError, type Logger } from '../log.ts';
import { FolderWatches } from './folder-watches.ts';
import { type FileState, tracePath } from './watch-trace.ts';

export interface FileWatchOptions {
  /** From the first sign of a change to the look at it: a swap of files makes many signs. */
  readonly debounceMs: number;
  /** The file under `key` is another than before, has come or has gone. */
  readonly onChange: (key: string) => void;
  /** A watch could not be made or broke; it is in the log, and is tried again. */
  readonly onFailure?: () => void;
  /**
   * Between two looks at all files, for file systems that send no events and links into other machines' folders.
   * Undefined: none.
   */
  readonly pollIntervalMs?: number;
  /** A new mode or owner of the file counts too. Default false: behind links alone, where it comes with a swap. */
  readonly isModeWatched?: boolean;
  readonly log: Logger;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
}

interface Target {
  readonly key: string;
  readonly path: string;
  readonly listener: () => void;
  readonly backOff: BackOff;
  state: FileState | undefined;
  /** The next look. */
  timer: Disposable | undefined;
  /** The look that is going on. */
  look: Promise<void> | undefined;
  isRemoved: boolean;
}

/** A folder that changes while it is looked at is looked at again, but not without end. */
const maxLookCount = 5;

/**
 * Tells when files change, also by a swap of the links that lead to them. Events are only a reason to look: what counts
 * is whether the file behind the path is another one. While a watch cannot be made, looks with growing waits between
 * them stand in for it.
 */
export class FileWatch {
  readonly #options: FileWatchOptions;
  readonly #folders: FolderWatches;
  readonly #targets = new Map<string, Target>();
  #poll: Disposable | undefined;
  #isClosed = false;

  constructor(options: FileWatchOptions) {
    this.#options = options;
    this.#folders = new FolderWatches({
      onFailure: (error) => this.#reportFailure('file watch error', { reason: describeError(error) }),
    });
  }

  /**
   * Watches the file at an absolute path; nothing happens when `key` is watched already. Changes count from the moment
   * at which it resolves, so a file is to be read afterwards.
   */
  async add(key: string, path: string): Promise<void> {
    if (this.#isClosed) return;
    const present = this.#targets.get(key);
    if (present?.path === path) {
      await present.look;
      return;
    }
    this.remove(key);
    const target: Target = {
      key,
      path,
      listener: () => this.#lookSoon(target, this.#options.debounceMs),
      backOff: new BackOff({ ...defaultBackOff, random: this.#options.random }),
      state: undefined,
      timer: undefined,
      look: undefined,
      isRemoved: false,
    };
    this.#targets.set(key, target);
    this.#schedulePoll();
    await this.#look(target);
  }

  /**
   * Watches these files (absolute paths) and no others, each under its path as key. Resolves true when some are new:
   * they may have changed before they were watched, so they are to be read again.
   */
  async set(paths: readonly string[]): Promise<boolean> {
    for (const key of this.#targets.keys()) if (!paths.includes(key)) this.remove(key);
    const isNew = paths.some((path) => !this.#targets.has(path));
    await Promise.all(paths.map((path) => this.add(path, path)));
    return isNew;
  }

  /** Ends the watch of `key`. */
  remove(key: string): void {
    const target = this.#targets.get(key);
    if (target === undefined) return;
    this.#targets.delete(key);
    target.isRemoved = true;
    target.timer?.[Symbol.dispose]();
    this.#folders.listen(target.listener, []);
    if (this.#targets.size > 0) return;
    this.#poll?.[Symbol.dispose]();
    this.#poll = undefined;
  }

  /** Ends all watches, for good. Resolves when nothing of them is going on any more. Safe twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const looks = [...this.#targets.values()].flatMap(({ look }) => look ?? []);
    for (const key of this.#targets.keys()) this.remove(key);
    this.#folders.close();
    await Promise.all(looks);
  }

  #schedulePoll(): void {
    const { clock, pollIntervalMs } = this.#options;
    if (pollIntervalMs === undefined) return;
    this.#poll ??= clock.schedule(pollIntervalMs, () => {
      this.#poll = undefined;
      for (const target of this.#targets.values()) void this.#look(target);
      this.#schedulePoll();
    });
  }

  #lookSoon(target: Target, delayMs: number): void {
    if (target.isRemoved || target.timer !== undefined) return;
    target.timer = this.#options.clock.schedule(delayMs, () => {
      target.timer = undefined;
      void this.#look(target);
    });
  }

  async #look(target: Target): Promise<void> {
    // A look that goes on may have read before the change: another must follow it.
    while (target.look !== undefined) await target.look;
    if (target.isRemoved) return;
    target.look = this.#lookAndListen(target);
    await target.look;
  }

  async #lookAndListen(target: Target): Promise<void> {
    try {
      for (let count = 0; count < maxLookCount; count += 1) {
        const { state, points } = await tracePath(target.path, this.#options);
        if (target.isRemoved) return;
        // The root folder is not watched: what lies in it is as fixed as the machine.
        const isNew = this.#folders.listen(
          target.listener,
          points.filter(({ folder }) => folder !== '/'),
        );
        this.#note(target, state);
        if (!isNew) break;
      }
      target.backOff.reset();
    } catch (error) {
      if (target.isRemoved) return;
      const waitMs = target.backOff.nextMs();
      this.#reportFailure('error adding watcher for file, retrying', {
        path: target.path,
        waitMs: Math.round(waitMs),
        reason: describeError(error),
      });
      this.#lookSoon(target, waitMs);
    } finally {
      target.look = undefined;
    }
  }

  #note(target: Target, state: FileState): void {
    const before = target.state;
    target.state = state;
    if (before === undefined || isDeepStrictEqual(before, state)) return;
    this.#options.onChange(target.key);
  }

  #reportFailure(message: string, fields: Readonly<Record<string, string | number>>): void {
    this.#options.onFailure?.();
    this.#options.log.error(message, fields);
  }
}
