import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { deleteFile } from './blob-folder.ts';
import { sliceSizeBytes } from './blob-hash.ts';
import type { CacheLog } from './cache-log.ts';
import { temporaryFileName } from './process-mark.ts';
import { isDiskFull, storageFailure } from './storage-failure.ts';
import { type Blob, type BlobIngest, CacheError, type Sha256 } from './types.ts';

/** Verified bytes that wait for their name. */
export interface VerifiedFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly digest: Sha256;
  readonly sizeBytes: number;
  /** Throws CacheError `aborted` when the caller has left. To be asked right before the file gets its name. */
  readonly assertWanted: () => void;
  /** To be called when the store counts the bytes as its own: path and handle are the store's from then on. */
  readonly onNamed: () => void;
}

/** What became of a verified file. `renamed`: path and handle are the store's now; `duplicate`: still the ingest's. */
export interface Publication {
  readonly blob: Blob;
  readonly kind: 'renamed' | 'duplicate';
}

/** What an ingest needs of its store. */
export interface IngestHost {
  /** The store's ingest folder, created when it was missing. Throws CacheError. */
  readonly ingestFolder: () => Promise<string>;
  /** Called with the bytes already counted into `sizeBytes`. Throws CacheError `no_space` when over the quota. */
  readonly reserve: () => Promise<void>;
  /** Deletes one module that nobody uses; false when there is none. */
  readonly evictOldest: () => Promise<boolean>;
  readonly publish: (file: VerifiedFile) => Promise<Publication>;
  /** Called once, when nothing of the ingest is left but perhaps its blob. */
  readonly onSettled: (ingest: FileBlobIngest) => void;
  readonly log: CacheLog | undefined;
}

type IngestState =
  /** Waits for the next call. */
  | { readonly kind: 'open' }
  /** An `open`, `write` or `commit` is under way; no other may start. */
  | { readonly kind: 'busy' }
  /** Has its name; the blob is the store's. */
  | { readonly kind: 'committed' }
  /** Broken or given up. The temporary file is gone, or is being deleted. */
  | { readonly kind: 'failed'; readonly error: CacheError };

/** A file of the ingest folder that is written, hashed on the way, and given its name by its store. */
export class FileBlobIngest implements BlobIngest {
  readonly #host: IngestHost;
  readonly #maxSizeBytes: number;
  readonly #signal: AbortSignal | undefined;
  readonly #hash = createHash('sha256');
  #path = '';
  #handle: FileHandle | undefined;
  #sizeBytes = 0;
  /** The newest slice on its way to the disk, while the next one comes in. */
  #writing: Promise<void> = Promise.resolve();
  #state: IngestState = { kind: 'busy' };
  /** Why the call under way shall end; asked at its next step. */
  #stopError: CacheError | undefined;
  /** The call under way with its clean-up; resolves when it is over, whatever its outcome. */
  #call: Promise<unknown> = Promise.resolve();
  /** The clean-up of an ingest that was given up between calls. */
  #discarding: Promise<void> | undefined;

  constructor(host: IngestHost, options: { readonly maxSizeBytes: number; readonly signal?: AbortSignal }) {
    this.#host = host;
    this.#maxSizeBytes = options.maxSizeBytes;
    this.#signal = options.signal;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get digest(): Sha256 {
    return this.#hash.copy().digest('hex');
  }

  /** To be called once, before anything else. Throws CacheError; then nothing is left. */
  async open(): Promise<void> {
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
    await this.#run('open', async () => {
      this.#assertWanted();
      await this.#create();
    });
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#enter('write');
    await this.#run('open', async () => {
      if (this.#sizeBytes + chunk.length > this.#maxSizeBytes) throw this.#tooLarge(chunk.length);
      for (let start = 0; start < chunk.length; start += sliceSizeBytes) {
        const slice = chunk.subarray(start, start + sliceSizeBytes);
        this.#sizeBytes += slice.length;
        await this.#host.reserve();
        this.#hash.update(slice);
        await this.#writing;
        this.#writing = this.#writeSlice(slice);
        // The next call tells of its failure.
        this.#writing.catch(() => undefined);
      }
    });
  }

  async commit(expectedDigest?: Sha256): Promise<Blob> {
    this.#enter('commit');
    return this.#run('committed', async () => {
      await this.#writing;
      const digest = this.#hash.digest('hex');
      if (expectedDigest !== undefined && expectedDigest !== digest) {
        throw this.#mismatch(expectedDigest, digest);
      }
      const { blob, kind } = await this.#host.publish({
        path: this.#path,
        handle: this.#openHandle(),
        digest,
        sizeBytes: this.#sizeBytes,
        assertWanted: () => this.#assertWanted(),
        onNamed: () => this.#settle(),
      });
      if (kind === 'duplicate') await this.#discard();
      return blob;
    });
  }

  async abort(): Promise<void> {
    this.#giveUp(new CacheError('aborted', `the ingest ${this.#path} was given up by its caller`));
    await this.#call;
    await this.#discarding;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }

  /** Runs the one call that is allowed at a time and moves to `next`. A failure discards the file. */
  #run<Result>(next: 'open' | 'committed', work: () => Promise<Result>): Promise<Result> {
    const call = this.#perform(next, work);
    this.#call = call.catch(() => undefined);
    return call;
  }

  async #perform<Result>(next: 'open' | 'committed', work: () => Promise<Result>): Promise<Result> {
    try {
      const result = await work();
      // An abort that came while a commit was naming the file is too late: the blob is there and is whole.
      if (this.#stopError !== undefined && next !== 'committed') throw this.#stopError;
      this.#state = { kind: next };
      return result;
    } catch (cause) {
      const error = this.#stopError ?? storageFailure(cause, 'write', this.#path);
      this.#state = { kind: 'failed', error };
      await this.#discard();
      throw error;
    }
  }

  #enter(call: 'write' | 'commit'): void {
    switch (this.#state.kind) {
      case 'open':
        this.#state = { kind: 'busy' };
        return;
      case 'failed':
        throw this.#state.error;
      case 'committed':
        throw new CacheError('io', `${call} after commit of ${this.#path}: begin a new ingest`);
      case 'busy': {
        // Bytes of this call are lost, so nothing may come of the ingest.
        const error = new CacheError(
          'io',
          `${call} while another call on ${this.#path} runs: await each call`,
        );
        this.#giveUp(error);
        throw error;
      }
      default:
        throw unreachable(this.#state);
    }
  }

  async #create(): Promise<void> {
    this.#path = join(await this.#host.ingestFolder(), await temporaryFileName());
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    await this.#withRoom(async () => {
      this.#handle = await open(this.#path, flags, 0o600);
    });
  }

  async #writeSlice(slice: Uint8Array): Promise<void> {
    const handle = this.#openHandle();
    for (let offset = 0; offset < slice.length; ) {
      this.#assertWanted();
      const rest = slice.length - offset;
      const { bytesWritten } = await this.#withRoom(async () => handle.write(slice, offset, rest, null));
      if (bytesWritten === 0) throw new CacheError('io', `cannot write ${this.#path}: nothing was taken`);
      offset += bytesWritten;
    }
  }

  /** A full disk is no failure while modules that nobody uses can make room. */
  async #withRoom<Result>(work: () => Promise<Result>): Promise<Result> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isDiskFull(error) || !(await this.#host.evictOldest())) {
          throw storageFailure(error, 'write', this.#path);
        }
      }
    }
  }

  readonly #onAbort = (): void => this.#giveUp(this.#abortedBySignal());

  #giveUp(error: CacheError): void {
    switch (this.#state.kind) {
      case 'open':
        this.#state = { kind: 'failed', error };
        this.#discarding = this.#discard();
        return;
      case 'busy':
        this.#stopError ??= error;
        return;
      case 'committed':
      case 'failed':
        return;
      default:
        throw unreachable(this.#state);
    }
  }

  /** Never rejects: a file that cannot be deleted now is swept at the next start. */
  async #discard(): Promise<void> {
    try {
      await this.#writing.catch(() => undefined);
      await this.#handle?.close();
      if (this.#path !== '') await deleteFile(this.#path, 'delete');
    } catch (error) {
      this.#host.log?.warn('a temporary module file is left behind until the next start', {
        path: this.#path,
        error: storageFailure(error, 'delete', this.#path).message,
      });
    }
    this.#settle();
  }

  #settle(): void {
    this.#handle = undefined;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#host.onSettled(this);
  }

  #assertWanted(): void {
    if (this.#stopError !== undefined) throw this.#stopError;
    if (this.#signal?.aborted === true) throw this.#abortedBySignal();
  }

  #openHandle(): FileHandle {
    if (this.#handle === undefined) throw new CacheError('io', `${this.#path} is not open: a defect`);
    return this.#handle;
  }

  #abortedBySignal(): CacheError {
    const message = `the caller aborted after ${this.#sizeBytes} bytes of a module; nothing of it is kept`;
    return new CacheError('aborted', message, { cause: this.#signal?.reason });
  }

  #tooLarge(chunkSizeBytes: number): CacheError {
    const seen = this.#sizeBytes + chunkSizeBytes;
    return new CacheError(
      'too_large',
      `the content has at least ${seen} bytes, the limit is ${this.#maxSizeBytes}: raise the limit or shrink it`,
    );
  }

  #mismatch(expected: Sha256, seen: Sha256): CacheError {
    return new CacheError(
      'digest_mismatch',
      `the ${this.#sizeBytes} bytes received have sha256 ${seen}, expected ${expected}: ` +
        'the source serves other content, or the expected digest is not that of these bytes',
    );
  }
}

function unreachable(state: never): Error {
  return new Error(`impossible ingest state ${JSON.stringify(state)}`);
}
