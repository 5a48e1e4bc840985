import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parseManifest } from '../../../../agent/fetch/oci/manifest.ts';

const digest = `sha256:${'a'.repeat(64)}`;
const layer = { mediaType: 'application/wasm', digest, size: 3 };
const descriptor = {
  mediaType: 'application/wasm',
  digest,
  sizeBytes: 3,
  platform: undefined,
  annotations: {},
};

async function read(document: unknown, mediaType?: string): Promise<unknown> {
  return parseManifest(Buffer.from(JSON.stringify(document)), mediaType);
}

describe('a manifest', () => {
  it('of an image is read, unknown fields are dropped', async () => {
    assert.deepEqual(await read({ schemaVersion: 2, config: layer, layers: [layer], extra: 1 }, 'text/x'), {
      kind: 'image',
      mediaType: 'text/x',
      artifactType: 'application/wasm',
      config: descriptor,
      layers: [descriptor],
    });
  });

  it('that is an index is read with platforms, absent ones too', async () => {
    const child = { ...layer, platform: { os: 'wasip1', architecture: 'wasm', variant: 'v8' } };
    assert.deepEqual(
      await read({ mediaType: 'm', manifests: [child, { ...layer, platform: null }], layers: null }),
      {
        kind: 'index',
        mediaType: 'm',
        manifests: [{ ...descriptor, platform: { os: 'wasip1', architecture: 'wasm' } }, descriptor],
      },
    );
  });

  const bad: readonly (readonly [string, unknown, RegExp])[] = [
    ['of schema 1', { schemaVersion: 1, fsLayers: [] }, /schema 1/],
    ['that is both', { layers: [], manifests: [] }, /both "layers" and "manifests"/],
    ['that is neither', { schemaVersion: 2 }, /neither/],
    [
      'that lies about being an index',
      { mediaType: 'application/vnd.oci.image.index.v1+json', layers: [] },
      /but is an image/,
    ],
    [
      'that lies about being an image',
      { mediaType: 'application/vnd.oci.image.manifest.v1+json', manifests: [] },
      /but is an index/,
    ],
    ['with a negative size', { layers: [{ ...layer, size: -1 }] }, /malformed at layers\.0\.size/],
    ['with a fractional size', { layers: [{ ...layer, size: 1.5 }] }, /malformed at layers\.0\.size/],
    ['with a number for a digest', { layers: [{ ...layer, digest: 7 }] }, /malformed at layers\.0\.digest/],
    ['that is a text', 'x', /malformed at its top/],
    ['that is null', null, /malformed at its top/],
  ];
  for (const [name, document, reason] of bad) {
    it(`${name} is refused`, async () => {
      await assert.rejects(read(document), { code: 'bad_manifest', message: reason });
    });
  }

  it('that is HTML or broken UTF-8 is refused with its content type', async () => {
    await assert.rejects(parseManifest(Buffer.from('<html>'), 'text/html'), {
      code: 'bad_manifest',
      message: /not JSON \(content type text\/html\)/,
    });
    await assert.rejects(parseManifest(Buffer.from([0x22, 0xff, 0x22]), undefined), { code: 'bad_manifest' });
  });

  it('of any JSON is read or refused as a bad manifest', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), fc.jsonValue(), async (layers, manifests) => {
        for (const document of [layers, { layers }, { manifests }, { layers, manifests }]) {
          await read(document).catch((error: { code?: string }) => assert.equal(error.code, 'bad_manifest'));
        }
      }),
      { seed: 7, numRuns: 200 },
    );
  });
});
