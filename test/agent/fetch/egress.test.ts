import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EgressGuard } from '../../../agent/fetch/egress-guard.ts';
import { HttpClient } from '../../../agent/fetch/http-client.ts';
import { InsecureHosts } from '../../../agent/fetch/insecure-hosts.ts';
import { FetchFixture, noProxies } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip } from './image-registry.ts';
import { pluginLayer, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const module = wasmModule('egress');
const layer = await pluginLayer(module);

/** The metadata service in the spellings that URL parsers and resolvers take. */
const metadataHosts = [
  '169.254.169.254',
  '169.254.169.254.',
  '2852039166',
  '0xa9fea9fe',
  '0xa9.0xfe.0xa9.0xfe',
  '0251.0376.0251.0376',
  '169.254.43518',
  '169.16689662',
  '%31%36%39.254.169.254',
  '１６９.254.169.254',
  '[::ffff:169.254.169.254]',
  '[::ffff:a9fe:a9fe]',
  '[0:0:0:0:0:ffff:a9fe:a9fe]',
  '[::169.254.169.254]',
  '[64:ff9b::169.254.169.254]',
  '[64:ff9b:1::a9fe:a9fe]',
  '[2002:a9fe:a9fe::1]',
  '[fe80::1]',
  '[fd00:ec2::254]',
];

describe('an address that may not be dialled', () => {
  for (const host of metadataHosts) {
    it(`is refused as ${host}, in a URL, behind a redirect, as registry and as realm`, async () => {
      const registry = new ImageRegistry();
      await using server = await startWebServer(async (request, response) => {
        // A header holds no other characters.
        const location = `http://${host.replaceAll(/[^ -~]/g, encodeURIComponent)}:9/`;
        if (request.target === '/redirect') answer(response, 302, '', { location });
        else await registry.handle(request, response);
      });
      await using fixture = await FetchFixture.open();
      await assert.rejects(fixture.fetch(`http://${host}:9/m.wasm`), { code: 'blocked_address' });
      await assert.rejects(fixture.fetch(`${server.url}/redirect`), {
        code: 'blocked_address',
        message: /redirected to https?:\/\/\S+: connection blocked: resolved IP/,
      });
      registry.auth = {
        kind: 'bearer',
        users: new Map(),
        realm: `https://${host.replaceAll(/[^ -~]/g, encodeURIComponent)}:9/token`,
      };
      await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), { code: 'blocked_address' });
    });
  }

  it('is refused as a registry and as its blob server', async () => {
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    await using server = await startWebServer(registry.handle);
    const names = { 'meta.test': ['169.254.169.254'] };
    await using fixture = await FetchFixture.open({ names });
    await assert.rejects(fixture.fetch('oci://meta.test/p:v1'), { code: 'blocked_address' });
    await assert.rejects(fixture.fetch('oci://169.254.169.254/p:v1'), { code: 'blocked_address' });
    registry.fail('GET /v2/p/blobs/', (_, response) => {
      answer(response, 307, '', { location: 'https://meta.test/blob' });
      return true;
    });
    await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), {
      code: 'blocked_address',
      result: 'download_failure',
    });
  });

  it('is refused as a mirror of the settings too', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    const mirrors = [{ url: 'http://169.254.169.254/m.wasm', timeoutMs: 5_000 }];
    await using fixture = await FetchFixture.open({ settings: { module: () => ({ layouts: [], mirrors }) } });
    const fetched = await fixture.fetch(server.url);
    assert.match(fetched.trace?.tried[0]?.reason ?? '', /169\.254\.169\.254 is link-local/);
  });

  it('is refused as soon as the settings say so, and the list is named', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    let cidrs: readonly string[] = [];
    await using fixture = await FetchFixture.open({ settings: { blockedCidrs: () => cidrs } });
    await fixture.fetch(`${server.url}/1`);
    cidrs = ['127.0.0.0/8'];
    // A connection that is open already is not dialled; this one is new.
    await assert.rejects(fixture.fetch(`http://127.0.0.2:${server.port}/2`), {
      code: 'blocked_address',
      message:
        /is in blocked CIDR range 127\.0\.0\.0\/8 \(take the range out of blockedCidrs of the policy file/,
    });
    cidrs = [];
    await assert.rejects(fixture.fetch(`http://127.0.0.2:9/3`), { code: 'network' });
  });
});

describe('a name whose addresses change', () => {
  it('is dialled at the addresses that were checked: each connection looks it up once', async () => {
    await using server = await startWebServer((_, response) =>
      answer(response, 200, 'x', { connection: 'close' }),
    );
    const answers = [['127.0.0.1'], ['169.254.169.254'], ['127.0.0.1', '169.254.169.254'], ['127.0.0.1']];
    let lookupCount = 0;
    const guard = new EgressGuard({
      blockedCidrs: [],
      lookup: (_name, _options, callback) => {
        const addresses = answers[lookupCount] ?? [];
        lookupCount += 1;
        process.nextTick(
          callback,
          null,
          addresses.map((address) => ({ address, family: 4 })),
        );
      },
    });
    const insecureHosts = new InsecureHosts([]);
    const client = new HttpClient({ guard, insecureHosts, proxies: noProxies });
    const get = async (): Promise<string> => {
      try {
        const redirects = { isInternalLiteralRefused: false, isPlainHttpAllowed: () => false };
        const url = `http://rebinding.test:${server.port}/`;
        const response = await client.send(
          { url, method: 'GET', headers: {}, redirects },
          { signal: new AbortController().signal },
        );
        await response.discard();
        return String(response.status);
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    const outcomes = [];
    for (const _ of answers) outcomes.push(await get());
    await client.close();
    assert.deepEqual(outcomes, ['200', 'blocked_address', '200', '200']);
    assert.equal(lookupCount, answers.length);
    assert.equal(server.requests.length, 3);
  });
});
