import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Readiness, type ReadinessCheck } from '../../../agent/status/readiness.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { StatusMetrics } from '../../../metrics/status-metrics.ts';
import { RecordingLog } from './status-fixture.ts';

function makeReadiness(checks: readonly ReadinessCheck[], patienceMs = 5000) {
  const registry = new MetricRegistry();
  const log = new RecordingLog();
  const metrics = new StatusMetrics(registry);
  let uptime = 0.25;
  const readiness = new Readiness({
    checks,
    metrics,
    log,
    patienceMs,
    uptimeSeconds: () => (uptime += 0.25),
  });
  return { readiness, log, registry };
}

test('checks run in order, the first reason decides and later checks are not asked', async () => {
  const asked: string[] = [];
  const check = (name: string, reason: string | undefined): ReadinessCheck => ({
    name,
    check: async () => {
      asked.push(name);
      return Promise.resolve(reason);
    },
  });
  const { readiness, log } = makeReadiness([
    check('first', undefined),
    check('second', 'server is terminated: signal'),
    check('third', 'never seen'),
  ]);
  assert.equal(await readiness.probe(), false);
  assert.deepEqual(asked, ['first', 'second']);
  assert.deepEqual(log.lines, [
    { level: 'warn', message: 'Envoy proxy is NOT ready: server is terminated: signal', fields: {} },
  ]);
});

test('ready is logged at each change to it, and the start-up time is set at the first alone', async () => {
  let reason: string | undefined;
  const { readiness, log, registry } = makeReadiness([
    { name: 'changing', check: () => Promise.resolve(reason) },
  ]);
  const verdicts: boolean[] = [];
  for (const next of ['not yet', undefined, undefined, 'gone', undefined]) {
    reason = next;
    verdicts.push(await readiness.probe());
  }
  assert.deepEqual(verdicts, [false, true, true, false, true]);
  assert.deepEqual(
    log.lines.map((line) => line.message),
    [
      'Envoy proxy is NOT ready: not yet',
      'Readiness succeeded in 0.5s',
      'Envoy proxy is ready',
      'Envoy proxy is NOT ready: gone',
      'Envoy proxy is ready',
    ],
  );
  assert.match(await registry.exposition(), /^istio_agent_startup_duration_seconds 0\.5$/m);
});

test('a check that throws is a reason, named', async () => {
  const { readiness, log } = makeReadiness([
    { name: 'Envoy has config', check: () => Promise.reject(new Error('ECONNREFUSED')) },
  ]);
  assert.equal(await readiness.probe(), false);
  assert.deepEqual(log.messages('warn'), ['Envoy proxy is NOT ready: Envoy has config: ECONNREFUSED']);
});

test('parallel probes share one run of the checks', async () => {
  const gate = Promise.withResolvers<string | undefined>();
  let runCount = 0;
  const { readiness } = makeReadiness([
    {
      name: 'slow',
      check: () => {
        runCount += 1;
        return gate.promise;
      },
    },
  ]);
  const probes = [readiness.probe(), readiness.probe(), readiness.probe()];
  gate.resolve(undefined);
  assert.deepEqual(await Promise.all(probes), [true, true, true]);
  assert.equal(runCount, 1);
  assert.equal(await readiness.probe(), true);
  assert.equal(runCount, 2);
});

test('a check that hangs makes probes fail, is not started again, and may still come back', async () => {
  const gate = Promise.withResolvers<string | undefined>();
  let runCount = 0;
  const hanging: ReadinessCheck = {
    name: 'hanging',
    check: () => {
      runCount += 1;
      return gate.promise;
    },
  };
  const { readiness, log } = makeReadiness([hanging], 20);
  assert.equal(await readiness.probe(), false);
  assert.equal(await readiness.probe(), false);
  assert.equal(runCount, 1);
  assert.equal(log.messages('warn')[0], 'Envoy proxy is NOT ready: hanging: no result within 20 ms');
  gate.resolve(undefined);
  assert.equal(await readiness.probe(), true);
});

test('without checks the agent is ready', async () => {
  assert.equal(await makeReadiness([]).readiness.probe(), true);
});
