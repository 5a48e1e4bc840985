/** Lower-case hex SHA-256 without a prefix, 64 characters. */
export type Sha256 = string;

/** A verified file of the store. It is read-only and never changes under its name. */
export interface Blob {
  readonly digest: Sha256;
  /** Absolute. */
  readonly path: string;
  readonly sizeBytes: number;
}

export type CacheErrorCode =
  /** More bytes than the caller's cap. */
  | 'too_large'
  /** The bytes do not have the digest the caller expected. */
  | 'digest_mismatch'
  /** The disk is full or over quota (ENOSPC, EDQUOT). */
  | 'no_space'
  /** The folder cannot be written (EROFS, EACCES, EPERM). */
  | 'read_only'
  | 'aborted'
  | 'io';

/** A failure of the store. The message says what was tried, on what path, what was seen and what to do. */
export class CacheError extends Error {
  override readonly name = 'CacheError';
  readonly code: CacheErrorCode;

  constructor(code: CacheErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Bytes on their way into the store. Nothing has a name before `commit`; `abort` (or dispose) leaves nothing behind.
 * `write` must be awaited: it is the back-pressure. A written chunk is the store's and must not change any more: the newest
 * is written while the next one comes in, so that a full disk may show with the next call.
 */
export interface BlobIngest extends AsyncDisposable {
  /** Throws CacheError `too_large`, `no_space`, `read_only`, `io`. */
  write(chunk: Uint8Array): Promise<void>;
  readonly sizeBytes: number;
  /** Of what was written so far; to be asked before `commit`. Costs little: the store hashes as it writes. */
  readonly digest: Sha256;
  /** Verifies, then names the file. Throws `digest_mismatch` when the bytes are not `expectedDigest`. */
  commit(expectedDigest?: Sha256): Promise<Blob>;
  /** Safe after commit and twice. */
  abort(): Promise<void>;
}

/** A content-addressed store of files. Knows nothing of where bytes come from or who uses them. */
export interface BlobStore {
  beginIngest(options: { readonly maxSizeBytes: number; readonly signal?: AbortSignal }): Promise<BlobIngest>;
  /**
   * The blob where it can be had in this very turn: it is verified, is the same still, and nothing is under way with it.
   * Undefined says nothing about it: ask `get`.
   */
  atHand(digest: Sha256): Blob | undefined;
  /** The blob, verified against its name before its first use in this process; undefined when absent or damaged. */
  get(digest: Sha256): Promise<Blob | undefined>;
  /** Marks the digests that `owner` needs on disk, in place of those it named before. An empty list releases all. */
  setReferences(owner: string, digests: Iterable<Sha256>): void;
  /** Deletes what is unreferenced and was last used before `unusedSinceMs` (epoch ms). Returns the deleted digests. */
  expire(unusedSinceMs: number): Promise<readonly Sha256[]>;
  readonly blobCount: number;
  close(): Promise<void>;
}

/**
 * Small persistent records by key, for example which digest a tag had. The content is the caller's (JSON values);
 * a damaged index is set aside and started anew, never fatal.
 */
export interface RecordIndex<Entry> {
  get(key: string): Entry | undefined;
  set(key: string, entry: Entry): void;
  delete(key: string): void;
  entries(): Iterable<readonly [string, Entry]>;
  /** Resolves when what was set so far is on disk. */
  flush(): Promise<void>;
}

/** A record index that several processes write. */
export interface SharedRecordIndex<Entry> extends RecordIndex<Entry> {
  /** Takes over what another process has written; true when there was something. Never rejects. */
  refresh(): Promise<boolean>;
}
