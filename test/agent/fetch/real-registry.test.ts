import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { signatureTag } from '../../../agent/fetch/signature/simple-signing.ts';
import { FetchFixture } from './fetch-fixture.ts';
import {
  basic,
  ociIndex,
  ociManifest,
  ociTarGzip,
  pullSecret,
  wasmConfig,
  wasmContent,
} from './image-registry.ts';
import { ImageSigner, simpleSigningType } from './image-signer.ts';
import { pluginLayer, sha256, wasmModule } from './module-bytes.ts';
import type { ClassicLayer } from './signature/cosign-signer.ts';

/** Debian packages of the same names; no dependency of this repository. */
const programs = { registry: 'docker-registry', copier: 'skopeo' };

/** Why the test cannot run here; undefined when both programs are installed. */
function missingProgram(): string | undefined {
  for (const program of Object.values(programs)) {
    try {
      execFileSync(program, ['--version'], { stdio: 'ignore' });
    } catch {
      return `${program} is not installed (Debian package of the same name)`;
    }
  }
  return undefined;
}

/** A user of the registry made for one test run: name, password, and the bcrypt hash of the password. */
const user = {
  name: 'ann',
  password: 'pw:1',
  hash: '$2b$04$YLUXVISXtMV4I1pIfeh.TefIc0ujZ7z3g92yGu/G4ADLOiE2zqryu',
};

interface RunningRegistry extends AsyncDisposable {
  readonly host: string;
  readonly folder: string;
  /** Ends the process; what it holds stays on disk. */
  stop(): Promise<void>;
}

type RegistryRole =
  | { readonly kind: 'private' }
  | { readonly kind: 'public' }
  /** A pull-through cache of another one. */
  | { readonly kind: 'cache'; readonly remoteHost: string };

/** Debian's registry on a free port. */
async function startRegistry(role: RegistryRole): Promise<RunningRegistry> {
  const folder = await mkdtemp(join(tmpdir(), 'ferry-real-registry-'));
  await writeFile(join(folder, 'htpasswd'), `${user.name}:${user.hash}\n`);
  const config = {
    version: 0.1,
    storage: { filesystem: { rootdirectory: join(folder, 'data') } },
    http: { addr: '127.0.0.1:0', secret: 'fixture' },
    ...(role.kind === 'private'
      ? { auth: { htpasswd: { realm: 'fixture', path: join(folder, 'htpasswd') } } }
      : {}),
    ...(role.kind === 'cache' ? { proxy: { remoteurl: `http://${role.remoteHost}` } } : {}),
  };
  await writeFile(join(folder, 'config.yml'), JSON.stringify(config));
  const child = spawn(programs.registry, ['serve', join(folder, 'config.yml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(child, 'exit');
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line);
    const [, host] = /listening on (127\.0\.0\.1:\d+)/.exec(line) ?? [];
    if (host === undefined) continue;
    child.stderr.resume();
    const stop = async (): Promise<void> => {
      child.kill('SIGKILL');
      await ended;
    };
    const close = async (): Promise<void> => {
      await stop();
      await rm(folder, { recursive: true, force: true });
    };
    return { host, folder, stop, [Symbol.asyncDispose]: close };
  }
  await rm(folder, { recursive: true, force: true });
  throw new Error(`docker-registry did not start: ${lines.join('\n')}`);
}

type Layers = readonly { readonly mediaType: string; readonly bytes: Buffer }[];

/** An OCI layout folder with one image, or an index over it. Returns the digest of that. */
async function writeLayout(folder: string, layers: Layers, isIndexed: boolean): Promise<string> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, bytes: Buffer) => {
    await writeFile(join(blobs, sha256(bytes)), bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.byteLength };
  };
  const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));
  const config = json({
    architecture: 'wasm',
    os: 'wasip1',
    rootfs: { type: 'layers', diff_ids: layers.map(({ bytes }) => `sha256:${sha256(bytes)}`) },
  });
  const manifest = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: await put('application/vnd.oci.image.config.v1+json', config),
    layers: await Promise.all(layers.map(async ({ mediaType, bytes }) => put(mediaType, bytes))),
  };
  let top = await put(ociManifest, json(manifest));
  if (isIndexed) {
    const child = { ...top, platform: { os: 'wasip1', architecture: 'wasm' } };
    top = await put(ociIndex, json({ schemaVersion: 2, mediaType: ociIndex, manifests: [child] }));
  }
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(folder, 'index.json'), json({ schemaVersion: 2, manifests: [top] }));
  return top.digest.slice('sha256:'.length);
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

const missing = missingProgram();

async function copyToRegistry(
  layout: string,
  reference: string,
  options: readonly string[] = [],
): Promise<void> {
  const credentials = ['--dest-tls-verify=false', '--dest-creds', `${user.name}:${user.password}`];
  const places = [`oci:${layout}`, `docker://${reference}`];
  await promisify(execFile)(programs.copier, [
    '--insecure-policy',
    'copy',
    ...options,
    ...credentials,
    ...places,
  ]);
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
});
