import { type BigIntStats, lstatSync } from 'node:fs';
import { lstat, mkdir, opendir, stat, unlink } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { isLeftByDeadProcess } from './process-mark.ts';
import { errnoOf, storageFailure } from './storage-failure.ts';
import { CacheError, type Sha256 } from './types.ts';

/** Envoy runs as the same user; the group is for an Envoy that shares only the gid. Nobody else may read modules. */
const folderMode = 0o750;

const digestPattern = /^[0-9a-f]{64}$/;

/** Whether the text can name a blob. Nothing else is ever made part of a path. */
export function isDigest(text: string): boolean {
  return digestPattern.test(text);
}

/**
 * What tells without reading whether a file is still the one that was hashed. The change time is part of it: it
 * moves on every write even when the modification time is put back.
 */
export interface FileIdentity {
  readonly inode: bigint;
  readonly sizeBytes: bigint;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
}

export function identityOf(stats: BigIntStats): FileIdentity {
  return {
    inode: stats.ino,
    sizeBytes: stats.size,
    modifiedNs: stats.mtimeNs,
    changedNs: stats.ctimeNs,
  };
}

export function isSameFile(a: FileIdentity, b: FileIdentity): boolean {
  return (
    a.inode === b.inode &&
    a.sizeBytes === b.sizeBytes &&
    a.modifiedNs === b.modifiedNs &&
    a.changedNs === b.changedNs
  );
}

/** A file of the blob folder as its name and metadata show it; its content was not looked at. */
export interface FoundBlob {
  readonly digest: Sha256;
  readonly identity: FileIdentity;
  /** Epoch ms. */
  readonly modifiedMs: number;
}

/** The store's folders: where things are, how they come to be, what is found in them. */
export class BlobFolder {
  readonly root: string;
  readonly blobs: string;
  /** On the same file system as `blobs`: a rename between them is atomic. */
  readonly ingest: string;

  /** `root` is absolute. */
  constructor(root: string) {
    this.root = root;
    this.blobs = join(root, 'blobs', 'sha256');
    this.ingest = join(root, 'ingest');
  }

  /** The caller has checked the digest with `isDigest`. */
  blobPath(digest: Sha256): string {
    return this.blobs + sep + digest;
  }

  /**
   * Creates what is missing. The root may be a link (a mount is the operator's choice), the folders in it may not.
   * Throws CacheError `read_only`, `no_space`, `io`.
   */
  async prepare(): Promise<void> {
    await createRoot(this.root);
    for (const path of [dirname(this.blobs), this.blobs, this.ingest]) await createFolder(path);
  }

  /**
   * Deletes what processes that are gone have left half-written, where it was not written to for `minAgeMs`; files of
   * a running process and files with names that are not ours stay. Returns how many were deleted. Throws CacheError.
   */
  async sweepOrphans(minAgeMs: number): Promise<number> {
    const orphans = await this.orphans(minAgeMs);
    for (const name of orphans) await deleteFile(join(this.ingest, name), 'delete the orphan');
    return orphans.length;
  }

  /** The names that `sweepOrphans` would delete. Throws CacheError. */
  async orphans(minAgeMs: number): Promise<readonly string[]> {
    const names: string[] = [];
    for await (const name of namesIn(this.ingest)) {
      if (await isOrphan(join(this.ingest, name), name, minAgeMs)) names.push(name);
    }
    return names;
  }

  /**
   * The blobs by name and metadata, without reading them. Links, folders and other names are not followed and only
   * counted. Throws CacheError.
   */
  async list(): Promise<{ readonly found: readonly FoundBlob[]; readonly strangerCount: number }> {
    const found: FoundBlob[] = [];
    let strangerCount = 0;
    for await (const name of namesIn(this.blobs)) {
      const stats = isDigest(name) ? await metadataOf(join(this.blobs, name)) : undefined;
      if (stats?.isFile() !== true) {
        strangerCount += 1;
        continue;
      }
      found.push({ digest: name, identity: identityOf(stats), modifiedMs: Number(stats.mtimeMs) });
    }
    return { found, strangerCount };
  }
}

/** Metadata of the path itself, links not followed; undefined when nothing is there. Throws CacheError. */
export async function metadataOf(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw storageFailure(error, 'look at', path);
  }
}

/**
 * The same without a wait, undefined also where it cannot be looked at. For files in use on a local disk
 * (`isOnLocalDisk`), whose metadata the system has at hand: the call takes microseconds, the way through the thread pool
 * a hundred.
 */
export function metadataNow(path: string): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** Deletes a file or link; one that is gone already is success. Throws CacheError. */
export async function deleteFile(path: string, doing: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw storageFailure(error, doing, path);
  }
}

/** Whether a process that is gone has left this temporary file, and nobody has written to it for `minAgeMs`. */
export async function isOrphan(path: string, name: string, minAgeMs: number): Promise<boolean> {
  if (!(await isLeftByDeadProcess(name))) return false;
  const stats = await metadataOf(path);
  return stats?.isFile() === true && Date.now() - Number(stats.mtimeMs) >= minAgeMs;
}

async function* namesIn(path: string): AsyncGenerator<string> {
  try {
    // A folder is read in portions: its size is not ours to bound.
    for await (const entry of await opendir(path)) yield entry.name;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw storageFailure(error, 'list the folder', path);
  }
}

async function createRoot(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: folderMode });
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    throw storageFailure(error, 'create the folder', path);
  }
  throw new CacheError('io', `cannot use ${path} as the cache folder: it is not a folder; remove it`);
}

async function createFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: folderMode });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw storageFailure(error, 'create the folder', path);
    if ((await metadataOf(path))?.isDirectory() === true) return;
    throw new CacheError(
      'io',
      `cannot keep modules in ${path}: it is a link or a file, and links inside the cache are not followed; remove it`,
      { cause: error },
    );
  }
}
