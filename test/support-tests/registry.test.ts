import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { Authority } from '../support/certificate-authority/authority.ts';
import { type HttpAnswer, type HttpGetOptions, httpGet } from '../support/http-get.ts';
import {
  dockerListType,
  dockerManifestType,
  type ImageLayout,
  ociIndexType,
  ociManifestType,
} from '../support/image-layout.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { type Descriptor, Registry } from '../support/registry.ts';

const wasm = Buffer.concat([Buffer.from('\0asm\x01\0\0\0', 'latin1'), Buffer.from('module '.repeat(1000))]);
const accept = [ociManifestType, ociIndexType, dockerManifestType, dockerListType].join(', ');
const repository = 'team/basic_auth';

interface Manifest {
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly manifests: readonly (Descriptor & { readonly platform: object })[];
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

function get(registry: Registry, path: string, options: HttpGetOptions = {}): Promise<HttpAnswer> {
  return httpGet(`${registry.http.url}/v2/${path}`, { ...options, headers: { accept, ...options.headers } });
}

async function onlyFileOf(layer: Uint8Array): Promise<{ name: string; bytes: Buffer }> {
  const archive = extract();
  archive.end(gunzipSync(layer));
  const files: { name: string; bytes: Buffer }[] = [];
  for await (const entry of archive) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
    files.push({ name: entry.header.name, bytes: Buffer.concat(chunks) });
  }
  assert.equal(files.length, 1);
  const [file] = files;
  assert.ok(file !== undefined);
  return file;
}

describe('the registry', () => {
  const layouts: readonly (readonly [ImageLayout, string, number])[] = [
    ['compat', ociManifestType, 1],
    ['compat-docker', dockerManifestType, 1],
    ['oci-artifact', ociManifestType, 2],
    ['cncf', ociManifestType, 1],
    ['wasm-to-oci', ociManifestType, 1],
  ];
  for (const [layout, mediaType, layerCount] of layouts) {
    test(`serves an image of layout ${layout} whose digests are right from tag to module`, async () => {
      await using registry = await Registry.start();
      const image = await registry.pushImage({ repository, tag: '1.0.0', layout, wasm });
      const answer = await get(registry, `${repository}/manifests/1.0.0`);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers['content-type'], mediaType);
      assert.equal(sha256(answer.body), image.manifestDigest);
      assert.equal(image.digest, image.manifestDigest);
      assert.equal(answer.headers['docker-content-digest'], `sha256:${image.manifestDigest}`);
      const byDigest = await get(registry, `${repository}/manifests/sha256:${image.manifestDigest}`);
      assert.deepEqual(byDigest.body, answer.body);
      const manifest = JSON.parse(answer.text) as Manifest;
      assert.equal(manifest.mediaType, mediaType);
      assert.equal(manifest.layers.length, layerCount);
      for (const part of [manifest.config, ...manifest.layers]) {
        const { body } = await get(registry, `${repository}/blobs/${part.digest}`);
        assert.equal(`sha256:${sha256(body)}`, part.digest);
        assert.equal(body.byteLength, part.size);
      }
      const { body: layer } = await get(registry, `${repository}/blobs/sha256:${image.layerDigest}`);
      const isPacked = layout.startsWith('compat');
      const file = isPacked ? await onlyFileOf(layer) : { name: 'plugin.wasm', bytes: layer };
      assert.equal(file.name, 'plugin.wasm');
      assert.deepEqual(file.bytes, wasm);
      assert.equal(image.moduleDigest, sha256(wasm));
      assert.equal(image.moduleSizeBytes, wasm.byteLength);
    });
  }

  test('serves a file without changing it and removes what it packed', async () => {
    const plugin = await buildPlugin();
    const registry = await Registry.start();
    const image = await registry.pushImage({ repository, tag: 'x', layout: 'compat', wasm: plugin.path });
    const { body } = await get(registry, `${repository}/blobs/sha256:${image.layerDigest}`);
    assert.deepEqual((await onlyFileOf(body)).bytes, await readFile(plugin.path));
    await registry.close();
    assert.equal((await stat(plugin.path)).size, plugin.sizeBytes);
  });

  for (const [layout, mediaType] of [
    ['oci-artifact', ociIndexType],
    ['compat-docker', dockerListType],
  ] as const) {
    test(`puts an image of layout ${layout} into an index when asked`, async () => {
      await using registry = await Registry.start();
      const platforms = [
        { os: 'wasip1', architecture: 'wasm' },
        { os: 'linux', architecture: 'amd64' },
      ];
      const image = await registry.pushImage({ repository, tag: 'i', layout, wasm, index: platforms });
      const answer = await get(registry, `${repository}/manifests/i`);
      assert.equal(answer.headers['content-type'], mediaType);
      assert.equal(sha256(answer.body), image.digest);
      const { manifests } = JSON.parse(answer.text) as Manifest;
      assert.deepEqual(
        manifests.map(({ platform }) => platform),
        platforms,
      );
      assert.equal(manifests[0]?.digest, `sha256:${image.manifestDigest}`);
      assert.notEqual(image.digest, image.manifestDigest);
    });
  }

  test('answers HEAD without a body, and one range of a blob', async () => {
    await using registry = await Registry.start();
    const image = await registry.pushImage({ repository, tag: 't', layout: 'cncf', wasm });
    const head = await get(registry, `${repository}/manifests/t`, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.body.byteLength, 0);
    assert.equal(head.headers['docker-content-digest'], `sha256:${image.digest}`);
    const blob = `${repository}/blobs/sha256:${image.layerDigest}`;
    const middle = await get(registry, blob, { headers: { range: 'bytes=10-19' } });
    assert.equal(middle.status, 206);
    assert.equal(middle.headers['content-range'], `bytes 10-19/${wasm.byteLength}`);
    assert.deepEqual(middle.body, wasm.subarray(10, 20));
    const rest = await get(registry, blob, { headers: { range: `bytes=${wasm.byteLength - 5}-` } });
    assert.deepEqual(rest.body, wasm.subarray(-5));
    const beyond = await get(registry, blob, { headers: { range: `bytes=${wasm.byteLength}-` } });
    assert.equal(beyond.status, 416);
  });

  test('answers 404 for what it does not have, and for a type that the client does not accept', async () => {
    await using registry = await Registry.start();
    await registry.pushImage({ repository, tag: 't', layout: 'compat-docker', wasm });
    assert.equal((await get(registry, 'other/manifests/t')).status, 404);
    assert.equal((await get(registry, `${repository}/manifests/none`)).status, 404);
    assert.equal((await get(registry, `other/blobs/sha256:${'0'.repeat(64)}`)).status, 404);
    const headers = { accept: ociManifestType };
    assert.equal((await get(registry, `${repository}/manifests/t`, { headers })).status, 404);
    registry.deleteTag(repository, 't');
    assert.equal((await get(registry, `${repository}/manifests/t`)).status, 404);
  });

  test('asks for basic credentials', async () => {
    await using registry = await Registry.start({
      auth: { kind: 'basic', user: { username: 'u', password: 'p' } },
    });
    const refused = await get(registry, '');
    assert.equal(refused.status, 401);
    assert.match(refused.headers['www-authenticate'] ?? '', /^Basic /);
    const authorization = `Basic ${Buffer.from('u:p').toString('base64')}`;
    assert.equal((await get(registry, '', { headers: { authorization } })).status, 200);
  });

  test('gives tokens that are good for one repository', async () => {
    const user = { username: 'u', password: 'p' };
    await using registry = await Registry.start({
      auth: { kind: 'bearer', user, identityToken: 'refresh-me' },
    });
    await registry.pushImage({ repository, tag: 't', layout: 'cncf', wasm });
    await registry.pushImage({ repository: 'other', tag: 't', layout: 'cncf', wasm });
    const refused = await get(registry, `${repository}/manifests/t`);
    const challenge = refused.headers['www-authenticate'] ?? '';
    const [, realm = '', service = '', scope = ''] =
      /^Bearer realm="([^"]+)",service="([^"]+)",scope="([^"]+)"$/.exec(challenge) ?? [];
    assert.equal(scope, `repository:${repository}:pull`);
    const url = `${realm}?${new URLSearchParams({ service, scope }).toString()}`;
    assert.equal((await httpGet(url)).status, 401);
    const authorization = `Basic ${Buffer.from('u:p').toString('base64')}`;
    const { token } = JSON.parse((await httpGet(url, { headers: { authorization } })).text) as {
      token: string;
    };
    const withToken = { headers: { authorization: `Bearer ${token}` } };
    assert.equal((await get(registry, `${repository}/manifests/t`, withToken)).status, 200);
    assert.equal((await get(registry, 'other/manifests/t', withToken)).status, 401);
    const refresh = (refreshToken: string): Promise<HttpAnswer> =>
      httpGet(realm, {
        method: 'POST',
        body: String(
          new URLSearchParams({ grant_type: 'refresh_token', service, scope, refresh_token: refreshToken }),
        ),
      });
    assert.equal((await refresh('refresh-me')).status, 200);
    assert.equal((await refresh('something else')).status, 401);
    assert.equal(registry.gate.tokenCount, 2);
    const issued = registry.gate.issueToken('other');
    const headers = { authorization: `Bearer ${issued}` };
    assert.equal((await get(registry, 'other/manifests/t', { headers })).status, 200);
  });

  test('speaks TLS with a certificate of its own authority', async () => {
    const authority = Authority.createRoot();
    const tls = authority.issue(['127.0.0.1', 'localhost']);
    await using registry = await Registry.start({ tls });
    assert.equal((await get(registry, '', { ca: authority.certificate })).status, 200);
    await assert.rejects(get(registry, ''), /unable to verify|self-signed/);
  });
});
