import { createGunzip } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import { describeError } from '../log.ts';
import { type ByteStream, PeekableStream } from './byte-stream.ts';
import { noteDroppedChunk } from './chunk-garbage.ts';
import { contentFormat, formatHeadBytes } from './content-format.ts';
import { FetchError } from './types.ts';

/** Which file of a tar archive is the module. */
export type TarRule =
  /** The first regular file, whatever its name: HTTP. */
  | 'first-file'
  /** The first regular file with the base name `plugin.wasm`, in any folder: image layers. */
  | 'plugin-wasm';

export interface UnpackOptions {
  readonly tarRule: TarRule;
  /** Cap on what each step puts out. With the depth limit it bounds the work on a hostile file. */
  readonly maxSizeBytes: number;
  /** Takes the module's bytes in order; awaited, so it is the back-pressure. */
  readonly write: (chunk: Uint8Array) => Promise<void>;
}

/** Containers that were opened, outermost first; empty for plain Wasm. */
export type UnpackSteps = readonly ('gzip' | 'tar')[];

/** A module in a tar file in gzip is as deep as anybody packs; more is a file made to cost time. */
const maxDepth = 2;
/** Base name of the module in an image layer (solo-io/wasm `spec/spec-compat.md`). */
const pluginFileName = 'plugin.wasm';
const gunzipChunkBytes = 64 * 1024;

/**
 * Finds the Wasm module in a stream that is Wasm, gzip, tar, or one in the other, and writes it out as it comes.
 * Only magic bytes count, not names or media types. Gzip data is read to its end, so its checksum is verified.
 * On success the source is at its end; after a failure, who needs its digest drains it.
 * Throws FetchError `not_wasm`, `bad_archive`, `too_large`, and what source and `write` throw.
 */
export async function unpackModule(source: PeekableStream, options: UnpackOptions): Promise<UnpackSteps> {
  return unpackLevel(source, options, []);
}

async function unpackLevel(
  source: PeekableStream,
  options: UnpackOptions,
  steps: UnpackSteps,
): Promise<UnpackSteps> {
  const format = contentFormat(await source.head(formatHeadBytes));
  const where = steps.length === 0 ? 'it' : `the content of its ${steps.join(' in ')}`;
  switch (format.kind) {
    case 'wasm':
      for await (const chunk of source.rest) await options.write(chunk);
      return steps;
    case 'gzip':
    case 'tar': {
      if (steps.length >= maxDepth) {
        const found = [...steps, format.kind].join(' > ');
        throw new FetchError(
          'bad_archive',
          `archives nested deeper than ${maxDepth} are not unpacked (found ${found})`,
        );
      }
      const content = format.kind === 'gzip' ? gunzip(source.rest, options) : tarFile(source.rest, options);
      const level = new PeekableStream(content);
      try {
        const unpacked = await unpackLevel(level, options, [...steps, format.kind]);
        // What follows still counts: for the size cap and for the checksum of a gzip around it.
        await source.drain();
        return unpacked;
      } finally {
        await level.close();
      }
    }
    case 'not-module':
      throw new FetchError('not_wasm', `${where} is ${format.description}`);
    case 'unknown':
      throw new FetchError('not_wasm', `${where} is ${format.description}`);
    default:
      return format satisfies never;
  }
}

/** Decompresses gzip, concatenated members included. */
async function* gunzip(source: ByteStream, options: UnpackOptions): AsyncGenerator<Uint8Array> {
  const stream = createGunzip({ chunkSize: gunzipChunkBytes });
  const feed = new Feed(source, stream);
  let sizeBytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > options.maxSizeBytes) {
        throw tooLarge(`its gzip content is larger than ${options.maxSizeBytes} bytes`);
      }
      yield chunk;
      noteDroppedChunk(chunk.byteLength);
    }
  } catch (error) {
    throw feed.explain(error, 'gzip data cannot be unpacked');
  } finally {
    stream.destroy();
    await feed.settled;
  }
}

/** The content of the one file of a tar archive that is the module. */
async function* tarFile(source: ByteStream, options: UnpackOptions): AsyncGenerator<Uint8Array> {
  const archive = extract();
  const feed = new Feed(source, archive);
  const seen: string[] = [];
  try {
    for await (const entry of archive) {
      const { header } = entry;
      if (!isModuleFile(header, options.tarRule)) {
        if (seen.length < maxNamedEntries) seen.push(header.name);
        entry.resume();
        continue;
      }
      const declaredBytes = header.size ?? 0;
      if (declaredBytes > options.maxSizeBytes) {
        throw tooLarge(`its tar entry declares ${declaredBytes} bytes, more than ${options.maxSizeBytes}`);
      }
      yield* entry as AsyncIterable<Uint8Array>;
      return;
    }
    throw new FetchError('bad_archive', `${missingFile(options.tarRule)} (seen: ${describeNames(seen)})`);
  } catch (error) {
    throw feed.explain(error, 'tar data cannot be unpacked');
  } finally {
    archive.destroy();
    await feed.settled;
  }
}

function isModuleFile(header: Header, rule: TarRule): boolean {
  if (header.type !== 'file' && header.type !== 'contiguous-file') return false;
  return rule === 'first-file' || header.name.split('/').at(-1) === pluginFileName;
}

function missingFile(rule: TarRule): string {
  return rule === 'first-file'
    ? 'the tar archive holds no regular file; put the module into it'
    : `${pluginFileName} not found in the archive; the image must hold a regular file of that name`;
}

/** Names in an error are for a human: a few, short, and safe to print. */
const maxNamedEntries = 5;
const maxNameLength = 80;

function describeNames(names: readonly string[]): string {
  if (names.length === 0) return 'nothing';
  return names.map((name) => JSON.stringify(name.slice(0, maxNameLength))).join(', ');
}

/** Pushes a stream into a writable one with back-pressure, until either ends. A failure of the source destroys it. */
class Feed {
  /** Resolves, never rejects, when nothing is written any more. */
  readonly settled: Promise<void>;
  /** What the source threw. */
  failure: unknown;

  constructor(source: ByteStream, target: NodeJS.WritableStream & { destroy(error?: Error): unknown }) {
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

function tooLarge(reason: string): FetchError {
  return new FetchError(
    'too_large',
    `${reason}; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES`,
  );
}
