import { readdir, rename } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { deleteFile, isOrphan, metadataOf } from './blob-folder.ts';
import type { CacheLog } from './cache-log.ts';
import {
  type FileVersion,
  isSameVersion,
  readRecordFile,
  temporaryPrefix,
  versionOf,
  writeRecordFile,
} from './record-file.ts';
import { errnoOf, storageFailure } from './storage-failure.ts';
import type { SharedRecordIndex } from './types.ts';

export interface FileRecordIndexOptions<Entry> {
  /** The JSON file. Its folder is made when it is missing. */
  readonly path: string;
  /** Turns a value from disk into an entry; undefined (or a throw) drops it. */
  readonly parse: (value: unknown) => Entry | undefined;
  /** At least 1. Beyond it the record that was set longest ago goes. */
  readonly maxEntryCount: number;
  /**
   * True: other processes write the file too. Before each write, and with `refresh`, what they have set is taken over;
   * of a key that both have set since, the one of this process counts. Records are never dropped because another has
   * dropped them. Default false: the file is this process's alone.
   */
  readonly isShared?: boolean;
  /**
   * Temporary files of processes that are gone are swept at this age. Default 0; more where other processes use the
   * folder that this one cannot see, as those of another container.
   */
  readonly orphanAgeMs?: number;
  readonly log?: CacheLog | undefined;
}

/**
 * Records in one JSON file (0600), `{"version":1,"records":[[key, entry], ...]}`, the one set longest ago first.
 *
 * A change is written in the background, whole file, one write at a time: what is set during a write goes into the
 * next one. A crash loses at most what was set since the last write; the file is never half-written (temporary file,
 * fsync, rename). A write that fails is logged and tried again with the next change, with `flush` or with `close`.
 */
export class FileRecordIndex<Entry> implements SharedRecordIndex<Entry> {
  readonly #path: string;
  readonly #maxEntryCount: number;
  readonly #parse: (value: unknown) => Entry | undefined;
  readonly #isShared: boolean;
  readonly #log: CacheLog | undefined;
  readonly #records = new Map<string, Entry>();
  /** Set or deleted here since the file was written. */
  #changedKeys = new Set<string>();
  /** Of the file whose records are known here. */
  #version: FileVersion | undefined;
  /** Counts changes; the file has the state of `#writtenRevision`. */
  #revision = 0;
  #writtenRevision = 0;
  #writing: Promise<void> | undefined;
  #refreshing: Promise<boolean> | undefined;
  #isClosed = false;

  private constructor(options: FileRecordIndexOptions<Entry>) {
    this.#path = resolve(options.path);
    this.#maxEntryCount = options.maxEntryCount;
    this.#parse = options.parse;
    this.#isShared = options.isShared ?? false;
    this.#log = options.log;
  }

  /** Never fails because of the file: a damaged one is set aside as `<path>.corrupt`, an unreadable one is warned about. */
  static async open<Entry>(options: FileRecordIndexOptions<Entry>): Promise<FileRecordIndex<Entry>> {
    if (!(options.maxEntryCount >= 1)) {
      throw new RangeError(`maxEntryCount must be at least 1, got ${options.maxEntryCount}`);
    }
    const index = new FileRecordIndex(options);
    await index.#load(options.orphanAgeMs ?? 0);
    return index;
  }

  get(key: string): Entry | undefined {
    return this.#records.get(key);
  }

  /** Entries must be JSON values and must not be changed afterwards. */
  set(key: string, entry: Entry): void {
    this.#records.delete(key);
    this.#records.set(key, entry);
    this.#evict();
    this.#changed(key);
  }

  delete(key: string): void {
    if (this.#records.delete(key)) this.#changed(key);
  }

  /** One look at the file's metadata for all who ask at a time. A file that cannot be read changes nothing. */
  refresh(): Promise<boolean> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #refresh(): Promise<boolean> {
    if (!this.#isShared) return false;
    try {
      const stats = await metadataOf(this.#path);
      if (stats === undefined || isSameVersion(versionOf(stats), this.#version)) return false;
    } catch {
      return false;
    }
    const file = await readRecordFile(this.#path);
    if (file.kind !== 'read' || isSameVersion(file.version, this.#version)) return false;
    this.#version = file.version;
    for (const [key, value] of file.records) {
      if (this.#changedKeys.has(key)) continue;
      const entry = parsed(this.#parse, value);
      if (entry !== undefined) this.#records.set(key, entry);
    }
    this.#evict();
    return true;
  }

  /** The one set longest ago first. */
  entries(): Iterable<readonly [string, Entry]> {
    return this.#records.entries();
  }

  /** Throws CacheError when the write fails. */
  async flush(): Promise<void> {
    const wanted = this.#revision;
    while (this.#writtenRevision < wanted) {
      // A write under way may have begun before the last change: then another one follows.
      if (this.#writing === undefined) await this.#startWrite();
      else await this.#writing.catch(() => undefined);
    }
  }

  /** Writes what is left; a failure is logged. Later changes stay in memory. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.flush().catch(() => undefined);
  }

  #evict(): void {
    for (const key of this.#records.keys()) {
      if (this.#records.size <= this.#maxEntryCount) return;
      this.#records.delete(key);
    }
  }

  #changed(key: string): void {
    this.#revision += 1;
    this.#changedKeys.add(key);
    if (this.#isClosed || this.#writing !== undefined) return;
    // Its failure is logged where it happens; `flush` is how a caller hears of it.
    this.#startWrite().catch(() => undefined);
  }

  #startWrite(): Promise<void> {
    const write = this.#write().finally(() => {
      this.#writing = undefined;
    });
    this.#writing = write;
    return write;
  }

  /** Writes until the file has what is in memory. */
  async #write(): Promise<void> {
    while (this.#writtenRevision < this.#revision) {
      // Let all changes of this turn of the event loop come along.
      await new Promise((resolve) => setImmediate(resolve));
      await this.#refresh();
      const revision = this.#revision;
      const changedKeys = this.#changedKeys;
      this.#changedKeys = new Set();
      try {
        this.#version = await writeRecordFile(this.#path, [...this.#records]);
      } catch (cause) {
        this.#changedKeys = this.#changedKeys.union(changedKeys);
        const error = storageFailure(cause, 'write the index', this.#path);
        this.#log?.warn('the record index could not be written, it is tried again with the next change', {
          error: error.message,
        });
        throw error;
      }
      this.#writtenRevision = revision;
    }
  }

  async #load(orphanAgeMs: number): Promise<void> {
    await this.#sweepOrphans(orphanAgeMs);
    const file = await readRecordFile(this.#path);
    switch (file.kind) {
      case 'absent':
        return;
      case 'unreadable':
        this.#log?.warn('the record index cannot be read, it starts empty', { error: file.error.message });
        return;
      case 'damaged':
        await this.#setAside(file.reason);
        return;
      case 'read':
        break;
      default:
        file satisfies never;
        return;
    }
    this.#version = file.version;
    let droppedCount = 0;
    for (const [key, value] of file.records) {
      const entry = parsed(this.#parse, value);
      if (entry === undefined) droppedCount += 1;
      else this.#records.set(key, entry);
    }
    this.#evict();
    if (droppedCount > 0) {
      this.#log?.warn('records of the index do not parse, they are dropped', {
        path: this.#path,
        droppedCount,
      });
    }
  }

  async #setAside(reason: string): Promise<void> {
    const corruptPath = `${this.#path}.corrupt`;
    try {
      await rename(this.#path, corruptPath);
      this.#log?.warn('the record index is damaged, it is set aside and starts empty', {
        path: this.#path,
        corruptPath,
        reason,
      });
    } catch (cause) {
      this.#log?.warn('the record index is damaged and cannot be set aside, it starts empty', {
        reason,
        error: storageFailure(cause, 'rename', this.#path).message,
      });
    }
  }

  async #sweepOrphans(orphanAgeMs: number): Promise<void> {
    const folder = dirname(this.#path);
    const prefix = temporaryPrefix(this.#path);
    try {
      for (const name of await readdir(folder)) {
        const path = join(folder, name);
        if (!name.startsWith(prefix) || !(await isOrphan(path, name.slice(prefix.length), orphanAgeMs)))
          continue;
        await deleteFile(path, 'delete the orphan');
      }
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      this.#log?.warn('temporary index files of an earlier run are left', {
        error: storageFailure(error, 'sweep', folder).message,
      });
    }
  }
}

function parsed<Entry>(parse: (value: unknown) => Entry | undefined, value: unknown): Entry | undefined {
  try {
    return parse(value);
  } catch {
    return undefined;
  }
}
