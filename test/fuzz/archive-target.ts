import assert from 'node:assert/strict';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { PeekableStream } from '../../agent/fetch/byte-stream.ts';
import { type TarRule, unpackModule } from '../../agent/fetch/unpack.ts';
import { chunked, type TarEntry, tarOf, wasmModule } from '../agent/fetch/module-bytes.ts';
import { type FuzzTarget, hasCode } from './fuzz-target.ts';

const blockBytes = 512;
const maxSizeBytes = 64 * 1024;

const names = ['plugin.wasm', 'folder/plugin.wasm', '../plugin.wasm', 'other', 'x'.repeat(120), 'ä', ''];
const contents = [
  wasmModule(),
  wasmModule('y'.repeat(3_000)),
  gzipSync(wasmModule()),
  Buffer.from('text'),
  Buffer.alloc(0),
  Buffer.alloc(maxSizeBytes + 1),
];
const entry = fc.record(
  {
    name: fc.constantFrom(...names).filter((name) => name !== ''),
    content: fc.constantFrom(...contents),
    type: fc.constantFrom('file' as const, 'file' as const, 'directory' as const, 'symlink' as const),
    pax: fc.dictionary(
      fc.constantFrom('path', 'size', 'GNU.sparse.major', 'linkpath', 'comment'),
      fc.constantFrom(...names, '0', '-1', '99999999999', '1e9'),
      { maxKeys: 2 },
    ),
  },
  { requiredKeys: ['name'] },
);

/** The packer takes contents for files only. */
function withoutNeedless(entry: TarEntry): TarEntry {
  const { type = 'file', content, ...rest } = entry;
  return type === 'file' && content !== undefined ? { ...rest, type, content } : { ...rest, type };
}

/** A change of one byte; `isMended` mends the checksum of its block, so that the reader goes on to believe it. */
const edit = fc.record({ position: fc.nat(), byte: fc.nat(255), isMended: fc.boolean() });

function change(tar: Buffer, edits: readonly { position: number; byte: number; isMended: boolean }[]): void {
  for (const { position, byte, isMended } of edits) {
    const at = position % tar.byteLength;
    tar[at] = byte;
    if (isMended) mendChecksum(tar.subarray(at - (at % blockBytes), at - (at % blockBytes) + blockBytes));
  }
}

function mendChecksum(block: Buffer): void {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

const packs = { none: (bytes: Buffer): Buffer => bytes, gzip: gzipSync, zstd: zstdCompressSync } as const;

async function outcomeOf(bytes: Uint8Array, tarRule: TarRule, chunkBytes: number): Promise<unknown> {
  const written: Uint8Array[] = [];
  let writtenBytes = 0;
  const write = async (chunk: Uint8Array): Promise<void> => {
    writtenBytes += chunk.byteLength;
    // The reader counts before it writes; a packed file in a file may come out in one piece more.
    assert.ok(writtenBytes <= 2 * maxSizeBytes, 'what is written is bounded');
    written.push(Buffer.from(chunk));
  };
  const source = new PeekableStream(chunked(bytes, chunkBytes));
  try {
    const unpacked = await unpackModule(source, { tarRule, maxSizeBytes, write });
    const module = Buffer.concat(written);
    assert.equal(module.subarray(0, 4).toString('latin1'), '\0asm');
    return { ...unpacked, module };
  } catch (error) {
    assert.ok(hasCode(error, ['bad_archive', 'not_wasm', 'too_large']), String(error));
    return error instanceof Error && 'code' in error ? error.code : undefined;
  }
}

/** Archives give the module or an error about the content, the same whatever the chunks, and never more than the cap. */
export const archiveTarget: FuzzTarget = {
  name: 'archive',
  property: fc.asyncProperty(
    fc.array(entry, { minLength: 1, maxLength: 4 }),
    fc.array(edit, { maxLength: 3 }),
    fc.constantFrom<keyof typeof packs>('none', 'none', 'gzip', 'zstd'),
    fc.array(edit, { maxLength: 1 }),
    fc.constantFrom<TarRule>('plugin-wasm', 'module-bytes'),
    fc.integer({ min: 1, max: 3_000 }),
    async (entries, edits, packing, packedEdits, tarRule, chunkBytes) => {
      const tar = await tarOf(...(entries as TarEntry[]).map(withoutNeedless));
      change(tar, edits);
      const packed = Buffer.from(packs[packing](tar));
      change(
        packed,
        packedEdits.map((each) => ({ ...each, isMended: false })),
      );
      const whole = await outcomeOf(packed, tarRule, packed.byteLength);
      const inChunks = await outcomeOf(packed, tarRule, chunkBytes);
      // Of two faults of packed data, how much came at once decides which is seen first.
      const isFault = packing !== 'none' && typeof whole === 'string' && typeof inChunks === 'string';
      if (!isFault) assert.deepEqual(inChunks, whole);
    },
  ),
};
