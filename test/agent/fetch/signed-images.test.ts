import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { parseCacheRecord } from '../../../agent/fetch/cache-records.ts';
import type { FetchSettings, ModuleTerms } from '../../../agent/fetch/fetch-settings.ts';
import type { Signer } from '../../../agent/fetch/signature/signer.ts';
import { signatureTag } from '../../../agent/fetch/signature/simple-signing.ts';
import { FetchError } from '../../../agent/fetch/types.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, type StoredManifest } from './image-registry.ts';
import { ImageSigner, putClassic } from './image-signer.ts';
import { pluginLayer, sha256, wasmModule } from './module-bytes.ts';
import { classicPayload, signClassic, signClassicKeyless } from './signature/cosign-signer.ts';
import { PrivateSigstore } from './signature/private-sigstore.ts';
import { signersOf } from './signature/signed-registry.ts';
import { answer, startWebServer, type WebServer } from './web-server.ts';

const release = new ImageSigner('release');
const stranger = new ImageSigner('stranger');
const sigstore = new PrivateSigstore();
const identity = { issuer: 'https://issuer.test', subject: 'https://git.test/team/ci' };
const ci = await signersOf([
  { kind: 'keyless', name: 'ci', trustedRoot: sigstore.trustedRoot(), identities: [identity] },
]);
const module = wasmModule('signed');
const layer = await pluginLayer(module);
const layerDigest = sha256(layer);

function push(registry: ImageRegistry, tag: string, bytes: Uint8Array = layer): StoredManifest {
  return registry.image([{ mediaType: ociTarGzip, bytes }], { tags: [tag] });
}

/** What the operator asks for; may be changed at any time. */
class Demand {
  signers: readonly Signer[] | undefined;
  terms: Partial<ModuleTerms> = {};

  constructor(signers: readonly Signer[] | undefined) {
    this.signers = signers;
  }

  get settings(): Partial<FetchSettings> {
    return {
      signersFor: () => (this.signers === undefined ? undefined : { signers: this.signers }),
      module: () => ({ layouts: [], mirrors: [], ...this.terms }),
    };
  }
}

/** A registry with nothing in it yet, and an agent's source that asks for these signers. */
async function scene(signers: readonly Signer[] | undefined) {
  const registry = new ImageRegistry();
  const server = await startWebServer(registry.handle);
  const demand = new Demand(signers);
  const fixture = await FetchFixture.open({ settings: demand.settings });
  return {
    registry,
    server,
    demand,
    fixture,
    url: `oci://${server.host}/team/plugin:v1`,
    [Symbol.asyncDispose]: async () => {
      await fixture[Symbol.asyncDispose]();
      await server.close();
    },
  };
}

function layerReads(server: WebServer, digest = layerDigest): number {
  return server.count(`GET /v2/team/plugin/blobs/sha256:${digest}`);
}

/** The refusal of a fetch; fails when there is none. */
async function refusal(fetching: Promise<unknown>): Promise<FetchError> {
  const error: unknown = await fetching.then(
    () => assert.fail('it was served'),
    (each: unknown) => each,
  );
  assert.ok(error instanceof FetchError, String(error));
  return error;
}

describe('an image that must be signed', () => {
  const good: Readonly<Record<string, (registry: ImageRegistry, image: StoredManifest) => unknown>> = {
    'a classic signature': (registry, image) => release.sign(registry, image.digest),
    'a bundle': (registry, image) => release.signBundle(registry, image),
    'one good signature among others': (registry, { digest }) =>
      putClassic(registry, digest, release.classic(digest), stranger.classic(digest)),
  };
  for (const [what, sign] of Object.entries(good)) {
    it(`is served with ${what}, and who signed it is told`, async () => {
      await using s = await scene(await release.signers());
      sign(s.registry, push(s.registry, 'v1'));
      const fetched = await s.fixture.fetch(s.url);
      assert.deepEqual(await readFile(fetched.path), module);
      assert.equal(fetched.signature?.signer, 'release');
      assert.match(fetched.signature.proof, /^key [0-9a-f]{12}, on the manifest$/);
    });
  }

  it('is served with the signature of an identity', async () => {
    await using s = await scene(ci);
    const { digest } = push(s.registry, 'v1');
    const options = { sigstore, ...identity };
    putClassic(s.registry, digest, signClassicKeyless(options, classicPayload(digest)));
    const { signature } = await s.fixture.fetch(s.url);
    assert.deepEqual(signature, {
      signer: 'ci',
      proof: 'certificate for https://git.test/team/ci by https://issuer.test, on the manifest',
    });
  });

  const other = 'e'.repeat(64);
  const late = { sigstore, ...identity, signedAfterMs: 11 * 60_000 };
  const bad: readonly {
    readonly what: string;
    readonly signers?: readonly Signer[];
    readonly sign: (registry: ImageRegistry, digest: string) => unknown;
    readonly reason: RegExp;
    readonly counted: string;
  }[] = [
    {
      what: 'without a signature',
      sign: () => undefined,
      reason:
        /looked for a cosign signature at oci:\S+:sha256-[0-9a-f]{64}\.sig: no such tag; sign the image/,
      counted: 'unsigned',
    },
    {
      what: 'signed by somebody else',
      sign: (registry, digest) => stranger.sign(registry, digest),
      reason: /of the signer "release" at \S+\.sig, layer .*: no key of the signer made it/,
      counted: 'wrong_signature',
    },
    {
      what: 'with a signature that was replayed from another image',
      sign: (registry, digest) => release.sign(registry, other, digest),
      reason: /e{64}/,
      counted: 'other_digest',
    },
    {
      what: 'with a certificate that had expired when it was signed',
      signers: ci,
      sign: (registry, digest) =>
        putClassic(registry, digest, signClassicKeyless(late, classicPayload(digest))),
      reason: /of the signer "ci"/,
      counted: 'expired',
    },
    {
      what: 'with a changed signature',
      sign: (registry, digest) => {
        const { payload, annotations } = signClassic(release.key, classicPayload(digest));
        putClassic(registry, digest, { payload: Buffer.concat([payload, Buffer.from(' ')]), annotations });
      },
      reason: /no key of the signer made it over these bytes/,
      counted: 'wrong_signature',
    },
    {
      what: 'under a rule without a signer',
      signers: [],
      sign: (registry, digest) => release.sign(registry, digest),
      reason: /names nobody who may sign it/,
      counted: 'no_signer',
    },
  ];
  for (const { what, signers, sign, reason, counted } of bad) {
    it(`${what} is refused and explained, and no layer of it is read`, async () => {
      await using s = await scene(signers ?? (await release.signers()));
      const { digest } = push(s.registry, 'v1');
      sign(s.registry, digest);
      const error = await refusal(s.fixture.fetch(s.url));
      assert.deepEqual([error.code, error.result], ['unsigned', 'manifest_failure'], error.message);
      assert.match(
        error.message,
        /^cannot fetch Wasm module oci:\S+: the image \S+ \(manifest sha256:[0-9a-f]{64}\) has no signature of a signer that the policy asks for\. origin 127/,
      );
      assert.match(error.message, reason);
      assert.equal(layerReads(s.server), 0);
      const refusals = await s.fixture.samples('istio_agent_ferry_wasm_refusals_total');
      assert.deepEqual(refusals, [`{reason="${counted}"} 1`]);
    });
  }

  it('whose registry cannot say is tried again, and not taken for unsigned', async () => {
    await using s = await scene(await release.signers());
    const { digest } = push(s.registry, 'v1');
    release.sign(s.registry, digest);
    const tag = `GET /v2/team/plugin/manifests/${signatureTag(digest)}`;
    s.registry.fail(tag, (_, response) => {
      answer(response, 503);
      return true;
    });
    const error = await refusal(s.fixture.fetch(s.url));
    assert.deepEqual([error.code, error.result], ['http_status', 'manifest_failure']);
    assert.match(error.message, /could not verify the signature of manifest sha256:.*status code 503/);
    assert.equal(layerReads(s.server), 0);
  });

  it('is covered by a signature on the index through which it was found', async () => {
    await using s = await scene(await release.signers());
    const image = push(s.registry, 'unused');
    const index = s.registry.index([{ image, platform: { os: 'wasip1', architecture: 'wasm' } }], {
      tags: ['v1'],
    });
    release.sign(s.registry, index.digest);
    const { signature, checksum } = await s.fixture.fetch(s.url);
    assert.equal(checksum, image.digest);
    assert.match(signature?.proof ?? '', /, on the index$/);
    // By its own digest nothing leads through the index, but what was proven of the same bytes stays proven.
    const pinned = await s.fixture.fetch(`oci://${s.server.host}/team/plugin@sha256:${image.digest}`);
    assert.deepEqual([pinned.source, pinned.signature?.signer], ['cache', 'release']);
    await using fresh = await FetchFixture.open({ settings: s.demand.settings });
    const direct = fresh.fetch(`oci://${s.server.host}/team/plugin@sha256:${image.digest}`);
    assert.equal((await refusal(direct)).code, 'unsigned');
  });

  it('is not covered by the signature on an index that another one of the same manifest has', async () => {
    await using s = await scene(await release.signers());
    const image = push(s.registry, 'unused');
    const platform = { os: 'wasip1', architecture: 'wasm' };
    const signed = s.registry.index([{ image: push(s.registry, 'x', await pluginLayer(wasmModule('x'))) }]);
    release.sign(s.registry, signed.digest);
    s.registry.index([{ image, platform }], { tags: ['v1'] });
    assert.equal((await refusal(s.fixture.fetch(s.url))).code, 'unsigned');
  });
});

describe('a cached module that must be signed', () => {
  it('is served without a question once it was proven, also after a restart', async () => {
    await using s = await scene(await release.signers());
    release.sign(s.registry, push(s.registry, 'v1').digest);
    await s.fixture.fetch(s.url);
    const requestCount = s.server.requests.length;
    const again = await s.fixture.fetch(s.url);
    await s.fixture.flush();
    await s.fixture.restart();
    const later = await s.fixture.fetch(s.url);
    assert.deepEqual([again.source, later.source], ['cache', 'cache']);
    assert.deepEqual(later.signature, again.signature);
    assert.equal(later.signature?.signer, 'release');
    assert.equal(s.server.requests.length, requestCount);
  });

  it('is refused when it was fetched before anybody asked for a signature', async () => {
    await using s = await scene(undefined);
    push(s.registry, 'v1');
    assert.equal((await s.fixture.fetch(s.url)).signature, undefined);
    s.demand.signers = await release.signers();
    assert.equal((await refusal(s.fixture.fetch(s.url))).code, 'unsigned');
    s.demand.signers = undefined;
    assert.equal((await s.fixture.fetch(s.url)).source, 'cache');
  });

  it('is proven anew for other signers, and not downloaded again', async () => {
    await using s = await scene(await release.signers());
    const { digest } = push(s.registry, 'v1');
    release.sign(s.registry, digest);
    await s.fixture.fetch(s.url);
    s.demand.signers = await stranger.signers();
    for (const url of [s.url, `oci://${s.server.host}/team/plugin@sha256:${digest}`]) {
      const error = await refusal(s.fixture.fetch(url));
      assert.deepEqual([error.code, error.result], ['unsigned', 'manifest_failure'], error.message);
    }
    putClassic(s.registry, digest, release.classic(digest), stranger.classic(digest));
    const fetched = await s.fixture.fetch(s.url);
    assert.deepEqual([fetched.source, fetched.signature?.signer], ['cache', 'stranger']);
    assert.equal(layerReads(s.server), 1);
    // Both verdicts are kept: going back asks nobody.
    const requestCount = s.server.requests.length;
    s.demand.signers = await release.signers();
    assert.equal((await s.fixture.fetch(s.url)).signature?.signer, 'release');
    assert.equal(s.server.requests.length, requestCount);
  });

  it('gives way to a signed image that its tag names by now', async () => {
    await using s = await scene(undefined);
    push(s.registry, 'v1');
    const ifNotPresent = { pullPolicy: 'if-not-present' } as const;
    await s.fixture.fetch(s.url, ifNotPresent);
    const newer = wasmModule('newer');
    release.sign(s.registry, push(s.registry, 'v1', await pluginLayer(newer)).digest);
    s.demand.signers = await release.signers();
    const fetched = await s.fixture.fetch(s.url, ifNotPresent);
    assert.deepEqual(await readFile(fetched.path), newer);
    assert.equal(fetched.signature?.signer, 'release');
  });

  it('is proven where its tag is unchanged and it is asked for that', async () => {
    await using s = await scene(undefined);
    const { digest } = push(s.registry, 'v1');
    const always = { pullPolicy: 'always' } as const;
    await s.fixture.fetch(s.url, { ...always, pluginResourceVersion: '1' });
    s.demand.signers = await release.signers();
    const unsigned = s.fixture.fetch(s.url, { ...always, pluginResourceVersion: '2' });
    assert.equal((await refusal(unsigned)).code, 'unsigned');
    release.sign(s.registry, digest);
    const fetched = await s.fixture.fetch(s.url, { ...always, pluginResourceVersion: '3' });
    assert.deepEqual([fetched.source, fetched.signature?.signer], ['cache', 'release']);
  });

  it('stands in for a registry that is gone only with a signature of the signers of now', async () => {
    await using s = await scene(await release.signers());
    s.demand.terms = { staleIfErrorMs: 60_000 };
    release.sign(s.registry, push(s.registry, 'v1').digest);
    const always = { pullPolicy: 'always' } as const;
    await s.fixture.fetch(s.url, { ...always, pluginResourceVersion: '1' });
    await s.server.close();
    const stale = await s.fixture.fetch(s.url, { ...always, pluginResourceVersion: '2' });
    assert.deepEqual([stale.isStale, stale.signature?.signer], [true, 'release']);
    s.demand.signers = await stranger.signers();
    const error = await refusal(s.fixture.fetch(s.url, { ...always, pluginResourceVersion: '3' }));
    assert.equal(error.code, 'network');
    assert.equal((await refusal(s.fixture.fetch(s.url))).code, 'network');
  });

  it('asked for at once under two sets of signers is given to one and refused to the other', async () => {
    await using s = await scene(await release.signers());
    release.sign(s.registry, push(s.registry, 'v1').digest);
    const first = s.fixture.fetch(s.url, { resourceName: 'a' });
    // The demand is read when the request comes; the first one is under way.
    await s.server.seen('GET /v2/');
    s.demand.signers = await stranger.signers();
    const second = s.fixture.fetch(s.url, { resourceName: 'b' });
    assert.equal((await refusal(second)).code, 'unsigned');
    assert.equal((await first).signature?.signer, 'release');
  });

  it('is not known any more when what is kept of its signature makes no sense', async () => {
    await using s = await scene(await release.signers());
    release.sign(s.registry, push(s.registry, 'v1').digest);
    await s.fixture.fetch(s.url);
    const entries = JSON.parse(s.fixture.recordsText()) as [string, { signatures?: [object] }][];
    const record = entries.map(([, each]) => each).find(({ signatures }) => signatures !== undefined);
    const [signature] = record?.signatures ?? assert.fail('no signature was kept');
    assert.deepEqual(parseCacheRecord(record), record);
    for (const change of [
      { signerSet: 'x' },
      { signer: 7 },
      { proof: { kind: 'trust me' } },
      { proof: null },
      { signed: 'layer' },
      { signedDigest: undefined },
    ]) {
      const changed = { ...record, signatures: [{ ...signature, ...change }] };
      assert.equal(parseCacheRecord(changed), undefined, JSON.stringify(change));
    }
    assert.equal(parseCacheRecord({ ...record, signatures: 'all' }), undefined);
  });
});

describe('an image at a mirror that must be signed', () => {
  async function mirrored(signers: readonly Signer[]) {
    const s = await scene(signers);
    const registry = new ImageRegistry();
    const server = await startWebServer(registry.handle);
    const mirrors = [{ url: `oci://${server.host}/copies/plugin:v1`, timeoutMs: 10_000 }];
    s.demand.terms = { mirrors };
    return {
      ...s,
      mirror: { registry, server },
      [Symbol.asyncDispose]: async () => {
        await s[Symbol.asyncDispose]();
        await server.close();
      },
    };
  }

  it('is served with the signature that its origin has', async () => {
    await using s = await mirrored(await release.signers());
    const { digest } = push(s.mirror.registry, 'v1');
    release.sign(s.registry, digest);
    const fetched = await s.fixture.fetch(s.url);
    assert.equal(fetched.signature?.signer, 'release');
    assert.match(fetched.sourceName ?? '', /^mirror /);
    assert.equal(layerReads(s.server), 0);
  });

  it('is served with the signature beside it while its origin is gone', async () => {
    await using s = await mirrored(await release.signers());
    release.sign(s.mirror.registry, push(s.mirror.registry, 'v1').digest);
    await s.server.close();
    assert.equal((await s.fixture.fetch(s.url)).signature?.signer, 'release');
  });

  it('is left for the signed one of the origin', async () => {
    await using s = await mirrored(await release.signers());
    const forged = await pluginLayer(wasmModule('forged'));
    stranger.sign(s.mirror.registry, push(s.mirror.registry, 'v1', forged).digest);
    release.sign(s.registry, push(s.registry, 'v1').digest);
    const fetched = await s.fixture.fetch(s.url);
    assert.deepEqual(await readFile(fetched.path), module);
    assert.equal(s.mirror.server.count(`GET /v2/copies/plugin/blobs/sha256:${sha256(forged)}`), 0);
    const [tried] = fetched.trace?.tried ?? [];
    assert.match(
      tried?.reason ?? '',
      /mirror oci:\S+: looked for .*no key of the signer.*origin 127\S+: looked for/,
    );
  });

  it('is refused while neither has a signature, and tried again soon while the origin is gone', async () => {
    await using s = await mirrored(await release.signers());
    push(s.mirror.registry, 'v1');
    push(s.registry, 'v1');
    assert.equal((await refusal(s.fixture.fetch(s.url))).code, 'unsigned');
    await s.server.close();
    assert.equal((await refusal(s.fixture.fetch(s.url))).code, 'network');
  });

  it('never comes from a web server, which has no signatures', async () => {
    await using s = await scene(await release.signers());
    await using files = await startWebServer((_, response) => answer(response, 200, wasmModule('forged')));
    s.demand.terms = { mirrors: [{ url: `${files.url}/plugin.wasm`, timeoutMs: 10_000 }] };
    release.sign(s.registry, push(s.registry, 'v1').digest);
    const fetched = await s.fixture.fetch(s.url);
    assert.deepEqual(await readFile(fetched.path), module);
    assert.equal(files.requests.length, 0);
    const error = await refusal(s.fixture.fetch(`${files.url}/plugin.wasm`));
    assert.equal(error.code, 'unsigned');
    assert.match(error.message, /files from http\(s\) URLs have none; push the module to a registry/);
  });
});
