import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FetchFixture } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, wasmConfig, wasmContent } from './image-registry.ts';
import { pluginLayer, sha256, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const module = wasmModule('z'.repeat(5_000));
const layer = await pluginLayer(module);

/** What may happen to bytes on their way. */
const damages: readonly (readonly [string, (bytes: Buffer) => Buffer])[] = [
  ['without their last byte', (bytes) => bytes.subarray(0, -1)],
  ['cut in half', (bytes) => bytes.subarray(0, bytes.byteLength / 2)],
  ['gone', () => Buffer.alloc(0)],
  ['with a byte more', (bytes) => Buffer.concat([bytes, Buffer.of(0)])],
  ['with much more', (bytes) => Buffer.concat([bytes, Buffer.alloc(100_000)])],
  [
    'with one bit turned',
    (bytes) => {
      const turned = Buffer.from(bytes);
      turned[turned.byteLength - 3] = (turned.at(-3) ?? 0) ^ 1;
      return turned;
    },
  ],
  ['in place of which another module comes', () => wasmModule('other')],
];

async function blobNames(fixture: FetchFixture): Promise<readonly string[]> {
  return readdir(join(fixture.folder, 'blobs', 'sha256'));
}

describe('bytes that are not those of their digest', () => {
  const layouts = [
    ['tar+gzip', [{ mediaType: ociTarGzip, bytes: layer }]],
    [
      'raw',
      [
        { mediaType: wasmConfig, bytes: Buffer.from('{}') },
        { mediaType: wasmContent, bytes: module },
      ],
    ],
  ] as const;
  for (const [name, damage] of damages) {
    it(`(${name}) never get a name, whatever the headers claim`, async () => {
      for (const [layout, layers] of layouts) {
        const registry = new ImageRegistry();
        const image = registry.image(layers, { tags: ['v1'] });
        const wanted = layers.at(-1)?.bytes ?? Buffer.alloc(0);
        registry.fail(`GET /v2/p/blobs/sha256:${sha256(wanted)}`, (_, response) => {
          answer(response, 200, damage(wanted), { 'docker-content-digest': `sha256:${sha256(wanted)}` });
          return true;
        });
        await using server = await startWebServer(registry.handle);
        await using fixture = await FetchFixture.open();
        for (const pin of [undefined, image.digest, sha256(wanted), sha256(module)]) {
          const request = pin === undefined ? {} : { sha256: pin };
          await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`, request), {
            code: 'digest_mismatch',
            result: 'download_failure',
          });
        }
        assert.deepEqual(await blobNames(fixture), [], layout);
        assert.deepEqual(await fixture.temporaryFileNames(), []);
        assert.equal(fixture.recordsText().includes(sha256(wanted)), false);
      }
    });

    it(`(${name}) are refused as manifests and indexes asked for by digest`, async () => {
      const registry = new ImageRegistry();
      const image = registry.image([{ mediaType: ociTarGzip, bytes: layer }]);
      const index = registry.index([{ image }], { tags: ['v1'] });
      for (const [target, reference] of [
        [image, ':v1'],
        [index, `@sha256:${index.digest}`],
      ] as const) {
        registry.fail(`GET /v2/p/manifests/sha256:${target.digest}`, (_, response) => {
          answer(response, 200, damage(target.bytes), {
            'content-type': target.mediaType,
            'docker-content-digest': `sha256:${target.digest}`,
          });
          return true;
        });
        await using server = await startWebServer(registry.handle);
        await using fixture = await FetchFixture.open();
        await assert.rejects(fixture.fetch(`oci://${server.host}/p${reference}`), {
          code: 'digest_mismatch',
          result: 'manifest_failure',
        });
        assert.equal(server.count('GET /v2/p/blobs/'), 0);
      }
    });

    it(`(${name}) are refused from a web server when they are pinned`, async () => {
      for (const bytes of [module, layer]) {
        await using server = await startWebServer((_, response) => answer(response, 200, damage(bytes)));
        await using fixture = await FetchFixture.open();
        await assert.rejects(fixture.fetch(server.url, { sha256: sha256(bytes) }), {
          code: 'checksum_mismatched',
        });
        assert.deepEqual(await blobNames(fixture), []);
        assert.deepEqual(await fixture.temporaryFileNames(), []);
      }
    });
  }
});

describe('a blob that breaks off', () => {
  it('is taken up where it broke, as often as it gets on, and its hash runs over the whole', async () => {
    const big = wasmModule('x'.repeat(1_000_000));
    const registry = new ImageRegistry();
    registry.image([{ mediaType: wasmContent, bytes: big }], { tags: ['v1'] });
    const pieceBytes = 150_000;
    registry.fail('GET /v2/p/blobs/', (request, response) => {
      const [, digits = '0'] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
      const start = Number(digits);
      if (start + pieceBytes >= big.byteLength) return false;
      response.writeHead(start === 0 ? 200 : 206, {
        'content-length': big.byteLength - start,
        'content-range': `bytes ${start}-${big.byteLength - 1}/${big.byteLength}`,
      });
      response.write(big.subarray(start, start + pieceBytes), () => response.destroy());
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const fetched = await fixture.fetch(`oci://${server.host}/p:v1`);
    assert.deepEqual(await readFile(fetched.path), big);
    assert.ok(server.count('GET /v2/p/blobs/') > 3);
  });

  it('and goes on with other bytes is refused', async () => {
    const big = wasmModule('x'.repeat(400_000));
    const registry = new ImageRegistry();
    registry.image([{ mediaType: wasmContent, bytes: big }], { tags: ['v1'] });
    registry.fail('GET /v2/p/blobs/', (request, response) => {
      const [, start] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
      if (start === undefined) {
        response.writeHead(200, { 'content-length': big.byteLength });
        response.write(big.subarray(0, 200_000), () => response.destroy());
      } else {
        const range = `bytes ${start}-${big.byteLength - 1}/${big.byteLength}`;
        answer(response, 206, Buffer.alloc(big.byteLength - Number(start)), { 'content-range': range });
      }
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), { code: 'digest_mismatch' });
    assert.deepEqual(await blobNames(fixture), []);
  });
});
