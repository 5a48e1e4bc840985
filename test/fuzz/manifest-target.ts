import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { chooseChild, chooseLayers } from '../../agent/fetch/oci/image-choice.ts';
import {
  type Descriptor,
  descriptorSha256,
  dockerListType,
  dockerManifestType,
  ociIndexType,
  ociManifestType,
  parseManifest,
} from '../../agent/fetch/oci/manifest.ts';
import { type FuzzTarget, hasCode } from './fuzz-target.ts';

const mediaTypes = [
  ociIndexType,
  ociManifestType,
  dockerListType,
  dockerManifestType,
  'application/vnd.oci.image.layer.v1.tar+gzip',
  'application/vnd.oci.image.layer.v1.tar',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.module.wasm.config.v1+json',
  'application/vnd.module.wasm.content.layer.v1+wasm',
  'application/vnd.wasm.content.layer.v1+wasm',
  'application/wasm',
  'application/vnd.oci.empty.v1+json',
  '',
];

/** A field that is as it should be, most of the time. */
function mostly<Value>(value: fc.Arbitrary<Value>): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 12, arbitrary: value }, { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 1 }) });
}

const text = fc.oneof(
  fc.constantFrom('plugin.wasm', 'attestation-manifest', 'unknown'),
  fc.string({ maxLength: 8 }),
);
const digest = fc.oneof(
  fc.stringMatching(/^sha256:[ab]{64}$/),
  fc.constantFrom('', 'sha256:', `sha512:${'a'.repeat(128)}`, `sha256:${'A'.repeat(64)}`),
);
const descriptor = mostly(
  fc.record(
    {
      mediaType: mostly(fc.constantFrom(...mediaTypes)),
      digest: mostly(digest),
      size: mostly(fc.oneof(fc.nat(), fc.constantFrom(-1, 0, 0.5, 2 ** 53))),
      platform: mostly(
        fc.record({
          os: fc.constantFrom('linux', 'wasip1', 'wasi', 'unknown', ''),
          architecture: fc.constantFrom('amd64', 'arm64', 'wasm', 'unknown', ''),
        }),
      ),
      annotations: mostly(
        fc.dictionary(
          fc.constantFrom('org.opencontainers.image.title', 'vnd.docker.reference.type', '__proto__'),
          text,
          { maxKeys: 2 },
        ),
      ),
    },
    { requiredKeys: ['mediaType', 'digest', 'size'] },
  ),
);
const list = fc.array(descriptor, { maxLength: 8 });
const document = fc.record(
  {
    schemaVersion: mostly(fc.constantFrom(1, 2)),
    mediaType: mostly(fc.constantFrom(...mediaTypes)),
    artifactType: mostly(fc.constantFrom(...mediaTypes)),
    config: descriptor,
    layers: mostly(list),
    manifests: mostly(list),
    fsLayers: fc.jsonValue({ maxDepth: 1 }),
  },
  { requiredKeys: [] },
);

/** Manifests are read or refused; what is chosen was there, can be fetched, and all else is accounted for. */
export const manifestTarget: FuzzTarget = {
  name: 'manifest',
  property: fc.asyncProperty(
    document,
    fc.option(fc.constantFrom(...mediaTypes), { nil: undefined }),
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 2 }),
    async (value, mediaType, edits) => {
      const bytes = Buffer.from(JSON.stringify(value));
      for (const [position, byte] of edits) bytes[position % bytes.byteLength] = byte;
      let manifest: Awaited<ReturnType<typeof parseManifest>>;
      try {
        manifest = await parseManifest(bytes, mediaType);
      } catch (error) {
        assert.ok(hasCode(error, ['bad_manifest']), String(error));
        return;
      }
      if (manifest.kind === 'index') {
        const decision = chooseChild(manifest);
        const chosen = decision.kind === 'chosen' ? [decision.descriptor] : [];
        checkChoice(manifest.manifests, chosen);
        assert.equal(decision.refusals.length + chosen.length, manifest.manifests.length);
      } else {
        const decision = chooseLayers(manifest);
        const chosen = decision.kind === 'chosen' ? decision.choices.map((each) => each.descriptor) : [];
        checkChoice(manifest.layers, chosen);
      }
    },
  ),
};

function checkChoice(candidates: readonly Descriptor[], chosen: readonly Descriptor[]): void {
  for (const each of chosen) {
    assert.ok(candidates.includes(each));
    assert.notEqual(descriptorSha256(each), undefined, 'what is chosen can be verified');
  }
}
