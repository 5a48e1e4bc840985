import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, test } from 'node:test';
import { startBackend } from '../support/backend.ts';
import { cacheFolder } from '../support/cache-folder.mjs';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import { createWorkspace } from '../support/workspace.ts';

describe('fixtures on loopback', () => {
  test('free ports are different, can be bound, and taken ones are passed over', async () => {
    const [first = 0] = await freePorts(1);
    const server = createServer();
    const listening = Promise.withResolvers<void>();
    server.listen(first + 1, '127.0.0.1', listening.resolve);
    await listening.promise;
    const ports = await freePorts(20);
    assert.equal(new Set([first, ...ports]).size, 21);
    assert.ok(!ports.includes(first + 1));
    server.close();
    await assert.rejects(freePorts(16_001), /fewer than 16001 are free/);
  });

  test('the backend echoes the path and counts, also by path', async () => {
    const backend = await startBackend();
    const answer = await httpGet(`${backend.url}/a?b=c`);
    assert.deepEqual([answer.status, answer.text], [200, '/a?b=c\n']);
    await httpGet(`${backend.url}/d`, { method: 'POST', body: 'x' });
    assert.equal(backend.requestCount, 2);
    assert.equal(backend.requestCountOf('/a?b=c'), 1);
    assert.equal(backend.requestCountOf('/a'), 0);
    await backend.close();
    await assert.rejects(httpGet(backend.url), /GET http.* failed: .*ECONNREFUSED/);
  });

  test('a request that gets no answer ends at its deadline', async () => {
    const server = createServer();
    const listening = Promise.withResolvers<void>();
    server.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    const { port } = server.address() as { port: number };
    await assert.rejects(httpGet(`http://127.0.0.1:${port}/`, { timeoutMs: 50 }), /GET .* failed/);
    server.close();
  });

  test('a workspace has the folders of the container, short socket paths, and goes whole', async () => {
    const workspace = await createWorkspace();
    const path = await workspace.write('etc/new/file.txt', 'text');
    assert.equal(await readFile(path, 'utf8'), 'text');
    assert.ok(existsSync(workspace.path('var/lib/istio/data')));
    assert.ok(workspace.path('var/run/secrets/workload-spiffe-uds/socket').length < 108);
    await workspace.close();
    await workspace.close();
    assert.equal(existsSync(workspace.root), false);
  });

  test('Envoy is skipped with a reason when none is named, and a wrong name is an error', () => {
    assert.match(envoyBinary({}).skipReason ?? '', /ENVOY_PATH is not set/);
    assert.equal(envoyBinary({ ENVOY_PATH: process.execPath }).path, process.execPath);
    assert.throws(
      () => envoyBinary({ ENVOY_PATH: '/nowhere' }),
      /ENVOY_PATH is \/nowhere, which is not an executable/,
    );
  });

  test('the cache folder follows FERRY_CACHE, then XDG_CACHE_HOME', () => {
    assert.equal(cacheFolder({ FERRY_CACHE: '/a', XDG_CACHE_HOME: '/b' }), '/a');
    assert.equal(cacheFolder({ XDG_CACHE_HOME: '/b' }), '/b/ferry');
    assert.match(cacheFolder({}), /\/\.cache\/ferry$/);
  });
});
