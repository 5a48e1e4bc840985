import { createHash } from 'node:crypto';
import { type Blob, type BlobIngest, type BlobStore, CacheError, type Sha256 } from '../../cache/types.ts';
import { type ByteStream, PeekableStream } from './byte-stream.ts';
import { noteDroppedChunk } from './chunk-garbage.ts';
import { contentFormat, formatHeadBytes } from './content-format.ts';
import { FetchError } from './types.ts';
import { type TarRule, type Unpacked, unpackModule } from './unpack.ts';

/** What a source said its bytes would be: a layer's descriptor. */
export interface ExpectedBytes {
  readonly digest: Sha256;
  readonly sizeBytes: number;
}

/** A module whose bytes are in the store but have no name yet. Must be kept or dropped. */
export interface ReceivedModule {
  readonly kind: 'module';
  /** SHA-256 of the module. */
  readonly digest: Sha256;
  readonly sizeBytes: number;
  /** SHA-256 of the bytes as they were served. Equal to `digest` when nothing was unpacked. */
  readonly servedDigest: Sha256;
  readonly unpacked: Unpacked;
  /** Names the file. Throws FetchError `store`. */
  keep(): Promise<Blob>;
  drop(): Promise<void>;
}

/** All bytes came, but there is no module in them. */
export interface RejectedBytes {
  readonly kind: 'rejected';
  readonly error: FetchError;
  readonly servedDigest: Sha256;
}

/** Told of the bytes of one download while they are served. Must not throw. */
export interface ServedWatch {
  /** After each chunk. `totalBytes` is what all of it will be, where that was said before. */
  progressed(receivedBytes: number, totalBytes: number | undefined): void;
  /** Once, when no more come, whatever the reason. */
  ended(receivedBytes: number): void;
}

export interface ReceiveOptions {
  readonly store: BlobStore;
  readonly tarRule: TarRule;
  /** Cap on the bytes served and on the module. */
  readonly maxSizeBytes: number;
  readonly signal: AbortSignal;
  /** Verified before the outcome is given. */
  readonly expected?: ExpectedBytes;
  /** How many bytes the server says there are; only `watch` is told. */
  readonly announcedBytes?: number | undefined;
  readonly watch?: ServedWatch | undefined;
}

/** Receives a file that is found by its digest, whatever it is. */
export type BlobReceiver = (
  body: ByteStream,
  limits: { readonly signal: AbortSignal },
) => Promise<ReceivedModule | RejectedBytes>;

/**
 * Streams served bytes through digest, unpacking and digest into the store, without ever holding the module. The
 * stream is always read to its end, so that its digest is of all bytes. Throws FetchError `too_large`,
 * `digest_mismatch`, `store`, and what the body throws; then nothing is left in the store.
 */
export async function receiveModule(
  body: ByteStream,
  options: ReceiveOptions,
): Promise<ReceivedModule | RejectedBytes> {
  const served = new ServedBytes(body, options);
  const source = new PeekableStream(served.stream());
  let ingest: BlobIngest | undefined;
  try {
    // The file is made while the first bytes come.
    const head = source.head(formatHeadBytes);
    head.catch(() => undefined);
    const opened = await options.store.beginIngest({
      maxSizeBytes: options.maxSizeBytes,
      signal: options.signal,
    });
    ingest = opened;
    // The store hashes what is written: a module that is served as it is need not be hashed twice.
    const isPlain = contentFormat(await head).kind === 'wasm';
    if (isPlain) served.stopHashing();
    const write = async (chunk: Uint8Array): Promise<void> => opened.write(chunk);
    const { tarRule, maxSizeBytes } = options;
    const unpacked = await settle(unpackModule(source, { tarRule, maxSizeBytes, write }));
    if (unpacked.kind === 'failed') {
      if (!isAboutContent(unpacked.error)) throw unpacked.error;
      await source.drain();
    }
    const servedDigest = served.verifiedDigest(isPlain ? opened.digest : undefined);
    if (unpacked.kind === 'failed') {
      await opened.abort();
      return { kind: 'rejected', error: unpacked.error, servedDigest };
    }
    const { digest } = opened;
    return {
      kind: 'module',
      digest,
      sizeBytes: opened.sizeBytes,
      servedDigest,
      unpacked: unpacked.value,
      keep: async () => inStore(async () => opened.commit(digest), options.signal),
      drop: async () => opened.abort(),
    };
  } catch (error) {
    await source.close();
    await ingest?.abort();
    throw storeFailure(error, options.signal);
  }
}

/** The bytes on their way in: counted against the cap and the descriptor, and hashed. */
class ServedBytes {
  readonly #body: ByteStream;
  readonly #options: ReceiveOptions;
  readonly #hash = createHash('sha256');
  #isHashing = true;
  #sizeBytes = 0;

  constructor(body: ByteStream, options: ReceiveOptions) {
    this.#body = body;
    this.#options = options;
  }

  async *stream(): AsyncGenerator<Uint8Array> {
    const { expected, maxSizeBytes, announcedBytes, watch } = this.#options;
    try {
      for await (const chunk of this.#body) {
        this.#sizeBytes += chunk.byteLength;
        watch?.progressed(this.#sizeBytes, expected?.sizeBytes ?? announcedBytes);
        if (expected !== undefined && this.#sizeBytes > expected.sizeBytes) {
          throw new FetchError(
            'digest_mismatch',
            `the server sends more than the ${expected.sizeBytes} bytes that the manifest says for sha256:${expected.digest}; push the image again`,
          );
        }
        if (this.#sizeBytes > maxSizeBytes) throw servedTooLarge(maxSizeBytes);
        if (this.#isHashing) this.#hash.update(chunk);
        yield chunk;
        noteDroppedChunk(chunk.byteLength);
      }
    } finally {
      watch?.ended(this.#sizeBytes);
    }
  }

  /** Somebody else hashes the very same bytes. */
  stopHashing(): void {
    this.#isHashing = false;
  }

  /** To be called once, after the end, with the digest of all bytes where they were hashed elsewhere. */
  verifiedDigest(hashed: Sha256 | undefined): Sha256 {
    const { expected } = this.#options;
    const digest = hashed ?? this.#hash.digest('hex');
    if (expected !== undefined && digest !== expected.digest) {
      throw new FetchError(
        'digest_mismatch',
        `the server sent ${this.#sizeBytes} bytes with sha256:${digest} where the manifest says ${expected.sizeBytes} bytes with sha256:${expected.digest}; push the image again or check what stands between`,
      );
    }
    return digest;
  }
}

/** More bytes than the cap: `too_large`. */
export function servedTooLarge(maxSizeBytes: number): FetchError {
  return new FetchError(
    'too_large',
    `more than ${maxSizeBytes} bytes are served; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES`,
  );
}

type Settled<Value> =
  | { readonly kind: 'done'; readonly value: Value }
  | { readonly kind: 'failed'; readonly error: FetchError };

async function settle<Value>(work: Promise<Value>): Promise<Settled<Value>> {
  try {
    return { kind: 'done', value: await work };
  } catch (error) {
    if (error instanceof FetchError) return { kind: 'failed', error };
    throw error;
  }
}

/** True when the bytes are at fault: the rest of them is still read, for the digest. */
function isAboutContent(error: FetchError): boolean {
  return error.code === 'not_wasm' || error.code === 'bad_archive';
}

/** Runs work on the store. Throws FetchError for its CacheError. */
export async function inStore<Value>(work: () => Promise<Value>, signal?: AbortSignal): Promise<Value> {
  try {
    return await work();
  } catch (error) {
    throw storeFailure(error, signal);
  }
}

function storeFailure(error: unknown, signal: AbortSignal | undefined): unknown {
  if (!(error instanceof CacheError)) return error;
  const cause = { cause: error };
  switch (error.code) {
    case 'too_large':
      return new FetchError('too_large', error.message, cause);
    case 'digest_mismatch':
      return new FetchError('digest_mismatch', error.message, cause);
    case 'aborted':
      return signal?.aborted === true && isTimeout(signal.reason)
        ? new FetchError('timeout', error.message, cause)
        : new FetchError('aborted', error.message, cause);
    case 'no_space':
    case 'read_only':
    case 'io':
      return new FetchError('store', error.message, cause);
    default:
      return error.code satisfies never;
  }
}

function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === 'TimeoutError';
}
