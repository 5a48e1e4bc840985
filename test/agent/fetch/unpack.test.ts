import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
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
): Promise<{ readonly written: Buffer; readonly steps: readonly string[]; readonly served: string }> {
  const hash = createHash('sha256');
  async function* served(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunked(bytes, options.chunkBytes ?? 16_384)) {
      hash.update(chunk);
      yield chunk;
    }
  }
  const chunks: Uint8Array[] = [];
  const source = new PeekableStream(served());
  const steps = await unpackModule(source, {
    tarRule: options.tarRule ?? 'first-file',
    maxSizeBytes: options.maxSizeBytes ?? 10_000_000,
    write: async (chunk) => {
      chunks.push(Buffer.from(chunk));
    },
  });
  return { written: Buffer.concat(chunks), steps, served: hash.digest('hex') };
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

  it('takes plugin.wasm of an image layer from any folder, and no link or folder of that name', async () => {
    const layer = gzipSync(
      await tarOf(
        { name: 'other.wasm', content: wasmModule('other') },
        { name: 'plugin.wasm', type: 'symlink' },
        { name: 'a/plugin.wasm', type: 'directory' },
        { name: 'notplugin.wasm', content: wasmModule('other') },
        { name: '../../../b/plugin.wasm', content: module },
        { name: 'plugin.wasm', content: wasmModule('late') },
      ),
    );
    assert.ok((await unpack(layer, { tarRule: 'plugin-wasm' })).written.equals(module));
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
      /tar data cannot be unpacked: Unexpected end of data/,
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
      /holds no regular file; .*seen: "folder"/,
    ],
    ['a damaged tar header', async () => damagedHeader(), 'bad_archive', /Invalid tar header/],
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
    const options = { tarRule: 'first-file', maxSizeBytes: 1_000_000 } as const;
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

  it('of any damage to a layer gives the module, or an error that blames the content', async () => {
    const layer = await pluginLayer(wasmModule('y'.repeat(2_000)));
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: layer.byteLength - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, change) => {
          const damaged = Buffer.from(layer);
          damaged[at] = (damaged[at] ?? 0) ^ change;
          await unpack(damaged, { tarRule: 'plugin-wasm' }).catch((error: { code?: string }) => {
            assert.match(error.code ?? 'another error', /^(?:bad_archive|not_wasm)$/);
          });
        },
      ),
      { seed: 7, numRuns: 300 },
    );
  });
});

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
    ['zstd', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0]), /zstd/],
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
