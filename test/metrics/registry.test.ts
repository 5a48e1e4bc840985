import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { MetricError, MetricRegistry } from '../../metrics/registry.ts';

test('a metric is absent, its comments included, until its first event', async () => {
  const registry = new MetricRegistry();
  const count = registry.counter({ name: 'events_total', help: 'Events.' });
  const level = registry.gauge({ name: 'level', help: 'Level.', labelNames: ['side'] });
  const size = registry.histogram({ name: 'size', help: 'Size.', buckets: [1, 2] });
  assert.equal(await registry.exposition(), '');
  count();
  assert.equal(
    await registry.exposition(),
    '# HELP istio_agent_events_total Events.\n# TYPE istio_agent_events_total counter\nistio_agent_events_total 1\n',
  );
  count({}, 2.5);
  level(0, { side: 'left' });
  size(1.5);
  assert.equal(
    await registry.exposition(),
    [
      '# HELP istio_agent_events_total Events.',
      '# TYPE istio_agent_events_total counter',
      'istio_agent_events_total 3.5',
      '# HELP istio_agent_level Level.',
      '# TYPE istio_agent_level gauge',
      'istio_agent_level{side="left"} 0',
      '# HELP istio_agent_size Size.',
      '# TYPE istio_agent_size histogram',
      'istio_agent_size_bucket{le="1"} 0',
      'istio_agent_size_bucket{le="2"} 1',
      'istio_agent_size_bucket{le="+Inf"} 1',
      'istio_agent_size_sum 1.5',
      'istio_agent_size_count 1',
      '',
    ].join('\n'),
  );
});

test('a labelled histogram keeps the lines of each label set together, le last', async () => {
  const registry = new MetricRegistry();
  const size = registry.histogram({ name: 'size', help: 'Size.', labelNames: ['way'], buckets: [1e6] });
  size(2e6, { way: 'out' });
  size(1, { way: 'in' });
  const lines = (await registry.exposition()).split('\n').slice(2, -1);
  assert.deepEqual(lines, [
    'istio_agent_size_bucket{way="in",le="1e+06"} 1',
    'istio_agent_size_bucket{way="in",le="+Inf"} 1',
    'istio_agent_size_sum{way="in"} 1',
    'istio_agent_size_count{way="in"} 1',
    'istio_agent_size_bucket{way="out",le="1e+06"} 0',
    'istio_agent_size_bucket{way="out",le="+Inf"} 1',
    'istio_agent_size_sum{way="out"} 2e+06',
    'istio_agent_size_count{way="out"} 1',
  ]);
});

test('a computed gauge is absent while there is nothing to compute', async () => {
  const registry = new MetricRegistry();
  let value: number | undefined;
  registry.computedGauge({ name: 'plain', help: 'Plain.' }, () => value);
  const certificates: { labels: { resource_name: string }; value: number }[] = [];
  registry.computedGauge({ name: 'labelled', help: 'Labelled.' }, () => certificates);
  assert.equal(await registry.exposition(), '');
  value = 0;
  certificates.push({ labels: { resource_name: 'default' }, value: -1 });
  const lines = (await registry.exposition()).split('\n');
  assert.ok(lines.includes('istio_agent_plain 0'));
  assert.ok(lines.includes('istio_agent_labelled{resource_name="default"} -1'));
});

test('a counter that somebody else keeps is read at each scrape, and absent while there is none', async () => {
  const registry = new MetricRegistry();
  const samples: { labels: { plugin: string }; value: number }[] = [];
  registry.watchedCounter({ name: 'seen_total', help: 'Seen.', labelNames: ['plugin'] }, async () => samples);
  assert.equal(await registry.exposition(), '');
  samples.push({ labels: { plugin: 'a' }, value: 7 });
  const lines = (await registry.exposition()).split('\n');
  assert.ok(lines.includes('# TYPE istio_agent_seen_total counter'));
  assert.ok(lines.includes('istio_agent_seen_total{plugin="a"} 7'));
});

test('a source that fails is left out and named, the others stay', async () => {
  const registry = new MetricRegistry();
  registry.counter({ name: 'good_total', help: 'Good.' })();
  registry.collector('broken', () => Promise.reject(new Error('EIO')));
  const failures: MetricError[] = [];
  const text = await registry.exposition((error) => failures.push(error));
  assert.match(text, /^istio_agent_good_total 1$/m);
  assert.deepEqual(
    failures.map((error) => error.message),
    ['metric source broken cannot be read: EIO'],
  );
  await assert.rejects(registry.exposition(), MetricError);
});

test('one name cannot be defined twice', () => {
  const registry = new MetricRegistry();
  registry.counter({ name: 'twice', help: 'First.' });
  assert.throws(() => registry.gauge({ name: 'twice', help: 'Second.' }), MetricError);
});

test('only the three metric classes of prom-client are loaded, not its index', () => {
  const loaded = Object.keys(createRequire(import.meta.url).cache).filter((path) =>
    path.includes('/prom-client/'),
  );
  assert.ok(loaded.some((path) => path.endsWith('/lib/counter.js')));
  assert.ok(!loaded.some((path) => path.endsWith('/prom-client/index.js')));
  assert.ok(
    !Object.keys(createRequire(import.meta.url).cache).some((path) => path.includes('opentelemetry')),
  );
});
