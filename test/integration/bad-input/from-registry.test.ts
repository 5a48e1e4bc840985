import assert from 'node:assert/strict';
import test from 'node:test';
import { gzipSync } from 'node:zlib';
import { componentHeader, pluginLayer, tarOf, wasmModule } from '../../agent/fetch/module-bytes.ts';
import type { Fault } from '../../support/fault.ts';
import { ociManifestType } from '../../support/image-layout.ts';
import { Registry } from '../../support/registry.ts';
import { checkAccepted } from './checks.ts';
import {
  bigModule,
  type FetchCase,
  html,
  runFetchCases,
  secret,
  startFetchScene,
  type Wanted,
} from './fetch-cases.ts';

const tarGzip = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** An image in a registry that does these things wrong when asked for the part. */
async function image(
  registry: Registry,
  name: string,
  part: 'manifests' | 'blobs',
  ...faults: readonly Fault[]
): Promise<Wanted & { readonly digest: string }> {
  const repository = `team/${name}`;
  const { url, digest } = await registry.pushImage({
    repository,
    tag: 'v1',
    layout: 'oci-artifact',
    wasm: wasmModule(name),
  });
  if (faults.length > 0) registry.http.script({ path: new RegExp(`/${name}/${part}/`) }, ...faults);
  return { url, digest };
}

/** Of the module of each of the cases below. */
const sizeBytes = wasmModule('case-10').byteLength;
const sentMore = new RegExp(
  `the server sends more than the ${sizeBytes} bytes that the manifest says for sha256:[0-9a-f]{64}; push the image again`,
);

/** An image with one layer of this content. */
async function imageOf(
  registry: Registry,
  name: string,
  mediaType: string,
  content: Uint8Array,
): Promise<Wanted> {
  const repository = `team/${name}`;
  const part = (mediaType: string, bytes: Uint8Array) =>
    registry.putBlob(repository, { mediaType, content: { kind: 'bytes', bytes } });
  const config = await part('application/vnd.oci.image.config.v1+json', Buffer.from('{}'));
  const layers = [await part(mediaType, content)];
  const manifest = registry.putManifest(repository, ociManifestType, {
    schemaVersion: 2,
    mediaType: ociManifestType,
    config,
    layers,
  });
  registry.setTag(repository, 'v1', manifest.digest);
  return { url: `oci://${registry.host}/${repository}:v1` };
}

/** Input, text of the secret, what is told of it. */
const pullSecretCases: readonly (readonly [string, string, RegExp])[] = [
  [
    'an empty pull secret',
    '',
    /missing image pulling secret \(istiod does not know the secret, or may not give it to this proxy\)/,
  ],
  [
    'a pull secret that is no JSON',
    secret,
    /the image pull secret is not JSON \(7 characters\); give a docker config JSON like/,
  ],
  ['the pull secret null', 'null', /the image pull secret is the JSON text null, it holds no credentials/],
  ['a pull secret that is a list', `["${secret}"]`, /the image pull secret is a JSON array, not an object/],
  [
    'a pull secret with a broken entry',
    `{"auths":{"127.0.0.1":{"auth":"${secret}"}}}`,
    /the image pull secret has a field "auth" for "127\.0\.0\.1:\d+" that is not base64/,
  ],
];

const ociCases: readonly FetchCase<Registry>[] = [
  {
    input: 'an HTML page as manifest',
    want: (at, name) => image(at, name, 'manifests', { kind: 'status', status: 200, body: html }),
    reason:
      /the answer is no manifest: it is not JSON \(content type text\/html; charset=utf-8\); check that the URL names a registry$/,
  },
  {
    input: 'a manifest without layers',
    want: async (at, name) => {
      const manifest = at.putManifest(`team/${name}`, ociManifestType, { schemaVersion: 2 });
      at.setTag(`team/${name}`, 'v1', manifest.digest);
      return { url: `oci://${at.host}/team/${name}:v1` };
    },
    reason: /the manifest has neither "layers" nor "manifests"; it is no image/,
  },
  {
    input: 'a manifest of another digest than asked for',
    want: async (at, name) => {
      const { digest } = await image(at, name, 'manifests', { kind: 'wrong-bytes', atByte: 30 });
      return { url: `oci://${at.host}/team/${name}@sha256:${digest}` };
    },
    reason:
      /the registry answered for manifest sha256:[0-9a-f]{64} with bytes of sha256:[0-9a-f]{64}; do not trust it/,
  },
  ...[404, 401, 403].map((status) => ({
    input: `status ${status} for a manifest`,
    want: (at: Registry, name: string) =>
      image(at, name, 'manifests', { kind: 'status', status, body: html }),
    reason: new RegExp(`status code ${status}`),
  })),
  ...[500, 503, 429].map((status) => ({
    input: `status ${status} with Retry-After: 120 for a manifest`,
    want: (at: Registry, name: string) =>
      image(at, name, 'manifests', { kind: 'status', status, headers: { 'retry-after': '120' } }),
    reason: new RegExp(`status code ${status}`),
    logLine: /\tinfo\twasm\tWasm module will be fetched again\t.*attemptCount=1 inMs=1[2-8]\d{4}$/,
  })),
  {
    input: 'a tag that is not there',
    want: (at) => ({ url: `oci://${at.host}/team/nothing:v1` }),
    reason: /team\/nothing manifests\/v1: status code 404 \(MANIFEST_UNKNOWN\)/,
  },
  {
    input: 'a redirect of the registry to a link-local address',
    want: (at, name) =>
      image(at, name, 'blobs', { kind: 'redirect', location: 'http://169.254.169.254/blob' }),
    reason: /refused: it leads to the internal address 169\.254\.169\.254 of another host; use a name/,
  },
  {
    input: 'a layer of another digest',
    want: (at, name) => image(at, name, 'blobs', { kind: 'wrong-bytes', atByte: 12 }),
    reason: new RegExp(
      `the server sent ${sizeBytes} bytes with sha256:[0-9a-f]{64} where the manifest says ${sizeBytes} bytes with sha256:[0-9a-f]{64}`,
    ),
  },
  {
    input: 'a layer longer than its descriptor',
    want: (at, name) => image(at, name, 'blobs', { kind: 'status', status: 200, body: 'x'.repeat(10_000) }),
    reason: sentMore,
  },
  {
    input: 'an HTML page as layer',
    want: (at, name) => image(at, name, 'blobs', { kind: 'status', status: 200, body: html.padEnd(1_000) }),
    reason: sentMore,
  },
  {
    input: 'a layer whose connection is cut again and again',
    want: async (at, name) => ({
      ...(await image(at, name, 'blobs', { kind: 'cut', afterBytes: 1 })),
      timeoutSeconds: 3,
    }),
    reason:
      /could not fetch Wasm binary: layer sha256:[0-9a-f]{64}: GET http:\S+: reading the answer: other side closed/,
  },
  {
    input: 'a layer that trickles past the deadline of the fetch',
    want: async (at, name) => {
      const stall: Fault = { kind: 'stall', afterBytes: 9, until: () => new Promise(() => undefined) };
      return { ...(await image(at, name, 'blobs', stall)), timeoutSeconds: 1.5 };
    },
    reason: /fetching oci:\S+: no complete answer within the time limit \(1500 ms\)$/,
  },
  {
    input: 'a layer that is no gzip',
    want: (at, name) => imageOf(at, name, tarGzip, Buffer.from('plain text')),
    reason:
      /layer sha256:[0-9a-f]{64} \(it is the last layer and a tar archive\): it is neither Wasm, gzip nor tar \(first bytes 70 6c 61 69\)/,
  },
  {
    input: 'a layer that is a gzip bomb',
    want: async (at, name) => imageOf(at, name, tarGzip, await pluginLayer(bigModule(name, 20_000_000))),
    reason: new RegExp(
      `its tar entry declares ${20_000_000 + sizeBytes} bytes, more than 65536; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES`,
    ),
  },
  {
    input: 'a layer without plugin.wasm',
    want: async (at, name) =>
      imageOf(at, name, tarGzip, gzipSync(await tarOf({ name: 'other.wasm', content: wasmModule(name) }))),
    reason:
      /plugin\.wasm not found in the archive; the image must hold a regular file of that name \(seen: "other\.wasm"\)/,
  },
  {
    input: 'a layer whose plugin.wasm is no module',
    want: async (at, name) => imageOf(at, name, tarGzip, await pluginLayer(Buffer.from('hello'))),
    reason: /the content of its gzip in tar is neither Wasm, gzip nor tar \(first bytes 68 65 6c 6c\)/,
  },
  {
    input: 'a layer that is a component',
    want: (at, name) => imageOf(at, name, 'application/wasm', componentHeader),
    reason: /it is a WebAssembly component; build a core module/,
  },
  {
    input: 'a layer of an unknown type',
    want: (at, name) => imageOf(at, name, 'text/plain', wasmModule(name)),
    reason:
      /the image has no layer of a known kind: .*\(text\/plain\): its media type is not that of a module/,
  },
  {
    input: 'an image of another sha256 than pinned',
    want: async (at, name) => ({ ...(await image(at, name, 'blobs')), sha256: 'b'.repeat(64) }),
    reason:
      /which does not match: b{64} \(digests that would match: manifest [0-9a-f]{64}, layer [0-9a-f]{64}\)/,
  },
  ...pullSecretCases.map(([input, imagePullSecret, reason]) => ({
    input,
    want: async (at: Registry, name: string) => {
      const wanted = await image(at, name, 'blobs');
      return { ...wanted, imagePullSecret: imagePullSecret.replace('127.0.0.1', at.host) };
    },
    reason,
  })),
];

test('bad input from image registries', async (t) => {
  const scene = await startFetchScene(t);
  const registry = await Registry.start();
  t.after(() => registry.close());

  await t.test('a layer whose connection is cut once is taken up where it broke off', async () => {
    await scene.ready();
    const { url } = await image(registry, 'cut-once', 'blobs');
    registry.http.script({ path: /cut-once\/blobs/, times: 1 }, { kind: 'cut', afterBytes: 11 });
    await checkAccepted(scene, scene.target(url));
    const requests = registry.http.requests.filter(({ path }) => /cut-once\/blobs/.test(path));
    assert.deepEqual(
      requests.map(({ headers }) => headers['range']),
      [undefined, 'bytes=11-'],
    );
  });

  await runFetchCases(t, { scene, place: registry, cases: ociCases });
});
