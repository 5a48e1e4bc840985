import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { ModuleTerms } from '../../../agent/fetch/fetch-settings.ts';
import { FetchFixture, type FixtureOptions } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, pullSecret, type StoredManifest } from './image-registry.ts';
import { writeLayout } from './layout-folder.ts';
import { pluginLayer, sha256, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const module = wasmModule('ladder');
const layer = await pluginLayer(module);

function push(registry: ImageRegistry, ...tags: string[]): StoredManifest {
  return registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags });
}

/** Terms as a policy gives them; a mirror here has plenty of time unless it says otherwise. */
function open(terms: Partial<ModuleTerms>, options: FixtureOptions = {}): Promise<FetchFixture> {
  const module = (): ModuleTerms => ({ layouts: [], mirrors: [], ...terms });
  return FetchFixture.open({ ...options, settings: { ...options.settings, module } });
}

class Folder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Folder> {
    return new Folder(await mkdtemp(join(tmpdir(), 'ferry-layout-')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true });
  }
}

/** All files under a folder with their times. */
async function contentsOf(path: string): Promise<readonly string[]> {
  const names = await readdir(path, { recursive: true });
  const found = names.map(async (name) => `${name} ${(await stat(join(path, name))).mtimeMs}`);
  return (await Promise.all(found)).sort();
}

/** Nobody listens there. */
const absent = '127.0.0.1:9';

describe('a layout folder', () => {
  it('serves the image of a tag by its whole name, and of a digest, while no registry is there', async () => {
    const image = push(new ImageRegistry());
    await using folder = await Folder.make();
    await writeLayout(folder.path, [{ image, name: `${absent}/team/plugin:v1` }], [layer]);
    const layouts = [{ path: folder.path, timeoutMs: 5_000 }];
    const before = await contentsOf(folder.path);
    for (const reference of [`plugin:v1`, `plugin@sha256:${image.digest}`]) {
      await using fixture = await open({ layouts });
      const fetched = await fixture.fetch(`oci://${absent}/team/${reference}`);
      assert.deepEqual(await readFile(fetched.path), module);
      assert.ok(fetched.path.startsWith(fixture.folder), 'never a path of the shared folder');
      assert.deepEqual([fetched.source, fetched.sourceName], ['layout', `layout ${folder.path}`]);
      assert.equal(fetched.checksum, image.digest);
      assert.deepEqual(await fixture.samples(), [
        'cache_entries 1',
        `cache_lookup_count{hit="false"} ${reference.includes('@') ? 1 : 2}`,
        'remote_fetch_count{result="success"} 1',
      ]);
      assert.equal((await fixture.fetch(`oci://${absent}/team/${reference}`)).source, 'cache');
    }
    assert.deepEqual(await contentsOf(folder.path), before, 'nothing is written into the shared folder');
  });

  it('of one repository in a tree is known by tags alone; in the root a tag alone is nobody’s', async () => {
    const image = push(new ImageRegistry());
    await using tree = await Folder.make();
    await writeLayout(join(tree.path, absent, 'team/plugin'), [{ image, name: 'v1' }], [layer]);
    await using fixture = await open({ layouts: [{ path: tree.path, timeoutMs: 5_000 }] });
    assert.equal((await fixture.fetch(`oci://${absent}/team/plugin:v1`)).source, 'layout');
    await using root = await Folder.make();
    await writeLayout(root.path, [{ image, name: 'v1' }], [layer]);
    await using other = await open({ layouts: [{ path: root.path, timeoutMs: 5_000 }] });
    await assert.rejects(other.fetch(`oci://${absent}/team/plugin:v1`), {
      code: 'network',
      message: /tried before: layout .*: the layout .* holds no 127\.0\.0\.1:9\/team\/plugin:v1\)/,
    });
  });

  it('knows the short names of Docker Hub', async () => {
    const image = push(new ImageRegistry());
    await using folder = await Folder.make();
    await writeLayout(folder.path, [{ image, name: 'docker.io/library/plugin:latest' }], [layer]);
    await using fixture = await open({ layouts: [{ path: folder.path, timeoutMs: 5_000 }] });
    assert.equal((await fixture.fetch('oci://plugin')).source, 'layout');
  });

  it('is read as it is: what is damaged, forged or no file is refused, and the next place is asked', async () => {
    const registry = new ImageRegistry();
    const image = push(registry, 'v1');
    await using server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/plugin:v1`;
    const blob = (path: string, bytes: Uint8Array): string => join(path, 'blobs/sha256', sha256(bytes));
    const faults: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
      'bytes of sha256:': async (path) => writeFile(blob(path, image.bytes), 'changed'),
      'the server sent .* bytes with sha256': async (path) =>
        writeFile(blob(path, layer), Buffer.alloc(layer.byteLength)),
      'sends more than': async (path) => writeFile(blob(path, layer), Buffer.alloc(layer.byteLength + 1)),
      'is not there': async (path) => rm(blob(path, layer)),
      'is no manifest: it is not JSON': async (path) => writeFile(join(path, 'index.json'), '{'),
      'not a regular file': async (path) => {
        await rm(blob(path, layer));
        execFileSync('mkfifo', [blob(path, layer)]);
      },
      'there is no OCI image layout': async (path) => rm(join(path, 'oci-layout')),
    };
    for (const [reason, damage] of Object.entries(faults)) {
      await using folder = await Folder.make();
      await writeLayout(folder.path, [{ image, name: `${server.host}/plugin:v1` }], [layer]);
      await damage(folder.path);
      await using fixture = await open({ layouts: [{ path: folder.path, timeoutMs: 5_000 }] });
      const fetched = await fixture.fetch(url);
      assert.deepEqual(await readFile(fetched.path), module);
      assert.equal(fetched.sourceName, `origin ${server.host}`);
      const [tried] = fetched.trace?.tried ?? [];
      assert.equal(tried?.name, `layout ${folder.path}`);
      assert.match(tried.reason, new RegExp(reason));
      assert.deepEqual(await fixture.temporaryFileNames(), []);
    }
  });

  it('with two images of one name is refused', async () => {
    const registry = new ImageRegistry();
    const name = `${absent}/plugin:v1`;
    const other = registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(wasmModule('b')) }]);
    await using folder = await Folder.make();
    await writeLayout(
      folder.path,
      [
        { image: push(registry), name },
        { image: other, name },
      ],
      [layer],
    );
    await using fixture = await open({ layouts: [{ path: folder.path, timeoutMs: 5_000 }] });
    await assert.rejects(fixture.fetch(`oci://${name}`), /holds 2 images of the name/);
  });

  it('serves a pinned file of an http URL by its digest', async () => {
    await using folder = await Folder.make();
    await writeLayout(folder.path, [], [module]);
    await using fixture = await open({ layouts: [{ path: folder.path, timeoutMs: 5_000 }] });
    const fetched = await fixture.fetch(`http://${absent}/m.wasm`, { sha256: sha256(module) });
    assert.deepEqual([fetched.source, fetched.matchedPin], ['layout', 'module']);
    await assert.rejects(fixture.fetch(`http://${absent}/m.wasm`, { sha256: sha256('other') }), {
      code: 'network',
      message: /tried before: layout .* is not there\)/,
    });
  });
});

describe('a mirror', () => {
  it('is asked before the origin, with the namespace, and which one served is told', async () => {
    const registry = new ImageRegistry();
    push(registry, 'v1');
    await using mirror = await startWebServer(registry.handle);
    const mirrors = [
      { url: `oci://${mirror.host}/hub/team/plugin:v1`, timeoutMs: 5_000, namespace: 'reg.test' },
    ];
    await using fixture = await open({ mirrors });
    const fetched = await fixture.fetch(`oci://${absent}/team/plugin:v1`);
    assert.deepEqual(
      [fetched.source, fetched.sourceName],
      ['oci', `mirror oci://${mirror.host}/hub/team/plugin:v1`],
    );
    assert.ok(
      mirror.requests
        .filter(({ target }) => target !== '/v2/')
        .every(({ target }) => /^\/v2\/hub\/team\/plugin\/.*\?ns=reg\.test$/.test(target)),
    );
    const again = await fixture.fetch(`oci://${absent}/team/plugin:v1`);
    assert.deepEqual([again.source, again.sourceName], ['cache', fetched.sourceName]);
    await fixture.restart();
    assert.equal((await fixture.fetch(`oci://${absent}/team/plugin:v1`)).sourceName, fetched.sourceName);
  });

  it('that does not answer, answers wrongly or in its own time only does not keep the origin from being asked', async () => {
    const registry = new ImageRegistry();
    push(registry, 'v1');
    await using origin = await startWebServer(registry.handle);
    const hanging = Promise.withResolvers<void>();
    await using silent = await startWebServer(async () => hanging.promise);
    await using broken = await startWebServer((_, response) => answer(response, 404));
    await using liar = await startWebServer(async (request, response) => {
      if (request.target.includes('/blobs/')) answer(response, 200, Buffer.alloc(layer.byteLength));
      else await registry.handle(request, response);
    });
    const at = (host: string, timeoutMs = 5_000): ModuleTerms['mirrors'][number] => ({
      url: `oci://${host}/plugin:v1`,
      timeoutMs,
    });
    const mirrors = [
      at(silent.host, 50),
      at(broken.host),
      at(liar.host),
      at(absent),
      { url: 'x:', timeoutMs: 1 },
    ];
    await using fixture = await open({ mirrors });
    const fetched = await fixture.fetch(`oci://${origin.host}/plugin:v1`);
    assert.equal(fetched.sourceName, `origin ${origin.host}`);
    const reasons = fetched.trace?.tried.map(({ reason }) => reason) ?? [];
    const expected = [
      /no complete answer within the time limit/,
      /status code 404/,
      /with sha256:/,
      /ECONNREFUSED/,
      /scheme/,
    ];
    assert.equal(reasons.length, expected.length);
    for (const [position, pattern] of expected.entries()) assert.match(reasons[position] ?? '', pattern);
    assert.deepEqual(await fixture.temporaryFileNames(), []);
    hanging.resolve();
  });

  it('that fails with all others is named in the failure, which counts once', async () => {
    await using broken = await startWebServer((_, response) => answer(response, 404));
    await using fixture = await open({ mirrors: [{ url: `oci://${broken.host}/p:v1`, timeoutMs: 5_000 }] });
    await assert.rejects(fixture.fetch(`oci://${absent}/p:v1`), {
      code: 'network',
      result: 'manifest_failure',
      message: new RegExp(`tried before: mirror oci://${broken.host}/p:v1: .*status code 404`),
    });
    assert.deepEqual(await fixture.samples(), [
      'cache_lookup_count{hit="false"} 1',
      'remote_fetch_count{result="manifest_failure"} 1',
    ]);
  });

  it('of a web server serves http URLs', async () => {
    await using mirror = await startWebServer((_, response) => answer(response, 200, module));
    await using fixture = await open({ mirrors: [{ url: `${mirror.url}/m.wasm`, timeoutMs: 5_000 }] });
    const fetched = await fixture.fetch(`http://${absent}/m.wasm`);
    assert.deepEqual([fetched.source, fetched.sourceName], ['http', `mirror ${mirror.url}/m.wasm`]);
  });

  it('never sees the credential of the origin, and gets its own from the operator', async () => {
    const registry = new ImageRegistry();
    push(registry, 'v1');
    registry.auth = { kind: 'basic', username: 'op', password: 'pw' };
    await using mirror = await startWebServer(registry.handle);
    const inlineConfig = pullSecret(mirror.host, 'op', 'pw');
    await using fixture = await open(
      { mirrors: [{ url: `oci://${mirror.host}/p:v1`, timeoutMs: 5_000 }] },
      { config: { registryCredentials: { configPaths: [], inlineConfig } } },
    );
    const request = { pullSecret: pullSecret(absent, 'ann', 'hunter2') };
    assert.equal((await fixture.fetch(`oci://${absent}/p:v1`, request)).source, 'oci');
    const hunter2 = Buffer.from('ann:hunter2').toString('base64');
    assert.ok(!JSON.stringify(mirror.requests).includes(hunter2));
  });

  it('read with a private credential gives its modules to nobody without it', async () => {
    const registry = new ImageRegistry();
    push(registry, 'v1');
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    await using mirror = await startWebServer(registry.handle);
    await using fixture = await open({ mirrors: [{ url: `oci://${mirror.host}/p:v1`, timeoutMs: 5_000 }] });
    const url = `oci://${absent}/p:v1`;
    await fixture.fetch(url, { pullSecret: pullSecret(mirror.host, 'ann', 'pw') });
    await assert.rejects(fixture.fetch(url), { code: 'network' });
    await assert.rejects(fixture.fetch(url, { pullSecret: pullSecret(mirror.host, 'eve', 'pw') }));
    const again = await fixture.fetch(url, { pullSecret: pullSecret(mirror.host, 'ann', 'pw') });
    assert.equal(again.source, 'cache');
  });

  it('and the origin each have their own time, within that of the whole', async () => {
    const hanging = Promise.withResolvers<void>();
    await using silent = await startWebServer(async () => hanging.promise);
    const mirrors = [{ url: `oci://${silent.host}/p:v1`, timeoutMs: 3_600_000 }];
    await using fixture = await open({ mirrors });
    await assert.rejects(fixture.fetch(`oci://${absent}/p:v1`, { timeoutMs: 50 }), {
      code: 'timeout',
      result: 'manifest_failure',
      message: /no complete answer within the time limit \(50 ms\)/,
    });
    await using hurried = await open({ originTimeoutMs: 50 });
    await assert.rejects(hurried.fetch(`oci://${silent.host}/p:v1`, { timeoutMs: 3_600_000 }), {
      code: 'timeout',
      result: 'manifest_failure',
    });
    hanging.resolve();
  });
});

describe('a folder that is missing', () => {
  it('is told as that, and is looked for again with the next fetch', async () => {
    const image = push(new ImageRegistry());
    await using root = await Folder.make();
    const path = join(root.path, 'later');
    await using fixture = await open({ layouts: [{ path, timeoutMs: 5_000 }] });
    const url = `oci://${absent}/plugin@sha256:${image.digest}`;
    await assert.rejects(fixture.fetch(url), /there is no OCI image layout in/);
    await mkdir(path);
    await writeLayout(path, [{ image }], [layer]);
    assert.equal((await fixture.fetch(url)).source, 'layout');
  });
});
