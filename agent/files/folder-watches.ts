import { type FSWatcher, watch } from 'node:fs';
import { basename } from 'node:path';
import type { WatchPoint } from './watch-trace.ts';

/** Told that something happened to an entry of a folder; what it was has to be looked at. */
export type WatchListener = () => void;

interface FolderWatch {
  readonly watcher: FSWatcher;
  /** Listeners by entry. */
  readonly entries: Map<string, Set<WatchListener>>;
  /** The folder itself was moved or removed: another may stand under its name, so the watch is made anew. */
  isSuspect: boolean;
}

/** One inotify watch for each folder, however many files in it are of interest. */
export class FolderWatches {
  readonly #folders = new Map<string, FolderWatch>();
  readonly #onFailure: (error: Error) => void;

  /** `onFailure` hears of watches that broke; their listeners are called too. */
  constructor(options: { readonly onFailure: (error: Error) => void }) {
    this.#onFailure = options.onFailure;
  }

  /**
   * Makes `listener` hear of exactly these points from now on. True when a watch was made that was not there before:
   * what happened until now was not seen. Throws what `fs.watch` throws (no such folder, no watches left).
   */
  listen(listener: WatchListener, points: readonly WatchPoint[]): boolean {
    const wanted = new Map<string, Set<string>>();
    for (const { folder, entry } of points) {
      const entries = wanted.get(folder) ?? new Set();
      wanted.set(folder, entries.add(entry));
    }
    for (const [folder, { entries }] of this.#folders) {
      for (const [entry, listeners] of entries) {
        if (wanted.get(folder)?.has(entry) !== true) this.#remove(folder, entry, listeners, listener);
      }
    }
    let isNew = false;
    for (const [folder, entries] of wanted) {
      const { found, isMade } = this.#open(folder);
      for (const entry of entries) {
        const listeners = found.entries.get(entry) ?? new Set();
        isNew ||= isMade || !listeners.has(listener);
        found.entries.set(entry, listeners.add(listener));
      }
    }
    return isNew;
  }

  /** Nothing is heard any more. */
  close(): void {
    for (const { watcher } of this.#folders.values()) watcher.close();
    this.#folders.clear();
  }

  #open(folder: string): { readonly found: FolderWatch; readonly isMade: boolean } {
    const present = this.#folders.get(folder);
    if (present?.isSuspect === false) return { found: present, isMade: false };
    const watcher = watch(folder, (_event, name) => this.#onEvent(folder, name));
    watcher.on('error', (error) => this.#onError(folder, error));
    present?.watcher.close();
    const found = { watcher, entries: present?.entries ?? new Map(), isSuspect: false };
    this.#folders.set(folder, found);
    return { found, isMade: true };
  }

  #remove(folder: string, entry: string, listeners: Set<WatchListener>, listener: WatchListener): void {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    const found = this.#folders.get(folder);
    found?.entries.delete(entry);
    if (found?.entries.size !== 0) return;
    found.watcher.close();
    this.#folders.delete(folder);
  }

  #onEvent(folder: string, name: string | null): void {
    const found = this.#folders.get(folder);
    if (found === undefined) return;
    // An event of the folder itself, its removal among them, carries the folder's own name.
    const isOfFolder = name === null || name === basename(folder);
    if (isOfFolder) found.isSuspect = true;
    for (const [entry, listeners] of found.entries) {
      if (isOfFolder || entry === name) for (const listener of listeners) listener();
    }
  }

  #onError(folder: string, error: Error): void {
    this.#onFailure(error);
    this.#onEvent(folder, null);
  }
}
