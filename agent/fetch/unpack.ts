import { type ByteStream, PeekableStream } from './byte-stream.ts';
import { contentFormat, formatHeadBytes } from './content-format.ts';
import { gunzip, unzstd } from './decompress.ts';
import { quoted, readTar, type TarEntry } from './tar-reader.ts';
import { FetchError } from './types.ts';

/** Which file of a tar archive is the module. */
export type TarRule =
  /** The only file whose bytes say that it is a module or an archive of one, whatever its name: HTTP. */
  | 'module-bytes'
  /** The only regular file with the base name `plugin.wasm`, in any folder: image layers. */
  | 'plugin-wasm';

export interface UnpackOptions {
  readonly tarRule: TarRule;
  /** Cap on what each step puts out. With the depth limit it bounds the work on a hostile file. */
  readonly maxSizeBytes: number;
  /** Takes the module's bytes in order; awaited, so it is the back-pressure. */
  readonly write: (chunk: Uint8Array) => Promise<void>;
}

/** Containers that were opened, outermost first; empty for plain Wasm. */
export type UnpackSteps = readonly ('gzip' | 'zstd' | 'tar')[];

/** How a module was found in what was served. */
export interface Unpacked {
  readonly steps: UnpackSteps;
  /** Name of the file in the tar archive, as written there; undefined when there was none. */
  readonly fileName: string | undefined;
}

/** A module in a tar file in gzip is as deep as anybody packs; more is a file made to cost time. */
const maxDepth = 2;
/** Base name of the module in an image layer (solo-io/wasm `spec/spec-compat.md`). */
const pluginFileName = 'plugin.wasm';

/**
 * Finds the Wasm module in a stream that is Wasm, gzip, zstd, tar, or one in the other, and writes it out as it comes.
 * Only magic bytes count, not names or media types. Everything is read to its end: checksums are verified, and a
 * second candidate in an archive is seen. On success the source is at its end; after a failure, who needs its digest
 * drains it. Throws FetchError `not_wasm`, `bad_archive`, `too_large`, and what source and `write` throw.
 */
export async function unpackModule(source: PeekableStream, options: UnpackOptions): Promise<Unpacked> {
  return unpackLevel(source, options, []);
}

async function unpackLevel(
  source: PeekableStream,
  options: UnpackOptions,
  steps: UnpackSteps,
): Promise<Unpacked> {
  const format = contentFormat(await source.head(formatHeadBytes));
  const where = steps.length === 0 ? 'it' : `the content of its ${steps.join(' in ')}`;
  switch (format.kind) {
    case 'wasm':
      for await (const chunk of source.rest) await options.write(chunk);
      return { steps, fileName: undefined };
    case 'gzip':
    case 'zstd':
    case 'tar': {
      if (steps.length >= maxDepth) {
        const found = [...steps, format.kind].join(' > ');
        throw new FetchError(
          'bad_archive',
          `archives nested deeper than ${maxDepth} are not unpacked (found ${found})`,
        );
      }
      const opened = [...steps, format.kind];
      if (format.kind === 'tar') return unpackTar(source.rest, options, opened);
      const open = format.kind === 'gzip' ? gunzip : unzstd;
      const level = new PeekableStream(open(source.rest, options));
      try {
        const unpacked = await unpackLevel(level, options, opened);
        // What follows still counts: for the size cap and for the checksum around it.
        await level.drain();
        await source.drain();
        return unpacked;
      } finally {
        await level.close();
      }
    }
    case 'not-module':
    case 'unknown':
      throw new FetchError('not_wasm', `${where} is ${format.description}`);
    default:
      return format satisfies never;
  }
}

/** Writes out the one file of a tar archive that is the module. */
async function unpackTar(source: ByteStream, options: UnpackOptions, steps: UnpackSteps): Promise<Unpacked> {
  const seen: string[] = [];
  let found: Unpacked | undefined;
  for await (const entry of readTar(source)) {
    const content = new PeekableStream(entry.content);
    if (!(await isCandidate(entry, content, options.tarRule))) {
      if (seen.length < maxNamedEntries) seen.push(entry.name);
      continue;
    }
    refuseHostile(entry);
    if (found !== undefined) {
      throw new FetchError(
        'bad_archive',
        `the tar archive holds two candidates, ${quoted(found.fileName ?? '')} and ${quoted(entry.name)}; pack one module`,
      );
    }
    if (entry.sizeBytes > options.maxSizeBytes) {
      throw tooLarge(`its tar entry declares ${entry.sizeBytes} bytes, more than ${options.maxSizeBytes}`);
    }
    const { steps: inner } = await unpackLevel(content, options, steps);
    found = { steps: inner, fileName: entry.name };
  }
  if (found !== undefined) return found;
  const names = seen.length === 0 ? 'nothing' : seen.map(quoted).join(', ');
  throw new FetchError('bad_archive', `${missingFile(options.tarRule)} (seen: ${names})`);
}

async function isCandidate(entry: TarEntry, content: PeekableStream, rule: TarRule): Promise<boolean> {
  if (entry.kind === 'folder') return false;
  const isNamedSo = entry.name.split('/').at(-1) === pluginFileName;
  switch (rule) {
    case 'plugin-wasm':
      return isNamedSo;
    case 'module-bytes': {
      // A link or a sparse file shows no bytes: its name must do.
      if (entry.kind !== 'file') return isNamedSo;
      const { kind } = contentFormat(await content.head(formatHeadBytes));
      return kind !== 'unknown';
    }
    default:
      return rule satisfies never;
  }
}

/** Refuses a candidate that is no plain file at a plain place. */
function refuseHostile(entry: TarEntry): void {
  const name = quoted(entry.name);
  if (entry.kind !== 'file') {
    throw new FetchError(
      'bad_archive',
      `the tar entry ${name} is a ${entry.kind}; pack the module as a regular file`,
    );
  }
  if (entry.name.split('/').includes('..')) {
    throw new FetchError(
      'bad_archive',
      `the tar entry ${name} leads out of its folder with ".."; pack the module under a plain name`,
    );
  }
}

function missingFile(rule: TarRule): string {
  switch (rule) {
    case 'module-bytes':
      return 'the tar archive holds no regular file that is a Wasm module; put the module into it';
    case 'plugin-wasm':
      return `${pluginFileName} not found in the archive; the image must hold a regular file of that name`;
    default:
      return rule satisfies never;
  }
}

/** Names in an error are for a human: a few, short, and safe to print. */
const maxNamedEntries = 5;

function tooLarge(reason: string): FetchError {
  return new FetchError(
    'too_large',
    `${reason}; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES`,
  );
}
