import {
  type BlobFolder,
  deleteFile,
  identityOf,
  isSameFile,
  metadataNow,
  metadataOf,
} from './blob-folder.ts';
import { hashFile } from './blob-hash.ts';
import type { BlobEntry, BlobIndex } from './blob-index.ts';
import type { CacheLog } from './cache-log.ts';
import { errnoOf, storageFailure } from './storage-failure.ts';
import { CacheError, type Sha256 } from './types.ts';

export interface BlobVerifierOptions {
  readonly folder: BlobFolder;
  readonly index: BlobIndex;
  readonly epochMs: () => number;
  readonly log: CacheLog | undefined;
  /** Ends a hash under way with CacheError `aborted`. */
  readonly signal: AbortSignal;
}

/**
 * Keeps the index true to the files: looks at a file before each use, hashes it when it is new or has changed,
 * deletes it when it is damaged. Every method but `unchanged` needs the blob's lock.
 */
export class BlobVerifier {
  readonly #options: BlobVerifierOptions;
  /** A hundred plugins of one push may have one module: for all that is done in one go, one look is good. */
  readonly #seenThisTurn = new Set<BlobEntry>();

  constructor(options: BlobVerifierOptions) {
    this.#options = options;
  }

  /** The entry of a file that is known to be good and is the same still. Undefined says nothing: ask `verified`. */
  unchanged(digest: Sha256): BlobEntry | undefined {
    const { folder, index } = this.#options;
    const entry = index.get(digest);
    if (entry?.trust !== 'verified') return undefined;
    if (this.#seenThisTurn.has(entry)) return entry;
    const stats = metadataNow(folder.blobPath(digest));
    if (stats === undefined || !isSameFile(entry.identity, identityOf(stats))) return undefined;
    if (this.#seenThisTurn.size === 0) process.nextTick(() => this.#seenThisTurn.clear());
    this.#seenThisTurn.add(entry);
    return entry;
  }

  /** The entry of a file that is there and has the bytes of its name. Throws CacheError as `BlobStore.get` does. */
  async verified(digest: Sha256): Promise<BlobEntry | undefined> {
    const { folder, index } = this.#options;
    const stats = await this.#readable(digest, async () => metadataOf(folder.blobPath(digest)));
    if (stats?.isFile() !== true) {
      index.delete(digest);
      return undefined;
    }
    const entry = index.get(digest);
    if (entry !== undefined && isSameFile(entry.identity, identityOf(stats))) {
      if (entry.trust === 'verified') return entry;
      if (entry.trust === 'damaged') return undefined;
    }
    return this.#hash(digest);
  }

  /** True when the file is gone now; one that cannot be deleted is warned about and kept. */
  async delete(digest: Sha256): Promise<boolean> {
    const path = this.#options.folder.blobPath(digest);
    try {
      await deleteFile(path, 'delete');
    } catch (error) {
      const { message } = storageFailure(error, 'delete', path);
      this.#options.log?.warn('a cached module cannot be deleted, it is kept', { error: message });
      return false;
    }
    this.#options.index.delete(digest);
    return true;
  }

  /** True, and forgotten, when there is no file any more. */
  async forgetMissing(digest: Sha256): Promise<boolean> {
    const { folder, index } = this.#options;
    const isMissing = await this.#readable(digest, async () => {
      return (await metadataOf(folder.blobPath(digest))) === undefined;
    });
    if (isMissing !== true) return false;
    index.delete(digest);
    return true;
  }

  async #hash(digest: Sha256): Promise<BlobEntry | undefined> {
    const { folder, index, epochMs, log, signal } = this.#options;
    const path = folder.blobPath(digest);
    const file = await this.#readable(digest, async () => hashFile(path, { signal }));
    if (file === undefined) return undefined;
    if (file.identity === undefined) {
      log?.warn('a cached module is being written to by somebody else, it is not used', { path });
      return undefined;
    }
    const known = index.get(digest);
    const lastUsedMs = known?.lastUsedMs ?? epochMs();
    const entry: BlobEntry = {
      digest,
      identity: file.identity,
      trust: file.digest === digest ? 'verified' : 'damaged',
      lastUsedMs,
      touchedMs: known?.touchedMs ?? lastUsedMs,
      handedOutMs: known?.handedOutMs,
    };
    index.set(entry);
    if (entry.trust === 'verified') return entry;
    log?.warn('a cached module is damaged, it is deleted and will be fetched again', {
      path,
      sizeBytes: file.sizeBytes,
      sha256: file.digest,
    });
    await this.delete(digest);
    return undefined;
  }

  /** Undefined for a file that is gone or cannot be read. Other failures say nothing about the file and are thrown. */
  async #readable<Result>(digest: Sha256, read: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await read();
    } catch (error) {
      switch (errnoOf(error instanceof CacheError ? error.cause : error)) {
        case 'ENOENT':
          return undefined;
        case 'EACCES':
        case 'EPERM':
        case 'EIO':
        case 'ELOOP':
        case 'ENOTDIR': {
          const { message } = storageFailure(error, 'read', this.#options.folder.blobPath(digest));
          this.#options.log?.warn('a cached module cannot be read, it counts as absent', { error: message });
          return undefined;
        }
        default:
          throw error;
      }
    }
  }
}
