import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PluginMetrics } from '../../metrics/plugin-metrics.ts';
import { MetricRegistry } from '../../metrics/registry.ts';

function bench(): { metrics: PluginMetrics; lines: () => Promise<readonly string[]> } {
  const registry = new MetricRegistry();
  const metrics = new PluginMetrics(registry);
  const prefix = 'istio_agent_ferry_wasm_';
  return {
    metrics,
    lines: async () =>
      (await registry.exposition())
        .split('\n')
        .filter((line) => line.startsWith(prefix))
        .map((line) => line.slice(prefix.length)),
  };
}

const facts = (plugin: string, state = 'active') => ({
  plugin,
  state,
  fallbackAction: undefined,
  isRefusedByPolicy: false,
  lastKnownGoodAgeSeconds: undefined,
});

test('nothing is written before the first event', async () => {
  assert.deepEqual(await bench().lines(), []);
});

test('each event is one line with the labels of its kind', async () => {
  const { metrics, lines } = bench();
  metrics.retried();
  metrics.envoyRejected();
  metrics.refused('wrong_signature');
  metrics.preflightRefused('unknown_import');
  metrics.fetchEnded('cache', 0.02);
  metrics.fetchFailed('oci', 3, 'timeout');
  metrics.fetchedBytes('oci', 1_000);
  metrics.fetchedBytes('oci', 24);
  metrics.evicted('expired', 0);
  metrics.evicted('quota', 2);
  metrics.watchCache(() => ({ sizeBytes: 90, limitBytes: 100 }));
  assert.deepEqual(
    (await lines()).filter((line) => !line.includes('_bucket')).toSorted(),
    [
      'cache_bytes 90',
      'cache_evictions_total{reason="quota"} 2',
      'cache_limit_bytes 100',
      'envoy_rejects_total 1',
      'fetch_bytes_total{source="oci"} 1024',
      'fetch_duration_seconds_sum{result="success",source="cache"} 0.02',
      'fetch_duration_seconds_count{result="success",source="cache"} 1',
      'fetch_duration_seconds_sum{result="failure",source="oci"} 3',
      'fetch_duration_seconds_count{result="failure",source="oci"} 1',
      'fetch_failures_total{reason="timeout",source="oci"} 1',
      'preflight_refusals_total{code="unknown_import"} 1',
      'refusals_total{reason="wrong_signature"} 1',
      'retries_total 1',
    ].toSorted(),
  );
});

test('the limit of a cache without one is absent', async () => {
  const { metrics, lines } = bench();
  metrics.watchCache(() => ({ sizeBytes: 90, limitBytes: undefined }));
  assert.deepEqual(await lines(), ['cache_bytes 90']);
});

test('a plugin has the series of its state now, and no other', async () => {
  const { metrics, lines } = bench();
  let state = 'preparing';
  metrics.watchPlugins(() => [
    {
      ...facts('shop.jwt', state),
      fallbackAction: 'deny',
      isRefusedByPolicy: false,
      lastKnownGoodAgeSeconds: 7.5,
    },
  ]);
  assert.deepEqual(await lines(), [
    'fallback_in_force{action="deny",plugin="shop.jwt"} 1',
    'last_known_good_age_seconds{plugin="shop.jwt"} 7.5',
    'plugin_state{plugin="shop.jwt",state="preparing"} 1',
  ]);
  state = 'active';
  assert.ok((await lines()).includes('plugin_state{plugin="shop.jwt",state="active"} 1'));
  assert.ok(!(await lines()).some((line) => line.includes('preparing')));
});

test('plugins that share a short name are one series, never the same series twice', async () => {
  const { metrics, lines } = bench();
  metrics.watchPlugins(() => [
    { ...facts('a.b'), lastKnownGoodAgeSeconds: 3 },
    { ...facts('a.b'), lastKnownGoodAgeSeconds: 9 },
    facts('a.b', 'failed'),
  ]);
  assert.deepEqual(await lines(), [
    'last_known_good_age_seconds{plugin="a.b"} 9',
    'plugin_state{plugin="a.b",state="active"} 2',
    'plugin_state{plugin="a.b",state="failed"} 1',
  ]);
});

test('any number of plugins, names and codes makes a bounded page that loses none', async () => {
  const { metrics, lines } = bench();
  metrics.watchPlugins(() =>
    Array.from({ length: 1_000 }, (_, index) => facts(`ns.plugin-${index}${'x'.repeat(500)}`, 'failed')),
  );
  for (let index = 0; index < 50; index++) metrics.refused(`GET https://host/${index} failed: no route`);
  const seen = await lines();
  assert.equal(seen.length, 102);
  assert.ok(seen.includes('plugin_state{plugin="other",state="failed"} 900'));
  assert.ok(seen.includes('refusals_total{reason="other"} 50'));
  assert.ok(seen.every((line) => line.length < 200));
});
