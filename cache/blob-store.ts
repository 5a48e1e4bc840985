import { lstat, lutimes, rename } from 'node:fs/promises';
import { resolve } from 'node:path';
import { BlobFolder, identityOf, isDigest, metadataOf } from './blob-folder.ts';
import { type BlobEntry, BlobIndex } from './blob-index.ts';
import { FileBlobIngest, type IngestHost, type Publication, type VerifiedFile } from './blob-ingest.ts';
import { BlobVerifier } from './blob-verifier.ts';
import type { CacheLog } from './cache-log.ts';
import { KeyedLock } from './keyed-lock.ts';
import { isOnLocalDisk } from './local-disk.ts';
import { errnoOf, storageFailure } from './storage-failure.ts';
import { SyncQueue } from './sync-queue.ts';
import { type Blob, type BlobIngest, type BlobStore, CacheError, type Sha256 } from './types.ts';

/** The two clocks of the store. */
export interface StoreClock {
  /** Epoch ms: last use, kept on disk. */
  epochMs(): number;
  /** Never jumps: the grace of blobs that were handed out. */
  monotonicMs(): number;
}

export interface FileBlobStoreOptions {
  /** Made when it is missing. Other content of it is left alone. */
  readonly folder: string;
  /**
   * Cap on all bytes kept and coming in; the least recently used blobs that nobody needs make room. Not set: the
   * volume is the cap. A function is asked at each use; where it lowers the cap, the next ingest or purge makes it true.
   * What is to survive the first ingest after a start must be referenced before it.
   */
  readonly maxTotalBytes?: number | (() => number | undefined);
  /** Called with each blob that was deleted to make room. Must not throw. */
  readonly onEvicted?: (digest: Sha256) => void;
  /** A blob that was handed out less than this ago is never deleted. Default 5 minutes. */
  readonly graceMs?: number;
  /**
   * Half-written files of processes that are gone are swept at this age. Default 0; more where other processes use the
   * folder that this one cannot see, as those of another container.
   */
  readonly orphanAgeMs?: number;
  /** Whether the folder answers at once, always; elsewhere no blob is at hand. Default `isOnLocalDisk`. */
  readonly isLocal?: (folder: string) => Promise<boolean>;
  readonly clock?: StoreClock;
  readonly log?: CacheLog | undefined;
}

/** A blob as `list` shows it. */
export interface StoredBlob {
  readonly digest: Sha256;
  readonly sizeBytes: number;
  /** Epoch ms. */
  readonly lastUsedMs: number;
  readonly isReferenced: boolean;
}

/**
 * Five minutes: from here a path goes through preflight, a push, and Envoy's load and ACK, whose deadline is
 * 30 seconds as istiod sends it, and only then is it referenced.
 */
const defaultGraceMs = 5 * 60_000;

/** The last use is written to the file's modification time at most this often; expiry counts in hours. */
const touchIntervalMs = 10 * 60_000;

/** Readable by Envoy, which has the same uid (or gid), and written by nobody. */
const blobMode = 0o440;

/**
 * A store in one folder: `blobs/sha256/<hex>` (0440) and `ingest/` (half-written files), folders 0750.
 *
 * - Nothing has a name before its bytes are verified. fsync follows the commit in the background; a machine crash can
 *   leave a torn file, which is why a file of an earlier run is hashed before its first use. Later uses look at the
 *   metadata only; any change of it means a new hash. Damaged files are deleted at once.
 * - Never deleted: what an owner references, and what `get` or `commit` handed out less than `graceMs` ago. Whoever
 *   was given a path references it within that time or asks again.
 * - The last use is kept in the modification time, so that expiry goes on where an earlier run stopped.
 * - Made for one process; a second one (a command line look at the cache) harms nothing.
 *
 * After `close` every call rejects with CacheError `aborted`.
 */
export class FileBlobStore implements BlobStore {
  readonly #folder: BlobFolder;
  readonly #maxTotalBytes: () => number | undefined;
  readonly #onEvicted: (digest: Sha256) => void;
  readonly #clock: StoreClock;
  readonly #log: CacheLog | undefined;
  readonly #index: BlobIndex;
  readonly #verifier: BlobVerifier;
  readonly #ingests = new Set<FileBlobIngest>();
  readonly #ingestHost: IngestHost;
  /** One operation at a time on one blob: a get never meets a half-done delete, and a file is hashed once. */
  readonly #locks = new KeyedLock();
  readonly #syncs: SyncQueue;
  readonly #closing = new AbortController();
  /** Files may be looked at synchronously. */
  #isLocal = false;
  #closed: Promise<void> | undefined;

  private constructor(options: FileBlobStoreOptions) {
    this.#folder = new BlobFolder(resolve(options.folder));
    const { maxTotalBytes } = options;
    this.#maxTotalBytes = typeof maxTotalBytes === 'function' ? maxTotalBytes : () => maxTotalBytes;
    this.#onEvicted = options.onEvicted ?? (() => undefined);
    this.#clock = options.clock ?? { epochMs: Date.now, monotonicMs: () => performance.now() };
    this.#log = options.log;
    this.#index = new BlobIndex(options.graceMs ?? defaultGraceMs);
    this.#verifier = new BlobVerifier({
      folder: this.#folder,
      index: this.#index,
      epochMs: () => this.#clock.epochMs(),
      log: this.#log,
      signal: this.#closing.signal,
    });
    this.#syncs = new SyncQueue(this.#folder.blobs);
    this.#ingestHost = {
      ingestFolder: async () => this.#ingestFolder(),
      reserve: async () => this.#reserve(),
      evictOldest: async () => this.#evictOldest(),
      publish: async (file) => this.#publish(file),
      onSettled: (ingest) => this.#ingests.delete(ingest),
      log: this.#log,
    };
  }

  /**
   * Sweeps what dead runs left half-written and indexes the blobs by name, without reading them. A folder that
   * cannot be written is no failure: its blobs can be read, and each ingest tries again and reports it. Throws
   * CacheError `io` when the path cannot be a cache folder.
   */
  static async open(options: FileBlobStoreOptions): Promise<FileBlobStore> {
    const store = new FileBlobStore(options);
    await store.#tolerate('the module cache cannot be written', async () => store.#folder.prepare());
    store.#isLocal = await (options.isLocal ?? isOnLocalDisk)(store.#folder.blobs);
    await store.#tolerate('temporary module files of an earlier run are left', async () => {
      const orphanCount = await store.#folder.sweepOrphans(options.orphanAgeMs ?? 0);
      if (orphanCount > 0)
        store.#log?.info('swept temporary module files of an earlier run', { orphanCount });
    });
    await store.#tolerate('the modules of an earlier run cannot be listed', async () => store.#load());
    return store;
  }

  async beginIngest(options: {
    readonly maxSizeBytes: number;
    readonly signal?: AbortSignal;
  }): Promise<BlobIngest> {
    this.#assertOpen();
    const ingest = new FileBlobIngest(this.#ingestHost, options);
    this.#ingests.add(ingest);
    await ingest.open();
    return ingest;
  }

  /** Never throws: what is wrong is found out by `get`. */
  atHand(digest: Sha256): Blob | undefined {
    if (!this.#isLocal) return undefined;
    if (this.#closing.signal.aborted || !isDigest(digest) || this.#locks.isHeld(digest)) return undefined;
    const entry = this.#verifier.unchanged(digest);
    return entry === undefined || this.#isTouchDue(entry) ? undefined : this.#handOut(entry);
  }

  /**
   * A file that cannot be read counts as absent. Throws CacheError `io` for failures that say nothing about the file
   * (too many open files).
   */
  async get(digest: Sha256): Promise<Blob | undefined> {
    this.#assertOpen();
    if (!isDigest(digest)) return undefined;
    return this.#locks.run(digest, async () => {
      const entry = await this.#verifier.verified(digest);
      return entry === undefined ? undefined : this.#use(entry);
    });
  }

  /** Being referenced is use: the time until expiry counts from the release. */
  setReferences(owner: string, digests: Iterable<Sha256>): void {
    this.#index.setReferences(owner, digests, this.#clock.epochMs());
  }

  /**
   * A blob whose file is gone counts as deleted, whoever references it. What cannot be deleted is kept. Then the quota
   * is made true, where it was lowered: what that deletes is told to `onEvicted` only.
   */
  async expire(unusedSinceMs: number): Promise<readonly Sha256[]> {
    this.#assertOpen();
    const gone: Sha256[] = [];
    for (const digest of this.#index.digests()) {
      if (this.#closing.signal.aborted) break;
      const isGone = await this.#locks.run(digest, async () => {
        const entry = this.#index.get(digest);
        if (entry === undefined) return false;
        const isExpired = entry.lastUsedMs < unusedSinceMs && this.#isDeletable(entry);
        return isExpired ? this.#verifier.delete(digest) : this.#verifier.forgetMissing(digest);
      });
      if (isGone) gone.push(digest);
    }
    while (!this.#closing.signal.aborted && this.#isOverQuota()) {
      if (!(await this.#evictOldest())) break;
    }
    return gone;
  }

  /** Size of all blobs and of what is coming in. */
  get totalBytes(): number {
    let total = this.#index.totalBytes;
    for (const ingest of this.#ingests) total += ingest.sizeBytes;
    return total;
  }

  /** What `maxTotalBytes` is now; undefined: the volume is the cap. */
  get limitBytes(): number | undefined {
    return this.#maxTotalBytes();
  }

  get blobCount(): number {
    return this.#index.usableCount;
  }

  /** The index, least recently used first. Files of an earlier run are in it before they are verified. */
  list(): readonly StoredBlob[] {
    return this.#index.oldestFirst().map(({ digest, identity, lastUsedMs }) => ({
      digest,
      sizeBytes: Number(identity.sizeBytes),
      lastUsedMs,
      isReferenced: this.#index.isReferenced(digest),
    }));
  }

  /** Gives up open ingests, and resolves when every operation has ended and every committed blob is on disk. */
  close(): Promise<void> {
    this.#closed ??= this.#shutDown();
    return this.#closed;
  }

  async #shutDown(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#ingests].map(async (ingest) => ingest.abort()));
    await this.#locks.idle();
    await this.#syncs.idle();
  }

  #assertOpen(): void {
    if (!this.#closing.signal.aborted) return;
    throw new CacheError('aborted', `the module cache ${this.#folder.root} is closed: the agent is stopping`);
  }

  async #load(): Promise<void> {
    const { found, strangerCount } = await this.#folder.list();
    const nowMs = this.#clock.epochMs();
    for (const { digest, identity, modifiedMs } of found) {
      // A time in the future (the clock was put back) would never expire.
      const lastUsedMs = Math.min(modifiedMs, nowMs);
      const times = { lastUsedMs, touchedMs: lastUsedMs, handedOutMs: undefined };
      this.#index.set({ digest, identity, trust: 'unverified', ...times });
    }
    if (strangerCount === 0) return;
    this.#log?.warn('the cache folder holds names that are not modules, they are left alone', {
      folder: this.#folder.blobs,
      strangerCount,
    });
  }

  /** At start, a cache that cannot be written or read in part is a warning; a wrong path is an error. */
  async #tolerate(message: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      const error = storageFailure(cause, 'open', this.#folder.root);
      if (error.code !== 'read_only' && error.code !== 'no_space') throw error;
      this.#log?.warn(message, { error: error.message });
    }
  }

  async #ingestFolder(): Promise<string> {
    const stats = await metadataOf(this.#folder.ingest);
    if (stats?.isDirectory() !== true) await this.#folder.prepare();
    return this.#folder.ingest;
  }

  #handOut(entry: BlobEntry): Blob {
    entry.handedOutMs = this.#clock.monotonicMs();
    entry.lastUsedMs = this.#clock.epochMs();
    const path = this.#folder.blobPath(entry.digest);
    return { digest: entry.digest, path, sizeBytes: Number(entry.identity.sizeBytes) };
  }

  #isTouchDue({ touchedMs }: BlobEntry): boolean {
    return Math.abs(this.#clock.epochMs() - touchedMs) >= touchIntervalMs;
  }

  /** Hands a blob out and keeps on disk that it was. Needs the blob's lock. */
  async #use(entry: BlobEntry): Promise<Blob> {
    const blob = this.#handOut(entry);
    if (this.#isTouchDue(entry)) await this.#touch(entry, blob.path);
    return blob;
  }

  /** Writes the last use to disk. Best effort: on a read-only volume it lives in memory alone. */
  async #touch(entry: BlobEntry, path: string): Promise<void> {
    entry.touchedMs = entry.lastUsedMs;
    try {
      await lutimes(path, entry.lastUsedMs / 1000, entry.lastUsedMs / 1000);
      const identity = identityOf(await lstat(path, { bigint: true }));
      const { inode, sizeBytes } = entry.identity;
      // Of another file the next get sees that it is not the one that was verified.
      if (identity.inode === inode && identity.sizeBytes === sizeBytes) entry.identity = identity;
    } catch (error) {
      this.#log?.debug('the last use of a module could not be written to disk', {
        error: storageFailure(error, 'touch', path).message,
      });
    }
  }

  async #publish(file: VerifiedFile): Promise<Publication> {
    const { digest, handle } = file;
    const path = this.#folder.blobPath(digest);
    return this.#locks.run(digest, async () => {
      file.assertWanted();
      if (this.#index.get(digest)?.trust === 'verified') {
        const known = await this.#verifier.verified(digest);
        if (known !== undefined) return { kind: 'duplicate', blob: await this.#use(known) };
      }
      let entry: BlobEntry;
      try {
        await handle.chmod(blobMode);
        file.assertWanted();
        // In place of whatever is there: these bytes are verified, and who has the old file open keeps it.
        await this.#rename(file.path, path);
        entry = await this.#admit(file);
      } catch (error) {
        throw storageFailure(error, 'name the verified module', path);
      }
      await this.#syncs.add(handle, (error) => this.#distrust(entry, error));
      return { kind: 'renamed', blob: await this.#use(entry) };
    });
  }

  async #rename(from: string, to: string): Promise<void> {
    try {
      await rename(from, to);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      // Somebody removed the blob folder while the module came in.
      await this.#folder.prepare();
      await rename(from, to);
    }
  }

  async #admit(file: VerifiedFile): Promise<BlobEntry> {
    // Of the handle, not of the path: what is known is known of the file that was written.
    const identity = identityOf(await file.handle.stat({ bigint: true }));
    const nowMs = this.#clock.epochMs();
    const times = { lastUsedMs: nowMs, touchedMs: nowMs, handedOutMs: undefined };
    const entry: BlobEntry = { digest: file.digest, identity, trust: 'verified', ...times };
    // In one step, so that the quota never counts the bytes twice.
    this.#index.set(entry);
    file.onNamed();
    return entry;
  }

  /** After a failed fsync the page cache may be the only place that has the bytes: hash again before the next use. */
  #distrust(entry: BlobEntry, error: unknown): void {
    if (entry.trust === 'verified') entry.trust = 'unverified';
    const path = this.#folder.blobPath(entry.digest);
    this.#log?.warn('a module could not be made durable, it is verified again before its next use', {
      error: storageFailure(error, 'sync', path).message,
    });
  }

  /** Makes the bytes that have come in fit under the quota. Throws `no_space` when what is needed leaves no room. */
  async #reserve(): Promise<void> {
    while (this.#isOverQuota()) {
      if (await this.#evictOldest()) continue;
      throw new CacheError(
        'no_space',
        `cannot keep another module in ${this.#folder.root}: ${this.totalBytes} bytes are needed, the quota is ` +
          `${this.limitBytes} and no unused module is left to delete; raise the quota`,
      );
    }
  }

  #isOverQuota(): boolean {
    const limitBytes = this.#maxTotalBytes();
    return limitBytes !== undefined && this.totalBytes > limitBytes;
  }

  async #evictOldest(): Promise<boolean> {
    for (const { digest } of this.#index.oldestFirst()) {
      const isEvicted = await this.#locks.run(digest, async () => {
        const entry = this.#index.get(digest);
        return entry !== undefined && this.#isDeletable(entry) && (await this.#verifier.delete(digest));
      });
      if (!isEvicted) continue;
      this.#log?.info('deleted an unused module to make room', { digest });
      this.#onEvicted(digest);
      return true;
    }
    return false;
  }

  #isDeletable(entry: BlobEntry): boolean {
    return this.#index.isDeletable(entry, this.#clock.monotonicMs());
  }
}
