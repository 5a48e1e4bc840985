import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, it, type TestContext } from 'node:test';
import { constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { PeekableStream } from '../../../agent/fetch/byte-stream.ts';
import { contentFormat } from '../../../agent/fetch/content-format.ts';
import { type TarRule, unpackModule } from '../../../agent/fetch/unpack.ts';
import {
  chunked,
  componentHeader,
  pluginLayer,
  sha256,
  tarOf,
  wasmHeader,
  wasmModule,
} from './module-bytes.ts';

const module = wasmModule('x'.repeat(70_000));

async function unpack(
  bytes: Uint8Array,
  options: { chunkBytes?: number; tarRule?: TarRule; maxSizeBytes?: number } = {},
): Promise<{
  readonly written: Buffer;
  readonly steps: readonly string[];
  readonly fileName: string | undefined;
  readonly served: string;
}> {
  const hash = createHash('sha256');
  async function* served(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunked(bytes, options.chunkBytes ?? 16_384)) {
      hash.update(chunk);
      yield chunk;
    }
  }
  const chunks: Uint8Array[] = [];
  const source = new PeekableStream(served());
  const { steps, fileName } = await unpackModule(source, {
    tarRule: options.tarRule ?? 'module-bytes',
    maxSizeBytes: options.maxSizeBytes ?? 10_000_000,
    write: async (chunk) => {
      chunks.push(Buffer.from(chunk));
    },
  });
  return { written: Buffer.concat(chunks), steps, fileName, served: hash.digest('hex') };
}

describe('unpacking', () => {
  it('gives the module of each container, whatever the chunks, and leaves the source whole for its digest', async () => {
    const tar = await tarOf(
      { name: 'folder', type: 'directory' },
      { name: 'm', content: module },
      { name: 'n', content: Buffer.alloc(9_000) },
    );
    const files: readonly (readonly [Buffer, readonly string[]])[] = [
      [module, []],
      [gzipSync(module), ['gzip']],
      [Buffer.concat([gzipSync(module.subarray(0, 9)), gzipSync(module.subarray(9))]), ['gzip']],
      [Buffer.concat([gzipSync(module), Buffer.alloc(1024)]), ['gzip']],
      [tar, ['tar']],
      [gzipSync(tar), ['gzip', 'tar']],
      [gzipSync(gzipSync(module)), ['gzip', 'gzip']],
      [zstdCompressSync(module), ['zstd']],
      [zstdCompressSync(tar), ['zstd', 'tar']],
      [zstdCompressSync(wasmModule('x'.repeat(70_000)), { params: everyZstdField }), ['zstd']],
      [Buffer.concat([zstdSkippable, zstdCompressSync(module)]), ['zstd']],
      [
        Buffer.concat([
          zstdCompressSync(module.subarray(0, 9)),
          zstdSkippable,
          zstdCompressSync(module.subarray(9)),
          zstdSkippable,
        ]),
        ['zstd'],
      ],
      [v7Tar('folder/m', module), ['tar']],
      [gzipSync(Buffer.concat([gzipSync(module), Buffer.alloc(200_000)])), ['gzip', 'gzip']],
      [await tarOf({ name: 'm.gz', content: gzipSync(module) }), ['tar', 'gzip']],
    ];
    for (const [file, steps] of files) {
      for (const chunkBytes of [1, 511, 512, 513, 65_536, 1_000_000]) {
        // Byte by byte is slow; the small files show the same.
        if (chunkBytes === 1 && file.byteLength > 5_000) continue;
        const unpacked = await unpack(file, { chunkBytes });
        assert.deepEqual(unpacked.steps, steps);
        assert.ok(unpacked.written.equals(module), `${steps.join('>')} in chunks of ${chunkBytes}`);
        assert.equal(unpacked.served, sha256(file));
      }
    }
  });

  it('takes plugin.wasm of an image layer from any folder, and no folder of that name', async () => {
    const layer = gzipSync(
      await tarOf(
        { name: 'other.wasm', content: wasmModule('other') },
        { name: '../link', type: 'symlink' },
        { name: 'a/plugin.wasm', type: 'directory' },
        { name: 'notplugin.wasm', content: wasmModule('other') },
        { name: './b/plugin.wasm', content: module },
        { name: 'late', content: wasmModule('late') },
      ),
    );
    const unpacked = await unpack(layer, { tarRule: 'plugin-wasm' });
    assert.ok(unpacked.written.equals(module));
    assert.equal(unpacked.fileName, './b/plugin.wasm');
    assert.ok((await unpack(await pluginLayer(module), { tarRule: 'plugin-wasm' })).written.equals(module));
  });

  const hostile: readonly (readonly [string, () => Promise<Buffer>, string, RegExp])[] = [
    [
      'a bomb',
      async () => gzipSync(Buffer.concat([module, Buffer.alloc(2_000_000)])),
      'too_large',
      /gzip content is larger than 1000000 bytes/,
    ],
    [
      'a bomb behind the module',
      async () =>
        gzipSync(Buffer.concat([await tarOf({ name: 'm', content: module }), Buffer.alloc(2_000_000)])),
      'too_large',
      /gzip content/,
    ],
    [
      'a bomb of zeros',
      async () => gzipSync(gzipSync(Buffer.alloc(2_000_000))),
      'not_wasm',
      /the content of its gzip in gzip is neither/,
    ],
    [
      'three levels',
      async () => gzipSync(gzipSync(await tarOf({ name: 'm', content: module }))),
      'bad_archive',
      /deeper than 2 .*gzip > gzip > tar/,
    ],
    [
      'a forged size',
      async () => forgedTar('77777777777'),
      'too_large',
      /tar entry declares 8589934591 bytes/,
    ],
    [
      'a cut tar',
      async () => (await tarOf({ name: 'm', content: module })).subarray(0, 40_000),
      'bad_archive',
      /cut off in "m" \(tar data cannot be unpacked\)/,
    ],
    [
      'a cut gzip',
      async () => gzipSync(module).subarray(0, -9),
      'bad_archive',
      /gzip data cannot be unpacked: unexpected end of file/,
    ],
    [
      'gzip with a wrong checksum',
      async () => wrongChecksum(gzipSync(module)),
      'bad_archive',
      /gzip data cannot be unpacked: incorrect data check/,
    ],
    [
      'gzip with a wrong checksum around zeros that follow the module',
      async () => wrongChecksum(gzipSync(Buffer.concat([gzipSync(module), Buffer.alloc(200_000)]))),
      'bad_archive',
      /incorrect data check/,
    ],
    [
      'gzip with more than zeros behind',
      async () => Buffer.concat([gzipSync(module), Buffer.from('garbage')]),
      'bad_archive',
      /gzip data/,
    ],
    [
      'a tar without files',
      async () => tarOf({ name: 'folder', type: 'directory' }),
      'bad_archive',
      /holds no regular file that is a Wasm module; .*seen: "folder"/,
    ],
    [
      'zstd that is cut',
      async () => zstdCompressSync(module).subarray(0, -1),
      'bad_archive',
      /zstd data cannot be unpacked: it is cut off in a frame/,
    ],
    [
      'zstd with garbage behind',
      async () => Buffer.concat([zstdCompressSync(module), Buffer.from('garbage')]),
      'bad_archive',
      /zstd data cannot be unpacked: it has something else than a frame in it/,
    ],
    [
      'zstd with a wrong checksum',
      async () => wrongLastByte(zstdCompressSync(module, { params: everyZstdField })),
      'bad_archive',
      /zstd data cannot be unpacked: .*checksum/,
    ],
    [
      'zstd that needs a large window',
      async () => wideWindow(),
      'bad_archive',
      /zstd data cannot be unpacked: .*too much memory/,
    ],
    [
      'a zstd bomb',
      async () => zstdCompressSync(Buffer.concat([module, Buffer.alloc(2_000_000)])),
      'too_large',
      /zstd content is larger than 1000000 bytes/,
    ],
    [
      'two candidates',
      async () => tarOf({ name: 'a', content: module }, { name: 'b', content: wasmModule('b') }),
      'bad_archive',
      /two candidates, "a" and "b"; pack one module/,
    ],
    [
      'a name that leads out',
      async () => tarOf({ name: 'a/../../plugin.wasm', content: module }),
      'bad_archive',
      /"a\/\.\.\/\.\.\/plugin\.wasm" leads out of its folder/,
    ],
    [
      'a symbolic link',
      async () => tarOf({ name: 'plugin.wasm', type: 'symlink' }),
      'bad_archive',
      /"plugin\.wasm" is a symbolic link/,
    ],
    [
      'a hard link',
      async () => changedTar((header) => header.write('1', 156)),
      'bad_archive',
      /"plugin\.wasm" is a hard link/,
    ],
    [
      'a device',
      async () => changedTar((header) => header.write('3', 156)),
      'bad_archive',
      /"plugin\.wasm" is a special file/,
    ],
    [
      'a sparse file of GNU',
      async () => changedTar((header) => header.write('S', 156)),
      'bad_archive',
      /"plugin\.wasm" is a sparse file of the old GNU kind/,
    ],
    [
      'a sparse file of PAX',
      async () => tarOf({ name: 'plugin.wasm', content: module, pax: { 'GNU.sparse.major': '1' } }),
      'bad_archive',
      /"plugin\.wasm" is a sparse file/,
    ],
    [
      '10,000 entries',
      async () => tarOf(...Array.from({ length: 10_000 }, (_, at) => ({ name: `${at}` }))),
      'bad_archive',
      /more than 8192 entries/,
    ],
    [
      'an extended header that would fill the memory',
      async () => changedTar((header) => header.write('x', 156)),
      'bad_archive',
      /an extended header of the tar archive has 70\d{3} bytes, more than 65536/,
    ],
    [
      'a malformed extended header',
      async () => changedTar((header) => header.write('x\0', 156) && header.write('00000000100', 124)),
      'bad_archive',
      /an extended header of the tar archive is malformed/,
    ],
    [
      'a damaged tar header',
      async () => damagedHeader(),
      'bad_archive',
      /a header has a wrong checksum or size/,
    ],
  ];
  for (const [name, make, code, message] of hostile) {
    it(`refuses ${name}`, async () => {
      const bytes = await make();
      for (const chunkBytes of [700, 1_000_000]) {
        await assert.rejects(unpack(bytes, { chunkBytes, maxSizeBytes: 1_000_000 }), { code, message });
      }
    });
  }

  it('passes on why the source or the writer failed', async () => {
    const broken = new Error('the wire broke');
    async function* source(): AsyncGenerator<Uint8Array> {
      yield gzipSync(module).subarray(0, 50);
      throw broken;
    }
    const options = { tarRule: 'module-bytes', maxSizeBytes: 1_000_000 } as const;
    await assert.rejects(
      unpackModule(new PeekableStream(source()), { ...options, write: async () => undefined }),
      broken,
    );
    const full = new Error('disk full');
    const write = async (): Promise<void> => {
      throw full;
    };
    const layer = await pluginLayer(module);
    await assert.rejects(unpackModule(new PeekableStream(chunked(layer, 700)), { ...options, write }), full);
  });

  it('reads what the tar program of the system writes, in each of its formats', (t) => {
    return unpackSystemTars(t);
  });

  for (const pack of [gzipSync, zstdCompressSync])
    it(`of any damage to a layer in ${pack === gzipSync ? 'gzip' : 'zstd'} gives the module, or an error that blames the content`, async () => {
      const layer = pack(await tarOf({ name: 'plugin.wasm', content: wasmModule('y'.repeat(2_000)) }));
      await fc.assert(
        fc.asyncProperty(
          fc.nat({ max: layer.byteLength - 1 }),
          fc.integer({ min: 1, max: 255 }),
          async (at, change) => {
            const damaged = Buffer.from(layer);
            damaged[at] = (damaged[at] ?? 0) ^ change;
            await unpack(damaged, { tarRule: 'plugin-wasm' }).catch((error: { code?: string }) => {
              assert.match(error.code ?? 'another error', /^(?:bad_archive|not_wasm|too_large)$/);
            });
          },
        ),
        { seed: 7, numRuns: 300 },
      );
    });
});

/** Why the system's archives cannot be made; undefined when they can. */
function missingTar(): string | undefined {
  try {
    return execFileSync('tar', ['--version']).includes('GNU tar') ? undefined : 'tar is not GNU tar';
  } catch {
    return 'tar is not installed';
  }
}

async function unpackSystemTars(t: TestContext): Promise<void> {
  const missing = missingTar();
  if (missing !== undefined) {
    t.skip(missing);
    return;
  }
  const folder = await mkdtemp(join(tmpdir(), 'ferry-tar-'));
  try {
    // Names longer than what a header holds are where the formats differ.
    const place = join('long'.repeat(20), 'longer'.repeat(20), 'plugin.wasm');
    await mkdir(join(folder, dirname(place)), { recursive: true });
    await writeFile(join(folder, place), module);
    await symlink('x'.repeat(150), join(folder, 'a-link'));
    for (const format of ['gnu', 'pax', 'posix', 'oldgnu']) {
      const tar = execFileSync('tar', ['-C', folder, `--format=${format}`, '-cf', '-', '.'], {
        maxBuffer: 10_000_000,
      });
      const unpacked = await unpack(tar, { tarRule: 'plugin-wasm' });
      assert.ok(unpacked.written.equals(module), format);
      assert.equal(unpacked.fileName, `./${place}`, format);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** With a checksum, and with a window where the size of the content could be. */
const everyZstdField = {
  [constants.ZSTD_c_checksumFlag]: 1,
  [constants.ZSTD_c_contentSizeFlag]: 0,
};
const zstdSkippable = Buffer.concat([
  Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]),
  Buffer.from('table'),
]);

/** An archive of before POSIX: no magic, only a checksum. */
function v7Tar(name: string, content: Uint8Array): Buffer {
  const header = Buffer.alloc(512);
  header.write(name);
  header.write('0000644', 100);
  header.write(content.byteLength.toString(8).padStart(11, '0'), 124);
  header.write('00000000000', 136);
  const padding = Buffer.alloc((512 - (content.byteLength % 512)) % 512);
  return withHeader(Buffer.concat([header, content, padding]), () => undefined);
}

/** A tar archive of one file whose header is changed. */
async function changedTar(change: (header: Buffer) => void, name = 'plugin.wasm'): Promise<Buffer> {
  return withHeader(await tarOf({ name, content: module }), change);
}

async function forgedTar(octalSize: string): Promise<Buffer> {
  return withHeader(await tarOf({ name: 'm', content: module }), (header) =>
    header.write(octalSize, 124, 'latin1'),
  );
}

async function damagedHeader(): Promise<Buffer> {
  const tar = await tarOf({ name: 'm', content: module });
  tar[0] = 0x7a;
  return tar;
}

/** Changes the first header and mends its checksum. */
function withHeader(tar: Buffer, change: (header: Buffer) => void): Buffer {
  const header = tar.subarray(0, 512);
  change(header);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return tar;
}

function wrongLastByte(bytes: Buffer): Buffer {
  const at = bytes.byteLength - 1;
  bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  return bytes;
}

/** A frame of a stream of unknown size: its header asks for a window of 128 MiB. */
async function wideWindow(): Promise<Buffer> {
  const stream = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: 27 } });
  stream.write(module);
  stream.end();
  return buffer(stream);
}

function wrongChecksum(gzip: Buffer): Buffer {
  const at = gzip.byteLength - 8;
  gzip[at] = (gzip[at] ?? 0) ^ 0xff;
  return gzip;
}

describe('bytes', () => {
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ['nothing', Buffer.alloc(0), /^empty$/],
    ['html', Buffer.from('  <!doctype HTML><html>'), /an HTML page/],
    ['html without a doctype', Buffer.from('\n<HTML lang="en">'), /an HTML page/],
    ['json', Buffer.from('{"errors":[]}'), /JSON text/],
    ['xml', Buffer.from('<?xml version="1.0"?>'), /XML/],
    ['zip', Buffer.from('PK\x03\x04'), /zip/],
    ['text format', Buffer.from('(module)'), /Wasm text/],
    ['a component', componentHeader, /component/],
    ['a future version', Buffer.from([0, 0x61, 0x73, 0x6d, 2, 0, 0, 0]), /unknown version 02 00 00 00/],
    ['a cut header', wasmHeader.subarray(0, 6), /cut off after 6 bytes/],
    ['ELF', Buffer.from('\x7fELF'), /first bytes 7f 45 4c 46/],
  ];
  for (const [name, bytes, description] of cases) {
    it(`that are ${name} are told`, () => {
      const format = contentFormat(bytes);
      assert.match('description' in format ? format.description : format.kind, description);
    });
  }
  it('that are a module are told', () => {
    assert.equal(contentFormat(wasmHeader).kind, 'wasm');
  });
});
