import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { poll } from '../../support/polling.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, pullSecret, type StoredManifest } from './image-registry.ts';
import { pluginLayer, sha256, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const one = wasmModule('one');
const two = wasmModule('two');

async function push(registry: ImageRegistry, module: Buffer, ...tags: string[]): Promise<StoredManifest> {
  return registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(module) }], { tags });
}

describe('the module cache', () => {
  it('gives a module again without asking anybody, and counts a hit', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin:v1`;
    const first = await fixture.fetch(url);
    const requestCount = server.requests.length;
    const second = await fixture.fetch(url, { resourceName: 'other', pluginResourceVersion: '7' });
    assert.equal(server.requests.length, requestCount);
    assert.deepEqual(second, { ...first, source: 'cache', trace: undefined });
    assert.deepEqual(await fixture.samples(), [
      'cache_entries 1',
      'cache_lookup_count{hit="false"} 2',
      'cache_lookup_count{hit="true"} 1',
      'remote_fetch_count{result="success"} 1',
    ]);
  });

  it('has a cached module at hand, as a fetch would give it, and counts it as that', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1', 'latest');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin:v1`;
    assert.equal(fixture.atHand(url), undefined);
    await fixture.fetch(url);
    await fixture.fetch(`oci://${server.host}/plugin:latest`, { pluginResourceVersion: '1' });
    const samples = await fixture.samples();
    const atHand = fixture.atHand(url, { resourceName: 'other' });
    assert.notEqual(atHand, undefined);
    assert.notDeepEqual(await fixture.samples(), samples, 'it counts');
    assert.deepEqual(atHand, await fixture.fetch(url, { resourceName: 'other' }));
    assert.deepEqual((await fixture.samples())[2], 'cache_lookup_count{hit="true"} 3');
    const missing: readonly (readonly [string, string, Parameters<typeof fixture.atHand>[1]])[] = [
      ['a tag that was not asked for', 'plugin:v2', {}],
      ['a newer version of a config that wants what is new', 'plugin:latest', { pluginResourceVersion: '2' }],
      ['another digest', 'plugin:v1', { sha256: 'c'.repeat(64) }],
      ['a digest that is none', 'plugin:v1', { sha256: 'nonsense' }],
      ['a pull secret that is none', 'plugin:v1', { pullSecret: 'nonsense' }],
    ];
    const before = await fixture.samples();
    for (const [what, path, request] of missing) {
      assert.equal(fixture.atHand(`oci://${server.host}/${path}`, request), undefined, what);
    }
    assert.deepEqual(await fixture.samples(), before, 'what is not at hand counts when it is fetched');
  });

  it('pulls again by the resource version only where the policy asks for it', async () => {
    const cases = [
      // policy, tag, version unchanged, then changed: which content comes
      ['unspecified', ':v1', 'one', 'one'],
      ['unspecified', ':latest', 'one', 'two'],
      ['unspecified', '', 'one', 'two'],
      ['if-not-present', ':latest', 'one', 'one'],
      ['always', ':v1', 'one', 'two'],
    ] as const;
    for (const [pullPolicy, tag, unchanged, changed] of cases) {
      const registry = new ImageRegistry();
      await push(registry, one, 'v1', 'latest');
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      const url = `oci://${server.host}/plugin${tag}`;
      const fetchText = async (pluginResourceVersion: string): Promise<Buffer> =>
        readFile((await fixture.fetch(url, { pullPolicy, pluginResourceVersion })).path);
      assert.deepEqual(await fetchText('1'), one);
      await push(registry, two, 'v1', 'latest');
      const expected = { one, two };
      assert.deepEqual(await fetchText('1'), expected[unchanged], `${pullPolicy} ${tag} unchanged`);
      assert.deepEqual(await fetchText('2'), expected[changed], `${pullPolicy} ${tag} changed`);
    }
  });

  it('asks only for the manifest when a pull finds the same image, and counts the second lookup as the hit', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'latest');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin`;
    await fixture.fetch(url, { pluginResourceVersion: '1' });
    assert.equal((await fixture.fetch(url, { pluginResourceVersion: '2' })).source, 'cache');
    assert.equal(server.count('GET /v2/plugin/blobs/'), 1);
    assert.deepEqual(await fixture.samples(), [
      'cache_entries 1',
      'cache_lookup_count{hit="false"} 3',
      'cache_lookup_count{hit="true"} 1',
      'remote_fetch_count{result="success"} 1',
    ]);
  });

  it('notes a version after success only: after a failed pull the same version pulls again', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'latest');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin`;
    await fixture.fetch(url, { pluginResourceVersion: '1' });
    await push(registry, two, 'latest');
    registry.fail(
      'GET /v2/plugin/manifests/',
      (_, response) => {
        answer(response, 403);
        return true;
      },
      1,
    );
    await assert.rejects(fixture.fetch(url, { pluginResourceVersion: '2' }), { code: 'unauthorized' });
    assert.deepEqual(await readFile((await fixture.fetch(url, { pluginResourceVersion: '2' })).path), two);
  });

  it('serves a restarted agent from disk while the registry is down', async () => {
    const registry = new ImageRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    await push(registry, one, 'v1');
    await using fixture = await FetchFixture.open();
    const server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/plugin:v1`;
    const pullRequest = { pullSecret: pullSecret(server.host, 'ann', 'pw') };
    await fixture.fetch(url, pullRequest);
    await server.close();
    await fixture.restart();
    const again = await fixture.fetch(url, pullRequest);
    assert.equal(again.source, 'cache');
    assert.deepEqual(await readFile(again.path), one);
    assert.equal(
      await fixture.fetch(url, { ...pullRequest, sha256: again.checksum }).then((each) => each.matchedPin),
      'manifest',
    );
    await assert.rejects(fixture.fetch(url), { code: 'network' });
  });

  it('gives a private module only to those who have read it, or prove that they may', async () => {
    const registry = new ImageRegistry();
    registry.auth = {
      kind: 'bearer',
      users: new Map([
        ['ann', 'pw'],
        ['bob', 'pw'],
      ]),
    };
    const image = await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin:v1`;
    await fixture.fetch(url, { pullSecret: pullSecret(server.host, 'ann', 'pw') });

    for (const pullSecretText of [undefined, '{}', pullSecret(server.host, 'eve', 'pw')]) {
      for (const pin of [undefined, sha256(one), image.digest]) {
        await assert.rejects(fixture.fetch(url, { pullSecret: pullSecretText, sha256: pin }), {
          code: 'unauthorized',
        });
      }
    }
    const bob = { pullSecret: pullSecret(server.host, 'bob', 'pw') };
    assert.equal((await fixture.fetch(url, bob)).source, 'cache');
    assert.equal(server.count('GET /v2/plugin/blobs/'), 1);
    const requestCount = server.requests.length;
    assert.equal((await fixture.fetch(url, bob)).source, 'cache');
    assert.equal(server.requests.length, requestCount, 'who has proved it once is believed');
  });

  it('gives a public module to everybody, whatever credential it was fetched with', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin:v1`;
    await fixture.fetch(url, { pullSecret: pullSecret(server.host, 'ann', 'pw') });
    const requestCount = server.requests.length;
    assert.equal((await fixture.fetch(url)).source, 'cache');
    assert.equal(server.requests.length, requestCount);
  });

  it('reads the credentials of the agent itself, again when their file changes', async () => {
    const registry = new ImageRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'new' };
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using folder = await FetchFixture.open();
    const path = `${folder.folder}/config.json`;
    await writeFile(path, pullSecret(server.host, 'ann', 'old'));
    const registryCredentials = {
      configPaths: [`${folder.folder}/absent.json`, path],
      inlineConfig: '{"auths":{}}',
    };
    await using fixture = await FetchFixture.open({ config: { registryCredentials } });
    const url = `oci://${server.host}/plugin:v1`;
    await assert.rejects(fixture.fetch(url), {
      code: 'unauthorized',
      message: /credentials from the docker config .*config\.json/,
    });
    await writeFile(path, pullSecret(server.host, 'ann', 'new'));
    assert.equal((await fixture.fetch(url)).source, 'oci');
    await assert.rejects(
      fixture.fetch(url, { pullSecret: '{}' }),
      { code: 'unauthorized' },
      'a pull secret stands alone',
    );
  });

  it('fetches anew when the file is damaged or gone', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin:v1`;
    const { path } = await fixture.fetch(url);
    await chmod(path, 0o640);
    await writeFile(path, two);
    assert.equal((await fixture.fetch(url)).source, 'oci');
    assert.deepEqual(await readFile(path), one);
    await rm(path);
    assert.equal((await fixture.fetch(url)).source, 'oci');
    assert.deepEqual(await readFile(path), one);
  });

  it('forgets what the store has deleted', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, one));
    await using fixture = await FetchFixture.open();
    await fixture.fetch(server.url);
    fixture.source.forget([sha256(two)]);
    assert.ok((await fixture.samples()).includes('cache_entries 1'));
    fixture.source.forget([sha256(one)]);
    assert.ok((await fixture.samples()).includes('cache_entries 0'));
    assert.equal((await fixture.fetch(server.url)).source, 'http');
  });

  it('downloads once for all who want the same at the same time', async () => {
    for (const scheme of ['http', 'oci'] as const) {
      const registry = new ImageRegistry();
      await push(registry, one, 'v1');
      const gate = Promise.withResolvers<void>();
      const held = '/v2/plugin/manifests/v1';
      registry.fail(`GET ${held}`, async () => {
        await gate.promise;
        return false;
      });
      await using server = await startWebServer(async (request, response) => {
        if (scheme === 'oci') return registry.handle(request, response);
        await gate.promise;
        answer(response, 200, one);
      });
      await using fixture = await FetchFixture.open();
      const url = scheme === 'oci' ? `oci://${server.host}/plugin:v1` : `${server.url}${held}`;
      const names = ['a', 'b', 'c', 'd'];
      const fetching = names.map(async (resourceName) => fixture.fetch(url, { resourceName }));
      await server.seen(`GET ${held}`);
      gate.resolve();
      const fetched = await Promise.all(fetching);
      assert.equal(new Set(fetched.map((each) => each.path)).size, 1);
      assert.equal(server.count(`GET ${held}`), 1);
      assert.ok((await fixture.samples()).includes('remote_fetch_count{result="success"} 1'));
    }
  });

  it('downloads an image once although two tags lead to it', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1', 'v2');
    const gate = Promise.withResolvers<void>();
    let heldCount = 0;
    registry.fail('GET /v2/plugin/manifests/', async () => {
      heldCount += 1;
      if (heldCount === 2) gate.resolve();
      await gate.promise;
      return false;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const urls = ['v1', 'v2'].map((tag) => `oci://${server.host}/plugin:${tag}`);
    await Promise.all(urls.map(async (url) => fixture.fetch(url)));
    assert.equal(server.count('GET /v2/plugin/blobs/'), 1);
  });

  it('downloads an image once although two indexes lead to it, each pinned by its own digest', async () => {
    const registry = new ImageRegistry();
    const image = await push(registry, one);
    const other = await push(registry, two);
    const indexes = [
      registry.index([{ image }], { tags: ['v1'] }),
      registry.index([{ image }, { image: other, platform: { os: 'linux', architecture: 'arm64' } }], {
        tags: ['v2'],
      }),
    ];
    const gate = Promise.withResolvers<void>();
    let heldCount = 0;
    registry.fail(`GET /v2/plugin/manifests/sha256:${image.digest}`, async () => {
      heldCount += 1;
      if (heldCount === 2) gate.resolve();
      await gate.promise;
      return false;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const fetched = await Promise.all(
      indexes.map(async ({ digest }, position) =>
        fixture.fetch(`oci://${server.host}/plugin:v${position + 1}`, { sha256: digest }),
      ),
    );
    assert.deepEqual(
      fetched.map((each) => each.matchedPin),
      ['index', 'index'],
    );
    assert.equal(server.count('GET /v2/plugin/blobs/'), 1);
  });

  it('goes on with a download for those who still wait when another one leaves', async () => {
    const gate = Promise.withResolvers<void>();
    await using server = await startWebServer(async (_, response) => {
      response.writeHead(200, { 'content-length': one.byteLength }).write(one.subarray(0, 9));
      await gate.promise;
      response.end(one.subarray(9));
    });
    await using fixture = await FetchFixture.open();
    const stop = new AbortController();
    const leaving = fixture.fetch(`${server.url}/m`, { resourceName: 'a' }, stop.signal);
    const staying = fixture.fetch(`${server.url}/m`, { resourceName: 'b' });
    await server.seen('GET /m');
    // Who has looked in vain has joined the download.
    const joined = 'cache_lookup_count{hit="false"} 2';
    await poll(
      async () => {
        const samples = await fixture.samples();
        return samples.includes(joined)
          ? { done: true, value: undefined }
          : { done: false, seen: samples.join(', ') };
      },
      { what: joined, deadlineMs: 10_000 },
    );
    stop.abort();
    await assert.rejects(leaving, { code: 'aborted' });
    gate.resolve();
    assert.equal((await staying).source, 'http');
    assert.equal(server.requests.length, 1);
  });

  it('does not serve a newer version of a config from a download that began before it', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'latest');
    const gate = Promise.withResolvers<void>();
    registry.fail(
      'GET /v2/plugin/blobs/',
      async () => {
        await gate.promise;
        return false;
      },
      1,
    );
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/plugin`;
    const older = fixture.fetch(url, { pluginResourceVersion: '1' });
    await server.seen('GET /v2/plugin/blobs/');
    await push(registry, two, 'latest');
    const newer = await fixture.fetch(url, { pluginResourceVersion: '2' });
    gate.resolve();
    assert.deepEqual(await readFile(newer.path), two);
    assert.deepEqual(await readFile((await older).path), one);
  });

  it('stops all fetches when it closes', async () => {
    await using server = await startWebServer((_, response) => {
      response.writeHead(200).write(one.subarray(0, 9));
    });
    await using fixture = await FetchFixture.open();
    const fetching = fixture.fetch(`${server.url}/m`);
    const refused = assert.rejects(fetching, { code: 'aborted', result: undefined });
    await server.seen('GET /m');
    await fixture.source.close();
    await refused;
    assert.deepEqual(await fixture.temporaryFileNames(), []);
    await assert.rejects(fixture.fetch(`${server.url}/m`), { code: 'aborted' });
  });

  it('moves the metrics through a run as the stock agent does', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const pin = 'c'.repeat(64);
    const steps: readonly (readonly [string, Parameters<FetchFixture['fetch']>[1], readonly string[]])[] = [
      [
        `oci://${server.host}/plugin:v1`,
        {},
        ['cache_lookup_count{hit="false"} 2', 'remote_fetch_count{result="success"} 1'],
      ],
      [
        `oci://${server.host}/plugin:missing`,
        {},
        [
          'cache_lookup_count{hit="false"} 3',
          'remote_fetch_count{result="manifest_failure"} 1',
          'remote_fetch_count{result="success"} 1',
        ],
      ],
      [
        `${server.url}/404`,
        {},
        [
          'cache_lookup_count{hit="false"} 4',
          'remote_fetch_count{result="download_failure"} 1',
          'remote_fetch_count{result="manifest_failure"} 1',
          'remote_fetch_count{result="success"} 1',
        ],
      ],
      [
        `oci://${server.host}/plugin:v1`,
        { sha256: pin },
        [
          'cache_lookup_count{hit="false"} 5',
          'remote_fetch_count{result="checksum_mismatched"} 1',
          'remote_fetch_count{result="download_failure"} 1',
          'remote_fetch_count{result="manifest_failure"} 1',
          'remote_fetch_count{result="success"} 1',
        ],
      ],
    ];
    for (const [url, request, expected] of steps) {
      await fixture.fetch(url, request).catch(() => undefined);
      const samples = await fixture.samples();
      // The order of labels within a family is that of their first use.
      assert.deepEqual([...samples].sort(), ['cache_entries 1', ...expected].sort(), url);
    }
  });
});

describe('what the first download needs', () => {
  it('is loaded before the first push where nothing is cached, not by a hit', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, one));
    await using fixture = await FetchFixture.open();
    await fixture.fetch(server.url);
    const script = new URL('loaded-process.ts', import.meta.url).pathname;
    const run = async (step: string, folder = fixture.folder): Promise<readonly string[]> => {
      const command = [script, folder, server.url, step];
      const { stdout } = await promisify(execFile)(process.execPath, command);
      return JSON.parse(stdout) as readonly string[];
    };
    await fixture.flush();
    assert.deepEqual(await run('hit'), ['cache']);
    assert.deepEqual(await run('expect'), []);
    await using empty = await FetchFixture.open();
    assert.deepEqual(await run('expect', empty.folder), ['undici', 'zod']);
  });
});
