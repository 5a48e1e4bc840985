import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { findOpenMetricsFaults } from '../agent/status/openmetrics-grammar.ts';
import { openMetricsType, type Peer, startPage, startPeer } from '../agent/status/status-fixture.ts';
import { httpGet } from '../support/http-get.ts';
import { skipReason } from './gateway.ts';
import { Pod } from './pod.ts';

const textType = 'text/plain; version=0.0.4; charset=utf-8';
const appPage = '# TYPE app_requests counter\napp_requests_total{path="/"} 3\n';

/** A sidecar that is told to merge these, as injection tells it. */
async function startScrapedPod(t: TestContext, applications: readonly Peer[]): Promise<Pod> {
  const targets = applications.map(({ port }) => ({ port: String(port), path: '/metrics' }));
  const pod = await Pod.start(t, {
    mode: 'delta',
    prepare: () => ({
      env: { ISTIO_PROMETHEUS_ANNOTATIONS: JSON.stringify({ scrape: 'true', ...targets[0], targets }) },
    }),
  });
  await pod.agent.waitUntilReady();
  return pod;
}

/** As Prometheus asks. */
const prometheus = {
  accept:
    'application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1',
  'x-prometheus-scrape-timeout-seconds': '5',
};

describe('the merged metrics of a sidecar', { skip: skipReason }, () => {
  test('are one valid page of the type that the application speaks, plain, gzip and zstd', async (t) => {
    await using application = await startPage(`${appPage}# EOF\n`, { 'content-type': openMetricsType });
    const { agent } = await startScrapedPod(t, [application]);
    const decoders = { identity: (body: Buffer) => body, gzip: gunzipSync, zstd: zstdDecompressSync };
    for (const [encoding, decode] of Object.entries(decoders)) {
      const headers = { ...prometheus, 'accept-encoding': encoding };
      const answer = await httpGet(`${agent.statusUrl}/stats/prometheus`, { headers });
      assert.equal(answer.status, 200);
      assert.equal(answer.headers['content-type'], openMetricsType);
      assert.equal(answer.headers['vary'], 'Accept-Encoding');
      assert.equal(answer.headers['content-encoding'] ?? 'identity', encoding);
      const page = decode(answer.body).toString();
      assert.deepEqual(findOpenMetricsFaults(page), []);
      assert.equal(page.match(/^# EOF$/gm)?.length, 1);
      assert.match(page, /^istio_agent_scrapes_total \d/m);
      assert.match(page, /^envoy_server_live(?:\{\})? 1$/m);
      assert.ok(page.endsWith(`${appPage}# EOF\n`));
    }
    const plain = await httpGet(`${agent.statusUrl}/metrics`, { headers: { accept: 'text/plain' } });
    assert.ok(application.requests.at(-1)?.headers.accept?.startsWith('text/plain'));
    assert.equal(
      plain.headers['content-type'],
      openMetricsType,
      'the application decides, as in the stock agent',
    );
  });

  test('are text without an end marker where applications differ, and lack only the one that fails', async (t) => {
    await using first = await startPage('first_total 1\n');
    await using second = await startPage(`${appPage}# EOF\n`, { 'content-type': openMetricsType });
    await using broken = await startPeer((_request, response) => response.writeHead(500).end('no'));
    const { agent } = await startScrapedPod(t, [first, second, broken]);
    const scrape = async () => httpGet(`${agent.statusUrl}/stats/prometheus`, { headers: prometheus });
    const answer = await scrape();
    assert.deepEqual([answer.status, answer.headers['content-type']], [200, textType]);
    assert.doesNotMatch(answer.text, /# EOF/);
    assert.ok(answer.text.indexOf('first_total 1') > answer.text.indexOf('envoy_server_live'));
    assert.ok(answer.text.indexOf('app_requests_total') > answer.text.indexOf('first_total 1'));
    assert.match((await scrape()).text, /^istio_agent_scrape_failures_total\{type="application"\} 2$/m);
  });

  test('come within the time of the scraper when the application hangs, which is counted', async (t) => {
    await using hung = await startPeer((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' });
      response.write('app_whole 1\napp_ha');
    });
    const { agent } = await startScrapedPod(t, [hung]);
    const headers = { ...prometheus, 'x-prometheus-scrape-timeout-seconds': '1' };
    const scrape = async () => httpGet(`${agent.statusUrl}/stats/prometheus`, { headers });
    const { status, text } = await scrape();
    assert.equal(status, 200);
    assert.match(text, /^envoy_server_live(?:\{\})? 1$/m);
    assert.ok(text.endsWith('app_whole 1\n'), text.slice(-100));
    assert.match((await scrape()).text, /^istio_agent_scrape_failures_total\{type="application"\} 1$/m);
  });
});
