import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { temporaryFolder } from '../../support/test-end.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, pullSecret } from './image-registry.ts';
import { pluginLayer, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const one = wasmModule('one');

/** Two sources over one folder stand for an agent and a command line beside it. */
describe('a cache folder that two processes use', () => {
  it('gives the running one what the other has pulled, without another request', async (t) => {
    const folder = await temporaryFolder(t);
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(one) }], { tags: ['v1'] });
    await using server = await startWebServer(registry.handle);
    await using agent = await FetchFixture.over(folder);
    {
      await using command = await FetchFixture.over(folder);
      await command.fetch(`oci://${server.host}/plugin:v1`);
    }
    const requestCount = server.requests.length;
    const found = await agent.fetch(`oci://${server.host}/plugin:v1`);
    assert.equal(found.source, 'cache');
    assert.equal(server.requests.length, requestCount);
    assert.deepEqual((await agent.samples()).slice(0, 1), ['cache_lookup_count{hit="true"} 1']);
  });

  it('gives a private module that was pulled with one secret to no config with another', async (t) => {
    const folder = await temporaryFolder(t);
    const registry = new ImageRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(one) }], { tags: ['v1'] });
    await using server = await startWebServer(registry.handle);
    await using agent = await FetchFixture.over(folder);
    const url = `oci://${server.host}/plugin:v1`;
    const secretOf = (password: string): string => pullSecret(server.host, 'ann', password);
    {
      await using command = await FetchFixture.over(folder);
      await command.fetch(url, { pullSecret: secretOf('pw') });
    }
    await assert.rejects(agent.fetch(url, { pullSecret: secretOf('wrong') }), { code: 'unauthorized' });
    await assert.rejects(agent.fetch(url), { code: 'unauthorized' });
    assert.equal((await agent.fetch(url, { pullSecret: secretOf('pw') })).source, 'cache');
  });
});

describe('bytes read from origins', () => {
  it('are counted by origin, those of failed downloads too', async () => {
    const registry = new ImageRegistry();
    const layer = await pluginLayer(one);
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    await using server = await startWebServer((request, response) => {
      if (request.target === '/plugin.wasm') return answer(response, 200, one);
      if (request.target === '/other') return answer(response, 200, Buffer.alloc(77, 1));
      return registry.handle(request, response);
    });
    await using fixture = await FetchFixture.open();
    await fixture.fetch(`oci://${server.host}/plugin:v1`);
    await fixture.fetch(`oci://${server.host}/plugin:v1`);
    assert.deepEqual(await fixture.fetchedBytes(), { oci: layer.byteLength });
    await fixture.fetch(`${server.url}/plugin.wasm`);
    await assert.rejects(fixture.fetch(`${server.url}/other`), { code: 'not_wasm' });
    assert.deepEqual(await fixture.fetchedBytes(), { oci: layer.byteLength, http: one.byteLength + 77 });
  });
});
