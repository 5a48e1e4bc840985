import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { chooseChild, chooseLayers, describeRefusals } from '../../../../agent/fetch/oci/image-choice.ts';
import type { Descriptor } from '../../../../agent/fetch/oci/manifest.ts';
import { dockerTarGzip, ociManifest, ociTarGzip, wasmConfig, wasmContent } from '../image-registry.ts';

let made = 0;
function descriptor(mediaType: string, platform?: string, more: Partial<Descriptor> = {}): Descriptor {
  made += 1;
  const [os = '', architecture = ''] = platform?.split('/') ?? [];
  return {
    mediaType,
    digest: `sha256:${made.toString(16).padStart(64, '0')}`,
    sizeBytes: 1,
    platform: platform === undefined ? undefined : { os, architecture },
    annotations: {},
    ...more,
  };
}

const child = (platform?: string, more?: Partial<Descriptor>): Descriptor =>
  descriptor(ociManifest, platform, more);
const attestation = child('unknown/unknown', {
  annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
});

describe('the child of an index', () => {
  const cases: readonly (readonly [string, readonly Descriptor[], number | undefined, RegExp])[] = [
    [
      'wasip1/wasm before all',
      [child('linux/amd64'), child('js/wasm'), child('wasip1/wasm')],
      2,
      /wasip1\/wasm/,
    ],
    ['any wasm before linux/amd64', [child('linux/amd64'), child('wasi/wasm')], 1, /wasm platform/],
    ['linux/amd64 before others', [child('linux/arm64'), child('linux/amd64')], 1, /linux\/amd64/],
    [
      'no platform counts as linux/amd64, the first wins',
      [child('linux/arm64'), child(), child('linux/amd64')],
      1,
      /no platform/,
    ],
    ['the only one, whatever its platform', [child('linux/arm64')], 0, /only image/],
    ['the only one beside attestations', [child('linux/s390x'), attestation], 0, /only image/],
    [
      'none of several strangers',
      [child('linux/arm64'), child('windows/amd64')],
      undefined,
      /several images/,
    ],
    [
      'none of two for one wasm platform',
      [child('linux/amd64'), child('wasip1/wasm'), child('wasip1/wasm')],
      undefined,
      /several images of which each is for wasip1\/wasm; push one, or pin one/,
    ],
    ['none of an empty index', [], undefined, /holds no image/],
    ['none of attestations', [attestation], undefined, /holds no image/],
    [
      'none with another digest than SHA-256',
      [child(undefined, { digest: 'sha512:00' })],
      undefined,
      /holds no image/,
    ],
    ['none that is no manifest', [descriptor('text/plain')], undefined, /holds no image/],
  ];
  for (const [name, manifests, expected, reason] of cases) {
    it(`is ${name}`, () => {
      const decision = chooseChild({ kind: 'index', mediaType: '', manifests });
      const chosen = decision.kind === 'chosen' ? decision.descriptor : undefined;
      assert.equal(chosen, expected === undefined ? undefined : manifests[expected]);
      assert.match(decision.reason, reason);
      assert.equal(decision.refusals.length, manifests.length - (chosen === undefined ? 0 : 1));
    });
  }
});

const choose = (...layers: Descriptor[]): ReturnType<typeof chooseLayers> =>
  chooseLayers({ kind: 'image', mediaType: '', artifactType: undefined, config: undefined, layers });

describe('the layer with the module', () => {
  const layers = {
    oci: descriptor(ociTarGzip),
    docker: descriptor(dockerTarGzip),
    config: descriptor(wasmConfig),
    content: descriptor(wasmContent),
    cncf: descriptor('application/wasm'),
    oras: descriptor('application/vnd.wasm.content.layer.v1+wasm'),
    tar: descriptor('application/vnd.oci.image.layer.v1.tar'),
    zstd: descriptor('application/vnd.oci.image.layer.v1.tar+zstd'),
    doc: descriptor('application/vnd.module.wasm.doc.v1+markdown'),
    spec: descriptor('application/vnd.module.wasm.spec.v1+yaml'),
    empty: descriptor('application/vnd.oci.empty.v1+json', undefined, {
      digest: 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',
    }),
    repushed: descriptor('application/vnd.oci.empty.v1+json'),
    bytes: descriptor('application/octet-stream'),
    titled: descriptor('application/vnd.oci.image.layer.v1.tar', undefined, {
      annotations: { 'org.opencontainers.image.title': 'filter.WASM' },
    }),
    alsoTitled: descriptor('application/octet-stream', undefined, {
      annotations: { 'org.opencontainers.image.title': 'other.wasm' },
    }),
    sha512: descriptor(ociTarGzip, undefined, { digest: 'sha512:00' }),
  };
  type Name = keyof typeof layers;
  const cases: readonly (readonly [readonly Name[], readonly (readonly [Name, string, string])[]])[] = [
    [['oci'], [['oci', 'compat', 'archive']]],
    [['docker'], [['docker', 'compat', 'archive']]],
    [
      ['doc', 'docker', 'oci'],
      [
        ['oci', 'compat', 'archive'],
        ['docker', 'lower-archive', 'archive'],
      ],
    ],
    [['config', 'content'], [['content', 'artifact', 'raw']]],
    [['content', 'config'], [['content', 'artifact', 'raw']]],
    [['cncf'], [['cncf', 'artifact', 'raw']]],
    [['oras'], [['oras', 'artifact', 'raw']]],
    [['tar'], [['tar', 'compat', 'archive']]],
    [['zstd'], [['zstd', 'compat', 'archive']]],
    [['oci', 'doc'], [['oci', 'sole-archive', 'archive']]],
    [['spec', 'oci', 'doc'], [['oci', 'sole-archive', 'archive']]],
    [
      ['content', 'oci'],
      [
        ['content', 'artifact', 'raw'],
        ['oci', 'compat', 'archive'],
      ],
    ],
    [
      ['oci', 'docker', 'doc'],
      [
        ['docker', 'lower-archive', 'archive'],
        ['oci', 'lower-archive', 'archive'],
      ],
    ],
    [
      ['titled', 'oci'],
      [
        ['titled', 'lower-archive', 'archive'],
        ['oci', 'compat', 'archive'],
      ],
    ],
    [['repushed'], [['repushed', 'unknown-type', 'unknown']]],
    [
      ['bytes', 'alsoTitled', 'empty'],
      [
        ['alsoTitled', 'unknown-type', 'unknown'],
        ['bytes', 'unknown-type', 'unknown'],
      ],
    ],
    [['content', 'content'], [['content', 'artifact', 'raw']]],
    [['content', 'cncf'], []],
    [['titled', 'alsoTitled'], []],
    [['empty'], []],
    [['sha512'], []],
    [['doc'], []],
    [[], []],
  ];
  for (const [names, expected] of cases) {
    it(`of ${names.join(', ') || 'nothing'} is ${expected.map(([name]) => name).join(', then ') || 'none'}`, () => {
      const decision = choose(...names.map((name) => layers[name]));
      const choices = decision.kind === 'chosen' ? decision.choices : [];
      assert.deepEqual(
        choices.map(({ descriptor: found, layout, content }) => [found, layout, content]),
        expected.map(([name, layout, content]) => [layers[name], layout, content]),
      );
      assert.equal(decision.refusals.length, new Set(names).size - choices.length);
    });
  }

  it('is refused with a reason for each, cut to what a message can hold and safe to print', () => {
    const hostile = (): Descriptor => descriptor(`text/evil\n${'x'.repeat(10_000)}`);
    const decision = choose(...Array.from({ length: 50 }, hostile));
    assert.equal(decision.kind, 'refused');
    const text = describeRefusals(decision.refusals);
    assert.match(text, /and 42 more$/);
    assert.ok(text.length < 4000);
    assert.doesNotMatch(text, /\n/);
  });

  it('is looked for in no more layers than an image may cost', () => {
    const decision = choose(...Array.from({ length: 20 }, () => descriptor('application/octet-stream')));
    assert.equal(decision.kind === 'chosen' ? decision.choices.length : 0, 8);
    assert.match(describeRefusals(decision.refusals), /there are 8 better ones/);
  });

  it('or child, of anything, is one of the candidates, and every other one is accounted for', () => {
    const arbitrary = fc.array(
      fc.record({
        mediaType: fc.constantFrom(
          ...Object.values(layers).map((each) => each.mediaType),
          ociManifest,
          'x/y',
        ),
        digest: fc.constantFrom(`sha256:${'b'.repeat(64)}`, `sha256:${'c'.repeat(64)}`, 'md5:1', ''),
        sizeBytes: fc.nat(),
        platform: fc.option(
          fc.record({
            os: fc.constantFrom('linux', 'wasip1', 'unknown', ''),
            architecture: fc.constantFrom('amd64', 'wasm', 'unknown'),
          }),
          { nil: undefined },
        ),
        annotations: fc.constant({}),
      }),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(arbitrary, (candidates) => {
        const layerDecision = choose(...candidates);
        const chosenLayers =
          layerDecision.kind === 'chosen' ? layerDecision.choices.map((each) => each.descriptor) : [];
        assert.ok(chosenLayers.every((each) => candidates.includes(each as (typeof candidates)[number])));
        assert.ok(chosenLayers.every((each) => each.digest.startsWith('sha256:')));
        const chosenDigests = chosenLayers.map((each) => each.digest);
        const accountedFor = [
          ...layerDecision.refusals.map((each) => each.candidate.split(' ')[0]),
          ...chosenDigests,
        ];
        assert.ok(candidates.every((each) => accountedFor.includes(each.digest)));
        const childDecision = chooseChild({ kind: 'index', mediaType: '', manifests: candidates });
        const hasWasm = candidates.some(
          (each) =>
            each.mediaType === ociManifest &&
            each.digest.startsWith('sha256:') &&
            each.platform?.os === 'wasip1' &&
            each.platform.architecture === 'wasm',
        );
        if (hasWasm && childDecision.kind === 'chosen') {
          const { platform } = childDecision.descriptor;
          assert.equal(`${platform?.os}/${platform?.architecture}`, 'wasip1/wasm');
        }
        assert.equal(
          childDecision.refusals.length,
          candidates.length - (childDecision.kind === 'chosen' ? 1 : 0),
        );
      }),
      { seed: 7, numRuns: 500 },
    );
  });
});
