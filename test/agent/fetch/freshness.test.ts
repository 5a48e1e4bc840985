import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import type { ModuleTerms } from '../../../agent/fetch/fetch-settings.ts';
import { mayServeStale } from '../../../agent/fetch/stale-rule.ts';
import { FetchError, type FetchErrorCode } from '../../../agent/fetch/types.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, pullSecret, type StoredManifest } from './image-registry.ts';
import { pluginLayer, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const one = wasmModule('one');
const two = wasmModule('two');

async function push(registry: ImageRegistry, module: Buffer, ...tags: string[]): Promise<StoredManifest> {
  return registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(module) }], { tags });
}

function open(terms: Partial<ModuleTerms>): Promise<FetchFixture> {
  return FetchFixture.open({ settings: { module: () => ({ layouts: [], mirrors: [], ...terms }) } });
}

describe('a tag that is looked at again', () => {
  it('costs one conditional HEAD while it names the same index or image', async () => {
    for (const isIndexed of [false, true]) {
      const registry = new ImageRegistry();
      const image = await push(registry, one, 'v1');
      if (isIndexed) registry.index([{ image }], { tags: ['v1'] });
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      const url = `oci://${server.host}/p:v1`;
      const fetch = async (pluginResourceVersion: string) =>
        fixture.fetch(url, { pullPolicy: 'always', pluginResourceVersion });
      const first = await fetch('1');
      const before = server.requests.length;
      const second = await fetch('2');
      assert.deepEqual([second.source, second.digest], ['cache', first.digest]);
      const asked = server.requests.slice(before);
      assert.deepEqual(
        asked.map(({ method, target }) => `${method} ${target}`),
        ['HEAD /v2/p/manifests/v1'],
      );
      assert.match(asked[0]?.headers['if-none-match'] ?? '', /^"sha256:[0-9a-f]{64}"$/);
      assert.equal((await fetch('2')).source, 'cache');
      assert.equal(server.requests.length, before + 1, 'the version was noted');

      await push(registry, two, 'v1');
      assert.deepEqual(await readFile((await fetch('3')).path), two);
      assert.equal(server.count('HEAD '), 2);
    }
  });

  it('is known over a restart', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/p:v1`;
    await fixture.fetch(url, { pullPolicy: 'always', pluginResourceVersion: '1' });
    await fixture.restart();
    const before = server.count('GET /v2/p/');
    const again = await fixture.fetch(url, { pullPolicy: 'always', pluginResourceVersion: '2' });
    assert.equal(again.source, 'cache');
    assert.equal(server.count('GET /v2/p/'), before);
  });

  it('is resolved where the registry answers no HEAD, or claims nothing', async () => {
    for (const status of [405, 404, 200]) {
      const registry = new ImageRegistry();
      await push(registry, one, 'v1');
      registry.fail('HEAD /v2/p/', (_, response) => {
        answer(response, status);
        return true;
      });
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      const url = `oci://${server.host}/p:v1`;
      await fixture.fetch(url, { pullPolicy: 'always', pluginResourceVersion: '1' });
      await push(registry, two, 'v1');
      const again = await fixture.fetch(url, { pullPolicy: 'always', pluginResourceVersion: '2' });
      assert.deepEqual(await readFile(again.path), two);
    }
  });

  it('proves by the HEAD that another credential may read it, or may not', async () => {
    const registry = new ImageRegistry();
    const users = new Map([
      ['ann', 'pw'],
      ['bob', 'pw'],
    ]);
    registry.auth = { kind: 'bearer', users };
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const url = `oci://${server.host}/p:v1`;
    const as = async (user: string, pluginResourceVersion: string) =>
      fixture.fetch(url, {
        pullPolicy: 'always',
        pluginResourceVersion,
        pullSecret: pullSecret(server.host, user, 'pw'),
      });
    await as('ann', '1');
    assert.equal((await as('bob', '2')).source, 'cache');
    assert.equal(server.count('GET /v2/p/blobs/'), 1);
    await assert.rejects(as('eve', '3'), { code: 'unauthorized' });
  });
});

describe('the settings’ pull policy', () => {
  it('wins over that of the config', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/p:v1`;
    for (const [policy, own, headCount] of [
      ['always', 'if-not-present', 1],
      ['if-not-present', 'always', 0],
    ] as const) {
      await using fixture = await open({ pullPolicy: policy });
      await fixture.fetch(url, { pullPolicy: own, pluginResourceVersion: '1' });
      const before = server.count('HEAD ');
      await fixture.fetch(url, { pullPolicy: own, pluginResourceVersion: '2' });
      assert.equal(server.count('HEAD ') - before, headCount);
    }
  });
});

describe('a poll interval', () => {
  it('lets an answer count for so long where the pull policy asks for what is new, and says when to ask again', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'v1');
    await using server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/p:v1`;
    await using lazy = await open({ pollIntervalMs: 3_600_000 });
    const always = { pullPolicy: 'always' } as const;
    const first = await lazy.fetch(url, always);
    assert.ok((first.recheckAfterMs ?? 0) > 3_500_000);
    const before = server.requests.length;
    await lazy.fetch(url, always);
    assert.equal(server.requests.length, before);

    await using eager = await open({ pollIntervalMs: 0 });
    await eager.fetch(url, always);
    await push(registry, two, 'v1');
    const settled = await eager.fetch(url);
    assert.deepEqual([await readFile(settled.path), settled.recheckAfterMs], [one, undefined]);
    const changed = await eager.fetch(url, always);
    assert.deepEqual(await readFile(changed.path), two);
    assert.equal(changed.recheckAfterMs, 1_000, 'never more often than once a second');
    const pinned = await eager.fetch(url, { ...always, sha256: changed.checksum });
    assert.deepEqual([pinned.source, pinned.recheckAfterMs], ['cache', undefined]);
  });
});

describe('a module of the last time', () => {
  it('stands in while nobody answers, for as long as the settings say, and is marked', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'latest');
    const server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/p`;
    await using fixture = await open({ staleIfErrorMs: 3_600_000 });
    assert.equal((await fixture.fetch(url, { pluginResourceVersion: '1' })).isStale, undefined);
    await server.close();
    const stale = await fixture.fetch(url, { pluginResourceVersion: '2' });
    assert.deepEqual([stale.source, stale.isStale, stale.recheckAfterMs], ['cache', true, 60_000]);
    assert.deepEqual(await readFile(stale.path), one);
    assert.ok(fixture.logLines.some((line) => line.includes('the one of the last time stands in')));
    assert.ok((await fixture.samples()).includes('remote_fetch_count{result="manifest_failure"} 1'));
    const again = await fixture.fetch(url, { pluginResourceVersion: '2' });
    assert.equal(again.isStale, true, 'the version was not taken for fetched');
    await assert.rejects(fixture.fetch(url, { sha256: 'a'.repeat(64) }), { code: 'network' });
    await assert.rejects(
      fixture.fetch(url, { pullSecret: pullSecret(server.host, 'eve', 'pw'), sha256: 'b'.repeat(64) }),
      { code: 'network' },
    );
  });

  it('does not stand in without settings, or when it is too old', async () => {
    const registry = new ImageRegistry();
    await push(registry, one, 'latest');
    for (const staleIfErrorMs of [undefined, -1]) {
      const server = await startWebServer(registry.handle);
      await using fixture = await open({ staleIfErrorMs });
      const url = `oci://${server.host}/p`;
      await fixture.fetch(url, { pluginResourceVersion: '1' });
      await server.close();
      await assert.rejects(fixture.fetch(url, { pluginResourceVersion: '2' }), { code: 'network' });
    }
  });

  it('does not stand in for who may not read it, nor after a refusal', async () => {
    const registry = new ImageRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    await push(registry, one, 'latest');
    const server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/p`;
    await using fixture = await open({ staleIfErrorMs: 3_600_000 });
    const ann = { pullSecret: pullSecret(server.host, 'ann', 'pw') };
    await fixture.fetch(url, { ...ann, pluginResourceVersion: '1' });
    registry.auth = { kind: 'basic', username: 'ann', password: 'changed' };
    await assert.rejects(fixture.fetch(url, { ...ann, pluginResourceVersion: '2' }), {
      code: 'unauthorized',
    });
    await server.close();
    const eve = { pullSecret: pullSecret(server.host, 'eve', 'pw') };
    await assert.rejects(fixture.fetch(url, { ...eve, pluginResourceVersion: '2' }), { code: 'network' });
    assert.equal((await fixture.fetch(url, { ...ann, pluginResourceVersion: '2' })).isStale, true);
  });

  it('stands in for these failures only', () => {
    const codes: readonly FetchErrorCode[] = [
      'network',
      'tls',
      'timeout',
      'http_status',
      'redirect',
      'digest_mismatch',
      'unauthorized',
      'not_found',
      'blocked_address',
      'checksum_mismatched',
      'bad_manifest',
      'not_wasm',
      'too_large',
      'aborted',
      'store',
    ];
    const good = codes.filter((code) => mayServeStale(new FetchError(code, ''), 5, 5));
    assert.deepEqual(good, codes.slice(0, 6));
    assert.equal(mayServeStale(new FetchError('network', ''), 6, 5), false);
    assert.equal(mayServeStale(new Error('a fault of the agent'), 0, 5), false);
  });
});
