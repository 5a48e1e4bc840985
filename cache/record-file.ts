import { type BigIntStats, constants } from 'node:fs';
import { mkdir, open, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { deleteFile } from './blob-folder.ts';
import { temporaryFileName } from './process-mark.ts';
import { errnoOf, storageFailure } from './storage-failure.ts';
import { syncFolder } from './sync-queue.ts';
import type { CacheError } from './types.ts';

/** The file of a record index, `{"version":1,"records":[[key, entry], ...]}`, as it was found. */
export type RecordFile =
  | { readonly kind: 'absent' }
  /** It is there and is no index. */
  | { readonly kind: 'damaged'; readonly reason: string }
  | { readonly kind: 'unreadable'; readonly error: CacheError }
  | {
      readonly kind: 'read';
      /** In the order of the file; the values are not judged yet. */
      readonly records: readonly (readonly [string, unknown])[];
      readonly version: FileVersion;
    };

/** What tells one version of the file from the next. Without the change time, which a rename moves. */
export interface FileVersion {
  readonly inode: bigint;
  readonly sizeBytes: bigint;
  readonly modifiedNs: bigint;
}

/** A larger file is no index of ours: it would have to be read whole. */
const maxFileSizeBytes = 64 * 1024 * 1024;

const formatVersion = 1;

/** The file could be read and is not an index. */
class DamagedFileError extends Error {}

/** Reads the file, and changes nothing. Links are not followed. Never throws. */
export async function readRecordFile(path: string): Promise<RecordFile> {
  try {
    const { text, stats } = await readText(path);
    return { kind: 'read', records: parseRecords(text), version: versionOf(stats) };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { kind: 'absent' };
    if (error instanceof DamagedFileError) return { kind: 'damaged', reason: error.message };
    return { kind: 'unreadable', error: storageFailure(error, 'read the index', path) };
  }
}

/**
 * Puts the records in the place of the file, which is never half-written (temporary file, fsync, rename). Throws the
 * system's error; then the old file stays.
 */
export async function writeRecordFile(
  path: string,
  records: readonly (readonly [string, unknown])[],
): Promise<FileVersion> {
  const folder = dirname(path);
  const text = JSON.stringify({ version: formatVersion, records });
  await mkdir(folder, { recursive: true, mode: 0o750 });
  const temporaryPath = join(folder, `${temporaryPrefix(path)}${await temporaryFileName()}`);
  let version: FileVersion;
  try {
    const file = await open(temporaryPath, 'wx', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
      // Of the handle: under the path there may be another's by then.
      version = versionOf(await file.stat({ bigint: true }));
    } finally {
      await file.close();
    }
    await rename(temporaryPath, path);
  } catch (error) {
    await deleteFile(temporaryPath, 'delete').catch(() => undefined);
    throw error;
  }
  await syncFolder(folder);
  return version;
}

export function versionOf(stats: BigIntStats): FileVersion {
  return { inode: stats.ino, sizeBytes: stats.size, modifiedNs: stats.mtimeNs };
}

export function isSameVersion(a: FileVersion | undefined, b: FileVersion | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.inode === b.inode && a.sizeBytes === b.sizeBytes && a.modifiedNs === b.modifiedNs;
}

/** What the names of the file's temporary files begin with. */
export function temporaryPrefix(path: string): string {
  return `.${basename(path)}.`;
}

async function readText(path: string): Promise<{ readonly text: string; readonly stats: BigIntStats }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stats = await file.stat({ bigint: true });
    if (!stats.isFile()) throw new DamagedFileError('it is not a regular file');
    if (stats.size > maxFileSizeBytes) {
      throw new DamagedFileError(`it has ${stats.size} bytes, more than ${maxFileSizeBytes}`);
    }
    return { text: await file.readFile('utf8'), stats };
  } finally {
    await file.close();
  }
}

function parseRecords(text: string): readonly (readonly [string, unknown])[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DamagedFileError('it is not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null || !('version' in value) || !('records' in value)) {
    throw new DamagedFileError('it has no version and records');
  }
  if (value.version !== formatVersion) throw new DamagedFileError('it has an unknown version');
  if (!Array.isArray(value.records) || !value.records.every(isRecord)) {
    throw new DamagedFileError('its records are not pairs of key and value');
  }
  return value.records;
}

function isRecord(value: unknown): value is readonly [string, unknown] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string';
}
