import { ByteReader } from './byte-reader.ts';
import type { ByteStream } from './byte-stream.ts';
import { FetchError } from './types.ts';

const maxChunkBytes = 64 * 1024;
const blockHeaderBytes = 3;

/**
 * The frames of zstd data without the skippable ones between them (RFC 8878 section 3). Node's decompressor stops in
 * silence at a skippable frame, and at garbage: what it is given must be data frames alone. Image tools write
 * skippable frames for their tables of contents. Throws FetchError `bad_archive`, and what the source throws.
 */
export async function* zstdDataFrames(source: ByteStream): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(source);
  for (;;) {
    const magic = Buffer.from(await reader.upTo(4));
    if (magic.byteLength === 0) return;
    if (magic.byteLength < 4) throw damaged('is cut off between two frames');
    if (isZstdSkippable(magic)) {
      const size = Buffer.from(await exactly(reader, 4));
      if (!(await reader.skip(size.readUInt32LE(0)))) throw damaged('is cut off in a skippable frame');
    } else if (isZstdFrame(magic)) {
      yield magic;
      yield* frameBody(reader);
    } else {
      throw damaged('has something else than a frame in it');
    }
  }
}

/** True when the bytes begin a data frame. */
export function isZstdFrame(head: Uint8Array): boolean {
  return head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd;
}

/** True when the bytes begin a skippable frame. */
export function isZstdSkippable(head: Uint8Array): boolean {
  return ((head[0] ?? 0) & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18;
}

async function* frameBody(reader: ByteReader): AsyncGenerator<Uint8Array> {
  const descriptor = await exactly(reader, 1);
  yield descriptor;
  const flags = descriptor[0] ?? 0;
  const isSingleSegment = (flags & 0x20) !== 0;
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][flags >> 6] ?? 0;
  const dictionaryIdBytes = [0, 1, 2, 4][flags & 3] ?? 0;
  const restBytes = (isSingleSegment ? 0 : 1) + dictionaryIdBytes + contentSizeBytes;
  if (restBytes > 0) yield await exactly(reader, restBytes);
  for (let isLast = false; !isLast; ) {
    const header = Buffer.from(await exactly(reader, blockHeaderBytes));
    yield header;
    const block = header.readUIntLE(0, blockHeaderBytes);
    isLast = (block & 1) === 1;
    // A run of one byte has its length in the place of its size.
    const isRun = ((block >> 1) & 3) === 1;
    yield* pass(reader, isRun ? 1 : block >> 3);
  }
  const hasChecksum = (flags & 0x04) !== 0;
  if (hasChecksum) yield await exactly(reader, 4);
}

async function* pass(reader: ByteReader, sizeBytes: number): AsyncGenerator<Uint8Array> {
  for (let leftBytes = sizeBytes; leftBytes > 0; ) {
    const chunk = await reader.some(Math.min(leftBytes, maxChunkBytes));
    if (chunk === undefined) throw damaged('is cut off in a frame');
    leftBytes -= chunk.byteLength;
    yield chunk;
  }
}

async function exactly(reader: ByteReader, sizeBytes: number): Promise<Uint8Array> {
  const bytes = await reader.upTo(sizeBytes);
  if (bytes.byteLength < sizeBytes) throw damaged('is cut off in a frame');
  return bytes;
}

function damaged(reason: string): FetchError {
  return new FetchError('bad_archive', `zstd data cannot be unpacked: it ${reason}`);
}
