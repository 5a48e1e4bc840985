import { ByteReader } from './byte-reader.ts';
import type { ByteStream } from './byte-stream.ts';
import { isZeroBlock, parsePaxRecords, parseTarHeader, type TarHeader, tarBlockBytes } from './tar-header.ts';
import { FetchError } from './types.ts';

export type TarEntryKind = 'file' | 'folder' | 'symbolic link' | 'hard link' | 'sparse file' | 'special file';

/** One entry of a tar archive. */
export interface TarEntry {
  readonly kind: TarEntryKind;
  /** As written; it is never used as a path. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Good until the next entry is asked for; what is not read is skipped. */
  readonly content: ByteStream;
}

/** Entries of one archive: an image layer with a module has a few. Each costs a header, so more is a file made to cost time. */
export const maxTarEntryCount = 8192;
/** Long names and extended headers are read whole: this is what one may be. */
const maxExtensionBytes = 64 * 1024;
/** What is read of the contents at a time. */
const maxChunkBytes = 64 * 1024;

/**
 * The entries of a tar archive (V7, ustar, GNU, PAX), as a stream. It takes nothing on trust: a header counts with
 * its checksum only, extensions and entries are bounded, and a contents' end is the source's end or an error.
 * Throws FetchError `bad_archive` that says what is wrong, and what the source throws.
 */
export async function* readTar(source: ByteStream): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(source);
  let extended: ReadonlyMap<string, string> = new Map();
  let longName: string | undefined;
  for (let entryCount = 0; ; ) {
    const header = await nextHeader(reader);
    if (header === undefined) break;
    entryCount += 1;
    if (entryCount > maxTarEntryCount) {
      throw damaged(`the tar archive holds more than ${maxTarEntryCount} entries; pack only the module`);
    }
    const { flag } = header;
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      const extension = await readExtension(reader, header);
      // Global headers and long link targets say nothing that is used here.
      if (flag === 'x') extended = readRecords(extension);
      if (flag === 'L') longName = extension.toString('utf8').replace(/\0.*$/s, '');
      continue;
    }
    const name = extended.get('path') ?? longName ?? header.name;
    const kind = entryKind(flag, name, extended);
    const sizeBytes = headerOnlyFlags.includes(flag) ? 0 : (readSize(extended) ?? header.sizeBytes);
    const left = { bytes: sizeBytes };
    yield { kind, name, sizeBytes, content: contentOf(reader, left, name) };
    const paddingBytes = (tarBlockBytes - (sizeBytes % tarBlockBytes)) % tarBlockBytes;
    if (!(await reader.skip(left.bytes + paddingBytes))) throw cutOff(name);
    extended = new Map();
    longName = undefined;
  }
  // What stands behind the end of the archive is padding.
  while ((await reader.some(maxChunkBytes)) !== undefined);
}

/** Undefined at the end: a block of zeros, or nothing more. */
async function nextHeader(reader: ByteReader): Promise<TarHeader | undefined> {
  const block = await reader.upTo(tarBlockBytes);
  if (block.byteLength === 0 || isZeroBlock(block)) return undefined;
  if (block.byteLength < tarBlockBytes) throw damaged('the tar archive is cut off in a header');
  const header = parseTarHeader(block);
  if (header === undefined)
    throw damaged('the tar archive is damaged: a header has a wrong checksum or size');
  return header;
}

async function readExtension(reader: ByteReader, header: TarHeader): Promise<Buffer> {
  const { sizeBytes } = header;
  if (sizeBytes > maxExtensionBytes) {
    throw damaged(
      `an extended header of the tar archive has ${sizeBytes} bytes, more than ${maxExtensionBytes}`,
    );
  }
  const bytes = await reader.upTo(sizeBytes);
  const paddingBytes = (tarBlockBytes - (sizeBytes % tarBlockBytes)) % tarBlockBytes;
  if (bytes.byteLength < sizeBytes || !(await reader.skip(paddingBytes))) throw cutOff('an extended header');
  return Buffer.from(bytes);
}

function readRecords(extension: Uint8Array): ReadonlyMap<string, string> {
  const records = parsePaxRecords(extension);
  if (records === undefined) throw damaged('an extended header of the tar archive is malformed');
  return records;
}

function readSize(extended: ReadonlyMap<string, string>): number | undefined {
  const text = extended.get('size');
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw damaged('an extended header of the tar archive gives no usable size');
  return Number(text);
}

function entryKind(flag: string, name: string, extended: ReadonlyMap<string, string>): TarEntryKind {
  for (const key of extended.keys()) if (key.startsWith('GNU.sparse.')) return 'sparse file';
  switch (flag) {
    case '0':
    case '\0':
    case '7':
      // Before POSIX a slash at the end was how a folder showed itself.
      return flag === '\0' && name.endsWith('/') ? 'folder' : 'file';
    case '1':
      return 'hard link';
    case '2':
      return 'symbolic link';
    case '5':
      return 'folder';
    case 'S':
      // Its map may go on in blocks that look like headers.
      throw damaged(
        `the tar entry ${quoted(name)} is a sparse file of the old GNU kind; pack it without --sparse`,
      );
    default:
      return 'special file';
  }
}

/** Links, devices, folders and pipes have no content, whatever size they say (Go `archive/tar`). */
const headerOnlyFlags = '123456';

async function* contentOf(
  reader: ByteReader,
  left: { bytes: number },
  name: string,
): AsyncGenerator<Uint8Array> {
  while (left.bytes > 0) {
    const chunk = await reader.some(Math.min(left.bytes, maxChunkBytes));
    if (chunk === undefined) throw cutOff(name);
    left.bytes -= chunk.byteLength;
    yield chunk;
  }
}

/** A name from an archive as it may be printed: anybody can write it. */
export function quoted(name: string): string {
  return JSON.stringify(name.slice(0, maxPrintedLength));
}

const maxPrintedLength = 80;

function cutOff(name: string): FetchError {
  return damaged(`the tar archive is cut off in ${quoted(name)}`);
}

function damaged(reason: string): FetchError {
  return new FetchError('bad_archive', `${reason} (tar data cannot be unpacked)`);
}
