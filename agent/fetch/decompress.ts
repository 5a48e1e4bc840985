import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { describeError } from '../log.ts';
import type { ByteStream } from './byte-stream.ts';
import { noteDroppedChunk } from './chunk-garbage.ts';
import { FetchError } from './types.ts';
import { zstdDataFrames } from './zstd-frames.ts';

const outputChunkBytes = 64 * 1024;

/**
 * The window that zstd data may ask for is memory that is held while it is unpacked: 32 MiB. Image tools use 8 MiB
 * and less; only `zstd --ultra` and `--long` ask for more.
 */
const maxWindowLog = 25;

export interface DecompressOptions {
  /** Cap on what comes out. */
  readonly maxSizeBytes: number;
}

type Decompressor = NodeJS.ReadWriteStream & { destroy(error?: Error): unknown };

/** Decompresses gzip, concatenated members included. Throws FetchError `bad_archive`, `too_large`. */
export function gunzip(source: ByteStream, options: DecompressOptions): AsyncGenerator<Uint8Array> {
  return decompress('gzip', source, createGunzip({ chunkSize: outputChunkBytes }), options);
}

/** Decompresses zstd, all frames. Throws FetchError `bad_archive`, `too_large`. */
export function unzstd(source: ByteStream, options: DecompressOptions): AsyncGenerator<Uint8Array> {
  const params = { [constants.ZSTD_d_windowLogMax]: maxWindowLog };
  const stream = createZstdDecompress({ chunkSize: outputChunkBytes, params });
  return decompress('zstd', zstdDataFrames(source), stream, options);
}

async function* decompress(
  format: 'gzip' | 'zstd',
  source: ByteStream,
  stream: Decompressor,
  options: DecompressOptions,
): AsyncGenerator<Uint8Array> {
  const feed = new Feed(source, stream);
  let sizeBytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > options.maxSizeBytes) {
        throw new FetchError(
          'too_large',
          `its ${format} content is larger than ${options.maxSizeBytes} bytes; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES`,
        );
      }
      yield chunk;
      noteDroppedChunk(chunk.byteLength);
    }
  } catch (error) {
    throw feed.explain(error, `${format} data cannot be unpacked`);
  } finally {
    stream.destroy();
    await feed.settled;
  }
}

/** Pushes a stream into a writable one with back-pressure, until either ends. A failure of the source destroys it. */
class Feed {
  /** Resolves, never rejects, when nothing is written any more. */
  readonly settled: Promise<void>;
  /** What the source threw. */
  failure: unknown;

  constructor(source: ByteStream, target: Decompressor) {
    let isClosed = false;
    let goOn: (() => void) | undefined;
    target.on('error', () => undefined);
    target.on('drain', () => goOn?.());
    target.on('close', () => {
      isClosed = true;
      goOn?.();
    });
    const write = async (): Promise<void> => {
      for await (const chunk of source) {
        if (isClosed) return;
        if (target.write(chunk)) continue;
        await new Promise<void>((resolve) => {
          goOn = resolve;
          if (isClosed) resolve();
        });
        if (isClosed) return;
      }
      target.end();
    };
    this.settled = write().catch((error: unknown) => {
      this.failure = error;
      target.destroy(error instanceof Error ? error : new Error(String(error)));
    });
  }

  /** The error to throw for one that the target raised: the source's own, or a fault of the archive. */
  explain(error: unknown, what: string): unknown {
    if (this.failure !== undefined) return this.failure;
    if (error instanceof FetchError) return error;
    return new FetchError('bad_archive', `${what}: ${describeError(error)}`, { cause: error });
  }
}
