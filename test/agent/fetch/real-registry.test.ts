import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { signatureTag } from '../../../agent/fetch/signature/simple-signing.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { basic, ociManifest, ociTarGzip, pullSecret, wasmConfig, wasmContent } from './image-registry.ts';
import { ImageSigner, simpleSigningType } from './image-signer.ts';
import { pluginLayer, sha256, wasmModule } from './module-bytes.ts';
import {
  copyToRegistry,
  type Layers,
  missingProgram,
  startRegistry,
  startTokenServer,
  user,
  writeLayout,
} from './real-registry-fixture.ts';
import type { ClassicLayer } from './signature/cosign-signer.ts';

const missing = missingProgram();

/** An OCI layout folder with one image of the compat variant. */
async function layoutOf(folder: string, module: Buffer): Promise<string> {
  const layout = join(folder, 'layout');
  await writeLayout(layout, [{ mediaType: ociTarGzip, bytes: await pluginLayer(module) }], false);
  return layout;
}

/** Puts a signature under the tag of a digest by the registry's own API, as cosign does. */
async function putSignature(host: string, digest: string, layer: ClassicLayer): Promise<void> {
  const base = `http://${host}/v2/team/plugin`;
  const authorization = basic(user.name, user.password);
  const send = async (url: string, method: string, type: string, body?: Uint8Array): Promise<Response> => {
    const headers = { authorization, 'content-type': type };
    const response = await fetch(url, { method, headers, ...(body === undefined ? {} : { body }) });
    assert.ok(response.ok, `${method} ${url}: ${response.status} ${await response.clone().text()}`);
    return response;
  };
  const putBlob = async (mediaType: string, bytes: Uint8Array): Promise<object> => {
    const upload = await send(`${base}/blobs/uploads/`, 'POST', 'application/octet-stream');
    const place = new URL(upload.headers.get('location') ?? '', base);
    place.searchParams.set('digest', `sha256:${sha256(bytes)}`);
    await send(place.href, 'PUT', 'application/octet-stream', bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.byteLength };
  };
  const payload = await putBlob(simpleSigningType, layer.payload);
  const manifest = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: await putBlob('application/vnd.oci.image.config.v1+json', Buffer.from('{}')),
    layers: [{ ...payload, annotations: layer.annotations }],
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  await send(`${base}/manifests/${signatureTag(digest)}`, 'PUT', ociManifest, bytes);
}

describe('modules from a real registry', () => {
  it('come in every layout that skopeo pushes, with the password of the pull secret', {
    skip: missing ?? false,
  }, async () => {
    const raw = async (module: Buffer): Promise<Layers> => [
      { mediaType: wasmConfig, bytes: Buffer.from('{}') },
      { mediaType: wasmContent, bytes: module },
    ];
    const compat = async (module: Buffer): Promise<Layers> => [
      { mediaType: ociTarGzip, bytes: await pluginLayer(module) },
    ];
    const pushes = [
      { tag: 'compat', layers: compat, isIndexed: false, options: [] },
      { tag: 'docker', layers: compat, isIndexed: false, options: ['--format', 'v2s2'] },
      { tag: 'raw', layers: raw, isIndexed: false, options: [] },
      { tag: 'index', layers: compat, isIndexed: true, options: ['--all'] },
    ];
    await using registry = await startRegistry({ kind: 'private' });
    await using fixture = await FetchFixture.open();
    const repository = `${registry.host}/team/plugin`;
    for (const { tag, layers, isIndexed, options } of pushes) {
      const layout = join(registry.folder, tag);
      const module = wasmModule(tag);
      await writeLayout(layout, await layers(module), isIndexed);
      await copyToRegistry(layout, `${repository}:${tag}`, options);
      const request = { pullSecret: pullSecret(registry.host, user.name, user.password) };
      const fetched = await fixture.fetch(`oci://${repository}:${tag}`, request);
      assert.deepEqual(await readFile(fetched.path), module, tag);
      assert.equal(fetched.source, 'oci');
      const pinned = await fixture.fetch(`oci://${repository}@sha256:${fetched.checksum}`, request);
      assert.deepEqual([pinned.source, pinned.matchedPin], ['cache', 'manifest']);
    }
    await assert.rejects(fixture.fetch(`oci://${repository}:compat`), { code: 'unauthorized' });
  });

  it('come through a pull-through cache, also when the registry behind it is gone', {
    skip: missing ?? false,
  }, async () => {
    await using registry = await startRegistry({ kind: 'public' });
    const module = wasmModule('mirrored');
    const layout = join(registry.folder, 'mirrored');
    await writeLayout(layout, [{ mediaType: ociTarGzip, bytes: await pluginLayer(module) }], true);
    await copyToRegistry(layout, `${registry.host}/team/plugin:v1`, ['--all']);
    await using mirror = await startRegistry({ kind: 'cache', remoteHost: registry.host });
    const url = `oci://${registry.host}/team/plugin:v1`;
    const mirrors = [{ url: `oci://${mirror.host}/team/plugin:v1`, timeoutMs: 10_000 }];
    const settings = { module: () => ({ layouts: [], mirrors }) };
    const fetchThrough = async (): Promise<void> => {
      await using fixture = await FetchFixture.open({ settings });
      const fetched = await fixture.fetch(url);
      assert.deepEqual(await readFile(fetched.path), module);
      assert.equal(fetched.sourceName, `mirror oci://${mirror.host}/team/plugin:v1`);
      assert.equal(fetched.digests?.index.length, 1);
    };
    await fetchThrough();
    await registry.stop();
    await fetchThrough();
  });

  it('are served when cosign has signed them, by themselves or by their index, and refused when not', {
    skip: missing ?? false,
  }, async () => {
    await using registry = await startRegistry({ kind: 'private' });
    const release = new ImageSigner('release');
    const signers = await release.signers();
    const request = { pullSecret: pullSecret(registry.host, user.name, user.password) };
    const url = `oci://${registry.host}/team/plugin:v1`;
    for (const isIndexed of [false, true]) {
      const layout = join(registry.folder, `signed-${isIndexed}`);
      const module = wasmModule(`signed ${isIndexed}`);
      const layers = [{ mediaType: ociTarGzip, bytes: await pluginLayer(module) }];
      const top = await writeLayout(layout, layers, isIndexed);
      await copyToRegistry(layout, `${registry.host}/team/plugin:v1`, ['--all', '--preserve-digests']);
      await using fixture = await FetchFixture.open({ settings: { signersFor: () => ({ signers }) } });
      await assert.rejects(fixture.fetch(url, request), {
        code: 'unsigned',
        message: /no such tag.*no referrers API \(status 404\), and no such tag/s,
      });
      await putSignature(registry.host, top, release.classic('a'.repeat(64)));
      await assert.rejects(fixture.fetch(url, request), { code: 'unsigned', message: /a{64}/ });
      await putSignature(registry.host, top, release.classic(top));
      const fetched = await fixture.fetch(url, request);
      assert.deepEqual(await readFile(fetched.path), module);
      assert.match(fetched.signature?.proof ?? '', isIndexed ? /on the index$/ : /on the manifest$/);
    }
  });

  it('that have not changed cost a HEAD, and one that has is pulled', {
    skip: missing ?? false,
  }, async () => {
    await using registry = await startRegistry({ kind: 'private' });
    await using fixture = await FetchFixture.open();
    const pullAgain = async (text: string, pluginResourceVersion: string): Promise<string> => {
      const layout = join(registry.folder, `layout-${text}`);
      await writeLayout(
        layout,
        [{ mediaType: ociTarGzip, bytes: await pluginLayer(wasmModule(text)) }],
        false,
      );
      await copyToRegistry(layout, `${registry.host}/team/plugin:v1`);
      const fetched = await fixture.fetch(`oci://${registry.host}/team/plugin:v1`, {
        pullPolicy: 'always',
        pluginResourceVersion,
        pullSecret: pullSecret(registry.host, user.name, user.password),
      });
      assert.deepEqual(await readFile(fetched.path), wasmModule(text));
      return fetched.source;
    };
    assert.deepEqual(
      [await pullAgain('one', '1'), await pullAgain('one', '2'), await pullAgain('two', '3')],
      ['oci', 'cache', 'oci'],
    );
  });

  it('come without credentials where none are asked for', { skip: missing ?? false }, async () => {
    const module = wasmModule('public');
    await using registry = await startRegistry({ kind: 'public' });
    await copyToRegistry(await layoutOf(registry.folder, module), `${registry.host}/team/plugin:v1`);
    await using fixture = await FetchFixture.open();
    const fetched = await fixture.fetch(`oci://${registry.host}/team/plugin:v1`);
    assert.deepEqual(await readFile(fetched.path), module);
    await assert.rejects(fixture.fetch(`oci://${registry.host}/team/plugin:v2`), { code: 'not_found' });
  });

  it('come over TLS of a private authority, and only with it', { skip: missing ?? false }, async () => {
    const module = wasmModule('tls');
    const authority = Authority.createRoot();
    const tls = authority.issue(['127.0.0.1']);
    await using registry = await startRegistry({ kind: 'private', tls });
    const caFolder = join(registry.folder, 'ca');
    await mkdir(caFolder);
    const caFile = join(caFolder, 'ca.crt');
    await writeFile(caFile, authority.certificate);
    const reference = `${registry.host}/team/plugin:v1`;
    await copyToRegistry(await layoutOf(registry.folder, module), reference, [], { caFolder });
    const request = { pullSecret: pullSecret(registry.host, user.name, user.password) };
    await using trusting = await FetchFixture.open({ settings: { host: () => ({ caFile }) } });
    const fetched = await trusting.fetch(`oci://${reference}`, request);
    assert.deepEqual(await readFile(fetched.path), module);
    await using other = await FetchFixture.open();
    await assert.rejects(other.fetch(`oci://${reference}`, request), { code: 'tls' });
    await using listed = await FetchFixture.open({ config: { insecureRegistries: [registry.host] } });
    assert.equal((await listed.fetch(`oci://${reference}`, request)).source, 'oci');
  });

  it('come with tokens of a token server: for a password, and for an identity token', {
    skip: missing ?? false,
  }, async () => {
    const module = wasmModule('token');
    await using tokens = await startTokenServer();
    await using registry = await startRegistry({ kind: 'token', tokens });
    const reference = `${registry.host}/team/plugin:v1`;
    const { proxy } = tokens;
    await copyToRegistry(await layoutOf(registry.folder, module), reference, [], { proxy });
    const names = { 'auth.test': ['127.0.0.1'] };
    const config = { insecureRegistries: [tokens.host] };
    const secrets = [
      pullSecret(registry.host, user.name, user.password),
      JSON.stringify({ auths: { [registry.host]: { identitytoken: tokens.identityToken } } }),
    ];
    for (const secret of secrets) {
      await using fixture = await FetchFixture.open({ names, config });
      const fetched = await fixture.fetch(`oci://${reference}`, { pullSecret: secret });
      assert.deepEqual(await readFile(fetched.path), module);
    }
    const last = tokens.requests.at(-1);
    assert.equal(last?.method, 'POST');
    assert.equal(new URLSearchParams(last.body).get('scope'), 'repository:team/plugin:pull');
    await using stranger = await FetchFixture.open({ names, config });
    for (const secret of [undefined, pullSecret(registry.host, user.name, 'wrong')]) {
      const fetching = stranger.fetch(`oci://${reference}`, { pullSecret: secret });
      await assert.rejects(fetching, { code: 'unauthorized' });
    }
    await using closed = await FetchFixture.open({ names });
    await assert.rejects(closed.fetch(`oci://${reference}`), {
      code: 'blocked_address',
      message: /realm uses plain http/,
    });
  });
});
