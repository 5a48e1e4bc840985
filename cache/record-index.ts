import { constants } from 'node:fs';
import { mkdir, open, readdir, rename } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { deleteFile } from './blob-folder.ts';
import type { CacheLog } from './cache-log.ts';
import { isLeftByDeadProcess, temporaryFileName } from './process-mark.ts';
import { errnoOf, storageFailure } from './storage-failure.ts';
import { syncFolder } from './sync-queue.ts';
import type { RecordIndex } from './types.ts';

export interface FileRecordIndexOptions<Entry> {
  /** The JSON file. Its folder is made when it is missing. */
  readonly path: string;
  /** Turns a value from disk into an entry; undefined (or a throw) drops it. */
  readonly parse: (value: unknown) => Entry | undefined;
  /** At least 1. Beyond it the record that was set longest ago goes. */
  readonly maxEntryCount: number;
  readonly log?: CacheLog | undefined;
}

/** A larger file is no index of ours: it would have to be read whole. */
const maxFileSizeBytes = 64 * 1024 * 1024;

const formatVersion = 1;

/** The file could be read and is not an index. */
class DamagedIndexError extends Error {}

/**
 * Records in one JSON file (0600), `{"version":1,"records":[[key, entry], ...]}`, the one set longest ago first.
 *
 * A change is written in the background, whole file, one write at a time: what is set during a write goes into the
 * next one. A crash loses at most what was set since the last write; the file is never half-written (temporary file,
 * fsync, rename). A write that fails is logged and tried again with the next change, with `flush` or with `close`.
 */
export class FileRecordIndex<Entry> implements RecordIndex<Entry> {
  readonly #path: string;
  readonly #maxEntryCount: number;
  readonly #log: CacheLog | undefined;
  readonly #records = new Map<string, Entry>();
  /** Counts changes; the file has the state of `#writtenRevision`. */
  #revision = 0;
  #writtenRevision = 0;
  #writing: Promise<void> | undefined;
  #isClosed = false;

  private constructor(options: FileRecordIndexOptions<Entry>) {
    this.#path = resolve(options.path);
    this.#maxEntryCount = options.maxEntryCount;
    this.#log = options.log;
  }

  /** Never fails because of the file: a damaged one is set aside as `<path>.corrupt`, an unreadable one is warned about. */
  static async open<Entry>(options: FileRecordIndexOptions<Entry>): Promise<FileRecordIndex<Entry>> {
    if (!(options.maxEntryCount >= 1)) {
      throw new RangeError(`maxEntryCount must be at least 1, got ${options.maxEntryCount}`);
    }
    const index = new FileRecordIndex(options);
    await index.#load(options.parse);
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
    this.#changed();
  }

  delete(key: string): void {
    if (this.#records.delete(key)) this.#changed();
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

  #changed(): void {
    this.#revision += 1;
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
      const revision = this.#revision;
      try {
        const text = JSON.stringify({ version: formatVersion, records: [...this.#records] });
        await replaceFile(this.#path, text);
      } catch (cause) {
        const error = storageFailure(cause, 'write the index', this.#path);
        this.#log?.warn('the record index could not be written, it is tried again with the next change', {
          error: error.message,
        });
        throw error;
      }
      this.#writtenRevision = revision;
    }
  }

  async #load(parse: (value: unknown) => Entry | undefined): Promise<void> {
    await this.#sweepOrphans();
    let records: readonly (readonly [string, unknown])[];
    try {
      records = parseRecords(await readText(this.#path));
    } catch (error) {
      await this.#startAnew(error);
      return;
    }
    let droppedCount = 0;
    for (const [key, value] of records) {
      const entry = parsed(parse, value);
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

  async #startAnew(error: unknown): Promise<void> {
    if (errnoOf(error) === 'ENOENT') return;
    if (!(error instanceof DamagedIndexError)) {
      this.#log?.warn('the record index cannot be read, it starts empty', {
        error: storageFailure(error, 'read the index', this.#path).message,
      });
      return;
    }
    const corruptPath = `${this.#path}.corrupt`;
    try {
      await rename(this.#path, corruptPath);
      this.#log?.warn('the record index is damaged, it is set aside and starts empty', {
        path: this.#path,
        corruptPath,
        reason: error.message,
      });
    } catch (cause) {
      this.#log?.warn('the record index is damaged and cannot be set aside, it starts empty', {
        reason: error.message,
        error: storageFailure(cause, 'rename', this.#path).message,
      });
    }
  }

  async #sweepOrphans(): Promise<void> {
    const folder = dirname(this.#path);
    const prefix = temporaryPrefix(this.#path);
    try {
      for (const name of await readdir(folder)) {
        if (!name.startsWith(prefix) || !(await isLeftByDeadProcess(name.slice(prefix.length)))) continue;
        await deleteFile(join(folder, name), 'delete the orphan');
      }
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      this.#log?.warn('temporary index files of an earlier run are left', {
        error: storageFailure(error, 'sweep', folder).message,
      });
    }
  }
}

async function readText(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new DamagedIndexError('it is not a regular file');
    if (stats.size > maxFileSizeBytes) {
      throw new DamagedIndexError(`it has ${stats.size} bytes, more than ${maxFileSizeBytes}`);
    }
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

function parseRecords(text: string): readonly (readonly [string, unknown])[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DamagedIndexError('it is not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null || !('version' in value) || !('records' in value)) {
    throw new DamagedIndexError('it has no version and records');
  }
  if (value.version !== formatVersion) throw new DamagedIndexError('it has an unknown version');
  if (!Array.isArray(value.records) || !value.records.every(isRecord)) {
    throw new DamagedIndexError('its records are not pairs of key and value');
  }
  return value.records;
}

function isRecord(value: unknown): value is readonly [string, unknown] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string';
}

function parsed<Entry>(parse: (value: unknown) => Entry | undefined, value: unknown): Entry | undefined {
  try {
    return parse(value);
  } catch {
    return undefined;
  }
}

async function replaceFile(path: string, text: string): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o750 });
  const temporaryPath = join(folder, `${temporaryPrefix(path)}${await temporaryFileName()}`);
  try {
    const file = await open(temporaryPath, 'wx', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporaryPath, path);
  } catch (error) {
    await deleteFile(temporaryPath, 'delete').catch(() => undefined);
    throw error;
  }
  await syncFolder(folder);
}

function temporaryPrefix(path: string): string {
  return `.${basename(path)}.`;
}
