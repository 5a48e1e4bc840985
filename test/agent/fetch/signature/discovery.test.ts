import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { referrersTag } from '../../../../agent/fetch/signature/bundle.ts';
import type { Signer } from '../../../../agent/fetch/signature/signer.ts';
import { signatureTag } from '../../../../agent/fetch/signature/simple-signing.ts';
import { describeReasons } from '../../../../agent/fetch/signature/verdict.ts';
import { ociIndexType, ociManifestType } from '../../../support/image-layout.ts';
import { classicPayload, keyBundle, makeKey, signClassic, signStatement } from './cosign-signer.ts';
import { codesOf, type SignedImage, SignedRegistry, signersOf } from './signed-registry.ts';

const key = makeKey('P-256');
const bundleType = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const simpleSigningType = 'application/vnd.dev.cosign.simplesigning.v1+json';
const signatureKey = 'dev.cosignproject.cosign/signature';

describe('the search for signatures', () => {
  let server: SignedRegistry;
  let signers: readonly Signer[];
  before(async () => {
    server = await SignedRegistry.start();
    signers = await signersOf([{ kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] }]);
  });
  after(async () => server[Symbol.asyncDispose]());

  const goodBundle = (image: SignedImage): Record<string, unknown> =>
    keyBundle(key, signStatement(image.digest));
  const goodLayer = (image: SignedImage): ReturnType<typeof signClassic> =>
    signClassic(key, classicPayload(image.digest));
  const codes = async (image: SignedImage, isApiAsked?: boolean): Promise<readonly string[]> =>
    codesOf(await image.verify(signers, isApiAsked === undefined ? {} : { isApiAsked }));
  const requests = (image: SignedImage): readonly string[] =>
    server.registry.http.requests
      .filter(({ path }) => path.startsWith(`/v2/${image.repository}/`))
      .map(({ path }) => path.slice(`/v2/${image.repository}/`.length).replaceAll(image.digest, '<digest>'));

  it('tells of an unsigned image what was looked for, where, what was seen and what to do', async () => {
    const image = server.image();
    const verdict = await image.verify(signers);
    assert.ok(verdict.kind === 'refused');
    assert.deepEqual(codesOf(verdict), ['unsigned', 'unsigned']);
    const text = describeReasons(verdict.reasons);
    const name = `oci://${server.registry.host}/${image.repository}`;
    assert.equal(
      text,
      `looked for a cosign signature at ${name}:sha256-${image.digest}.sig: no such tag; sign the image with cosign. ` +
        `looked for a signature bundle at ${name}:sha256-${image.digest}: the registry has no referrers API (status 404), and no such tag; sign the image with cosign`,
    );
    assert.deepEqual(requests(image), [
      'manifests/sha256-<digest>.sig',
      'referrers/sha256:<digest>',
      'manifests/sha256-<digest>',
    ]);
  });

  it('refuses all images where nobody may sign, without asking the registry', async () => {
    const image = server.image();
    assert.deepEqual(codesOf(await image.verify([])), ['no_signer']);
    assert.deepEqual(requests(image), []);
  });

  it('ends with the first good signature', async () => {
    const image = server.image();
    await image.signClassic(goodLayer(image));
    assert.deepEqual(await codes(image), ['verified']);
    assert.equal(requests(image).length, 2);
  });

  it('asks the referrers API for bundles, and the fallback tag where there is none', async () => {
    const listed = server.image();
    await listed.signBundle(goodBundle(listed), 'api');
    assert.deepEqual(await codes(listed), ['verified']);
    assert.ok(!requests(listed).includes('manifests/sha256-<digest>'));
    for (const status of [400, 404, 405, 406, 501]) {
      const image = server.image();
      image.answerReferrers(status, '');
      await image.signBundle(goodBundle(image));
      assert.deepEqual(await codes(image), ['verified'], `status ${status}`);
    }
    const image = server.image();
    await image.signBundle(goodBundle(image));
    assert.deepEqual(await codes(image, false), ['verified']);
    assert.ok(!requests(image).some((path) => path.startsWith('referrers')));
  });

  it('asks the fallback tag also where the API lists nothing that is a bundle, or is no API', async () => {
    const attestation = {
      artifactType: bundleType,
      digest: `sha256:${'1'.repeat(64)}`,
      size: 1,
      annotations: { 'dev.sigstore.bundle.predicateType': 'https://slsa.dev/provenance/v1' },
    };
    for (const answer of [
      '{"manifests":[]}',
      '{"manifests":null}',
      '<html>welcome</html>',
      JSON.stringify({ manifests: [attestation] }),
    ]) {
      const image = server.image();
      image.answerReferrers(200, answer);
      await image.signBundle(goodBundle(image));
      assert.deepEqual(await codes(image), ['verified'], answer);
    }
  });

  it('reads artifacts whose type the list does not give, after those whose type it gives', async () => {
    for (const artifactType of [undefined, null, 'application/vnd.oci.empty.v1+json']) {
      const image = server.image();
      const other = await image.putBundle('{}');
      const good = await image.putBundle(goodBundle(image));
      image.list('api', { ...other, artifactType }, { ...good, artifactType });
      assert.deepEqual(await codes(image), ['verified'], String(artifactType));
      image.list('api', { ...other, artifactType }, good);
      server.registry.http.forgetRequests();
      assert.deepEqual(await codes(image), ['verified']);
      assert.ok(!requests(image).includes(`manifests/${other.digest}`));
    }
    const image = server.image();
    image.list('api', {
      ...(await image.putBundle(goodBundle(image))),
      artifactType: 'application/spdx+json',
    });
    assert.deepEqual(await codes(image), ['unsigned', 'unsigned']);
  });

  it('follows the pages of the API, up to a bound', async () => {
    const image = server.image();
    const good = await image.putBundle(goodBundle(image));
    const path = `/v2/${image.repository}/referrers/sha256:${image.digest}`;
    const next = { link: `<${path}?last=1>; rel="next"` };
    image.answerReferrers(200, '{"manifests":[]}', next);
    const more = { path, when: ({ query }: { readonly query: URLSearchParams }) => query.has('last') };
    const body = JSON.stringify({ manifests: [good] });
    server.registry.http.script(more, { kind: 'status', status: 200, body });
    assert.deepEqual(await codes(image), ['verified']);
    for (let pageCount = 1; pageCount < 20; pageCount += 1) {
      const at = String(pageCount);
      const link = `<${path}?last=${pageCount + 1}>; rel="next"`;
      const isPage = ({ query }: { readonly query: URLSearchParams }): boolean => query.get('last') === at;
      server.registry.http.script(
        { path, when: isPage },
        { kind: 'status', status: 200, body: '{"manifests":[]}', headers: { link } },
      );
    }
    server.registry.http.forgetRequests();
    assert.deepEqual(await codes(image), ['unsigned', 'too_many', 'unsigned']);
    assert.ok(requests(image).filter((each) => each.startsWith('referrers')).length <= 5);
  });

  it('takes the one good signature of many, and looks at no more than a bound', async () => {
    const image = server.image();
    const bad = signClassic(makeKey('P-256'), classicPayload(image.digest));
    await image.signClassic(bad, bad, goodLayer(image));
    assert.deepEqual(await codes(image), ['verified']);

    await image.signClassic(goodLayer(image), ...Array.from({ length: 32 }, () => bad));
    const verdict = await image.verify(signers);
    assert.ok(verdict.kind === 'refused');
    // 32 signatures, a word on the one that was left out, and no bundle; the list of reasons is cut.
    assert.equal(verdict.reasons.length, 25);
    assert.match(verdict.reasons.at(-1)?.seen ?? '', /^10 more/);
    assert.match(describeReasons(verdict.reasons), /And 19 more$/);
    assert.ok(describeReasons(verdict.reasons).length < 5000);

    const many = server.image();
    const wrong = await many.putBundle(keyBundle(makeKey('P-256'), signStatement(many.digest)));
    many.list('tag', ...Array.from({ length: 40 }, () => wrong), await many.putBundle(goodBundle(many)));
    assert.equal((await codes(many)).length, 25);
    assert.equal(requests(many).filter((path) => path === `manifests/${wrong.digest}`).length, 32);
  });

  const garbage: readonly (readonly [string, unknown])[] = [
    ['an index', { manifests: [] }],
    ['an image without layers', { layers: [] }],
    ['an image of other layers', { layers: [{ mediaType: 'text/plain', digest: 'x', size: 1 }] }],
    ['a number', 7],
    ['null', null],
    ['layers that are no list', { layers: {} }],
    ['a layer without digest', { layers: [{ mediaType: simpleSigningType, size: 1 }] }],
    ['a layer with a negative size', { layers: [{ mediaType: simpleSigningType, digest: 'x', size: -1 }] }],
    [
      'annotations that are no texts',
      { layers: [{ mediaType: simpleSigningType, digest: 'x', size: 1, annotations: { a: 1 } }] },
    ],
    [
      'a digest of another kind',
      {
        layers: [
          {
            mediaType: simpleSigningType,
            digest: 'sha512:00',
            size: 1,
            annotations: { [signatureKey]: 'AAAA' },
          },
        ],
      },
    ],
    [
      'a signature that is no base64',
      {
        layers: [
          {
            mediaType: simpleSigningType,
            digest: `sha256:${'0'.repeat(64)}`,
            size: 1,
            annotations: { [signatureKey]: '?' },
          },
        ],
      },
    ],
    [
      'no signature',
      { layers: [{ mediaType: simpleSigningType, digest: `sha256:${'0'.repeat(64)}`, size: 1 }] },
    ],
  ];
  for (const [name, document] of garbage) {
    it(`explains ${name} where the classic signatures should be`, async () => {
      const image = server.image();
      image.tag(
        signatureTag(image.digest),
        server.registry.putManifest(image.repository, ociManifestType, document),
      );
      assert.deepEqual(await codes(image), ['malformed', 'unsigned']);
    });
  }

  it('explains what is no list of bundles, no bundle, or not there', async () => {
    const cases: readonly (readonly [string, (image: SignedImage) => Promise<unknown>])[] = [
      [
        'malformed',
        async (image) =>
          image.tag(
            referrersTag(image.digest),
            server.registry.putManifest(image.repository, ociManifestType, { layers: [] }),
          ),
      ],
      [
        'malformed',
        async (image) => image.list('tag', { artifactType: bundleType, digest: 'md5:0', size: 1 }),
      ],
      ['malformed', async (image) => image.signBundle('no json')],
      [
        'malformed',
        async (image) =>
          image.signBundle({
            dsseEnvelope: { payload: '?', payloadType: '', signatures: [{ sig: 'AAAA' }] },
          }),
      ],
      [
        'malformed',
        async (image) =>
          image.signBundle({ dsseEnvelope: { payload: 'AAAA', payloadType: '', signatures: [] } }),
      ],
      ['malformed', async (image) => image.signBundle(withSecondSignature(goodBundle(image)))],
      ['malformed', async (image) => image.signBundle(keyBundle(key, Buffer.from('no statement')))],
      ['other_kind', async (image) => image.signBundle({})],
      [
        'missing',
        async (image) =>
          image.list('tag', { artifactType: bundleType, digest: `sha256:${'2'.repeat(64)}`, size: 1 }),
      ],
      [
        'other_kind',
        async (image) =>
          image.list('tag', {
            ...server.registry.putManifest(image.repository, ociIndexType, { manifests: [] }),
            artifactType: bundleType,
          }),
      ],
    ];
    for (const [index, [code, put]] of cases.entries()) {
      const image = server.image();
      await put(image);
      assert.equal((await codes(image))[1], code, `case ${index}`);
    }
  });

  it('does not read blobs that are too large, and no more of a blob than it should have', async () => {
    const classic = server.image();
    const payload = Buffer.alloc(64 * 1024 + 1, 0x20);
    await classic.signClassic(signClassic(key, payload));
    assert.deepEqual(await codes(classic), ['too_large', 'unsigned']);
    const bundle = server.image();
    await bundle.signBundle({ ...goodBundle(bundle), padding: ' '.repeat(1024 * 1024) });
    assert.deepEqual(await codes(bundle), ['unsigned', 'too_large']);
    assert.ok(
      !requests(classic)
        .concat(requests(bundle))
        .some((path) => path.startsWith('blobs/')),
    );

    const lying = server.image();
    await lying.signClassic(goodLayer(lying));
    const digest = createHash('sha256').update(classicPayload(lying.digest)).digest('hex');
    const path = `/v2/${lying.repository}/blobs/sha256:${digest}`;
    server.registry.http.script({ path, times: 1 }, { kind: 'status', status: 200, body: 'x'.repeat(1000) });
    assert.deepEqual(await codes(lying), ['too_large', 'unsigned']);
    server.registry.http.script({ path, times: 1 }, { kind: 'wrong-bytes' });
    assert.deepEqual(await codes(lying), ['altered', 'unsigned']);
    server.registry.http.script({ path, times: 1 }, { kind: 'status', status: 404 });
    assert.deepEqual(await codes(lying), ['missing', 'unsigned']);
    assert.deepEqual(await codes(lying), ['verified']);
  });

  it('fails, and does not refuse, when the registry could not be asked and nothing else is good', async () => {
    const image = server.image();
    const path = `/v2/${image.repository}/manifests/${signatureTag(image.digest)}`;
    server.registry.http.script({ path }, { kind: 'status', status: 403 });
    await assert.rejects(image.verify(signers), {
      code: 'unauthorized',
      message: /could not look for a cosign signature at oci:.*\.sig.*403/,
    });
    server.registry.http.script({ path }, { kind: 'disconnect' });
    await assert.rejects(image.verify(signers), { code: 'network' });
    image.answerReferrers(500, '');
    await assert.rejects(image.verify(signers), { code: 'network' });
    await image.signBundle(goodBundle(image));
    assert.deepEqual(await codes(image), ['verified']);
  });

  it('ends when nobody waits any more, wherever it is', async () => {
    const image = server.image();
    await image.signClassic(goodLayer(image));
    const paths = [/\.sig$/, /\/blobs\//];
    for (const path of paths) {
      const released = Promise.withResolvers<void>();
      const abort = new AbortController();
      const match = { path };
      server.registry.http.script(
        { ...match, times: 1 },
        { kind: 'delay', until: async () => released.promise },
      );
      server.registry.http.forgetRequests();
      const verdict = image.verify(signers, { signal: abort.signal });
      const rejected = assert.rejects(verdict, { name: 'FetchError', code: 'aborted' });
      await server.registry.http.waitForRequests(match);
      abort.abort();
      await rejected;
      released.resolve();
    }
  });
});

/** The bundle specification allows one signature; of two, nobody knows which counts. */
function withSecondSignature(bundle: Record<string, unknown>): unknown {
  const envelope = bundle['dsseEnvelope'] as { readonly signatures: readonly unknown[] };
  return {
    ...bundle,
    dsseEnvelope: { ...envelope, signatures: [...envelope.signatures, ...envelope.signatures] },
  };
}
