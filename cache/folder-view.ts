import { resolve } from 'node:path';
import {
  BlobFolder,
  deleteFile,
  type FileIdentity,
  identityOf,
  isSameFile,
  metadataOf,
} from './blob-folder.ts';
import { hashFile } from './blob-hash.ts';
import { CacheError, type Sha256 } from './types.ts';

/** A blob as its name and metadata show it. */
export interface ViewedBlob {
  readonly digest: Sha256;
  /** Absolute. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Epoch ms, on disk at most ten minutes late. */
  readonly lastUsedMs: number;
  readonly identity: FileIdentity;
}

/** What is in a cache folder. */
export interface FolderContent {
  /** The least recently used first. */
  readonly blobs: readonly ViewedBlob[];
  /** Names among the blobs that are no modules: links, folders, other names. Nobody touches them. */
  readonly strangerCount: number;
  /** Half-written files of processes that are gone. */
  readonly orphans: readonly string[];
}

/** What the bytes of a blob are. */
export type BlobState =
  | { readonly kind: 'whole' }
  /** Other bytes than its name says. */
  | { readonly kind: 'damaged'; readonly sha256: Sha256 }
  | { readonly kind: 'unreadable'; readonly reason: string }
  /** It went away or was written to while it was read. */
  | { readonly kind: 'changing' };

/**
 * The folder of a blob store for somebody who looks at it while another process works with it. Reads only, but for
 * the methods that say otherwise; those harm no store that is open on the folder.
 */
export class FolderView {
  readonly #folder: BlobFolder;

  constructor(root: string) {
    this.#folder = new BlobFolder(resolve(root));
  }

  /** Absolute. */
  get root(): string {
    return this.#folder.root;
  }

  /** False when nobody has kept a blob there yet. Throws CacheError. */
  async exists(): Promise<boolean> {
    return (await metadataOf(this.#folder.blobs))?.isDirectory() === true;
  }

  /** Orphans are those that nobody has written to for `orphanAgeMs`. Throws CacheError. */
  async read(options: { readonly orphanAgeMs: number }): Promise<FolderContent> {
    const { found, strangerCount } = await this.#folder.list();
    const blobs = found.map(({ digest, identity, modifiedMs }) => ({
      digest,
      path: this.#folder.blobPath(digest),
      sizeBytes: Number(identity.sizeBytes),
      lastUsedMs: modifiedMs,
      identity,
    }));
    return {
      blobs: blobs.sort((a, b) => a.lastUsedMs - b.lastUsedMs),
      strangerCount,
      orphans: await this.#folder.orphans(options.orphanAgeMs),
    };
  }

  /** Hashes the blob whole, in a small buffer. Throws CacheError `aborted`. */
  async check(blob: ViewedBlob, options: { readonly signal: AbortSignal }): Promise<BlobState> {
    try {
      const { digest, identity } = await hashFile(blob.path, options);
      if (identity === undefined) return { kind: 'changing' };
      return digest === blob.digest ? { kind: 'whole' } : { kind: 'damaged', sha256: digest };
    } catch (error) {
      if (!(error instanceof CacheError) || error.code === 'aborted') throw error;
      if ((await metadataOf(blob.path)) === undefined) return { kind: 'changing' };
      return { kind: 'unreadable', reason: error.message };
    }
  }

  /**
   * Deletes the blob if its file is still the one that was seen: a use notes its time on the file, a refetch replaces
   * it. False when it is another by now, or gone. Throws CacheError.
   */
  async delete(blob: ViewedBlob): Promise<boolean> {
    const stats = await metadataOf(blob.path);
    if (stats === undefined || !isSameFile(identityOf(stats), blob.identity)) return false;
    await deleteFile(blob.path, 'delete');
    return true;
  }

  /** Deletes the orphans and returns how many there were. Throws CacheError. */
  async sweep(options: { readonly orphanAgeMs: number }): Promise<number> {
    return this.#folder.sweepOrphans(options.orphanAgeMs);
  }
}
