import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import {
  FetchError,
  type FetchErrorCode,
  type FetchedModule,
  type ModuleRequest,
  type ModuleSource,
} from '../../../agent/fetch/types.ts';
import { LogRoot } from '../../../agent/log.ts';
import { formatDebugPage } from '../../../agent/status/debug-page.ts';
import { readWasmReport } from '../../../agent/status/wasm-report.ts';
import { type KeptConfig, LastKnownGood, parseKeptConfig } from '../../../agent/wasm/last-known-good.ts';
import { ModulePreflight } from '../../../agent/wasm/module-preflight.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import type { PluginStatus } from '../../../agent/wasm/plugin-status.ts';
import type { Offer } from '../../../agent/wasm/rollout.ts';
import { FileRecordIndex } from '../../../cache/record-index.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { pluginResource } from './extension-fixtures.ts';
import { responseShell } from './prepared-config.ts';

const name = 'extensions.istio.io/trafficextension/shop.jwt~istio-translated-wasmplugin';
const digest = 'd'.repeat(64);
/** `FAIL_OPEN` of `extensions.wasm.v3.FailurePolicy`. */
const failOpen = 3;

/** Answers each request as the test says, in order. */
class ScriptedSource implements ModuleSource {
  readonly answers: (() => FetchedModule)[] = [];

  /** Nothing is: each answer is the test's. */
  atHand(): undefined {}

  async fetch(_request: ModuleRequest): Promise<FetchedModule> {
    const answer = this.answers.shift();
    if (answer === undefined) throw new Error('the test has no answer for this request');
    return answer();
  }
}

const found =
  (moduleDigest = digest) =>
  (): FetchedModule => ({
    path: `/modules/${moduleDigest}`,
    digest: moduleDigest,
    checksum: moduleDigest,
    sizeBytes: 4096,
    source: 'oci',
    matchedPin: undefined,
  });

const missing =
  (code: FetchErrorCode = 'not_found') =>
  (): FetchedModule => {
    throw new FetchError(code, `registry says ${code}`);
  };

/** Rollouts with their real parts, but for the network, and Envoy's answers given by the test. */
class Bench {
  readonly source = new ScriptedSource();
  readonly registry = new MetricRegistry();
  readonly offers: Offer[] = [];
  /** Of the rollouts, as they come at the level of a pod. */
  readonly logLines: string[] = [];
  readonly rollouts: PluginRollouts;
  nowMs = Date.parse('2031-01-01T00:00:00.000Z');
  readonly #index: FileRecordIndex<KeptConfig>;
  #settled = Promise.withResolvers<void>();

  private constructor(index: FileRecordIndex<KeptConfig>) {
    this.#index = index;
    const write = (line: string): void => void this.logLines.push(line);
    const log = new LogRoot({ format: 'text', levels: new Map(), write }).scope('test');
    const now = (): number => this.nowMs;
    const metrics = new WasmMetrics(this.registry);
    this.rollouts = new PluginRollouts({
      source: this.source,
      preflight: new ModulePreflight({ metrics: metrics.plugins, log }),
      store: {
        get: async (wanted) => ({ digest: wanted, path: `/modules/${wanted}`, sizeBytes: 4096 }),
        setReferences: () => undefined,
      },
      lastKnownGood: new LastKnownGood({ index, now }),
      metrics,
      log,
      now,
      random: () => 0.5,
    });
    this.rollouts.attach({
      send: (_, offer) => {
        this.offers.push(offer);
        this.#settled.resolve();
      },
      settled: () => this.#settled.resolve(),
    });
  }

  static async open(context: TestContext, folder?: string): Promise<Bench> {
    const own = folder ?? (await temporaryFolder(context));
    const log = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test');
    const index = await FileRecordIndex.open({
      path: join(own, 'kept.json'),
      parse: parseKeptConfig,
      maxEntryCount: 10,
      log,
    });
    const bench = new Bench(index);
    atEnd(context, () => bench.close());
    return bench;
  }

  async close(): Promise<void> {
    await this.rollouts.close();
    await this.#index.close();
  }

  /** istiod pushes the plugin; resolves when something was sent to Envoy or settled. */
  async push(options: Parameters<typeof pluginResource>[0] = {}): Promise<void> {
    this.#settled = Promise.withResolvers();
    const any = pluginResource({ name, ...options });
    this.rollouts.push(responseShell('v7'), [{ any, wrapper: undefined, place: 'first' }]).start();
    await this.#settled.promise;
  }

  /** Resolves with the next thing that is sent to Envoy or settled. */
  async news(): Promise<void> {
    this.#settled = Promise.withResolvers();
    await this.#settled.promise;
  }

  acknowledge(): void {
    this.rollouts.acknowledged(name, this.offers.at(-1)?.number ?? 0);
  }

  reject(reason: string): void {
    this.rollouts.rejected(name, this.offers.at(-1)?.number ?? 0, reason);
  }

  get plugin(): PluginStatus {
    const [plugin] = this.rollouts.snapshot();
    assert.ok(plugin);
    return plugin;
  }

  get history(): readonly string[] {
    return this.plugin.history.map(({ what, count }) => (count === 1 ? what : `${what} x${count}`));
  }

  /** Lines of Ferry's own metrics, without the prefix. */
  async metrics(): Promise<readonly string[]> {
    const text = await this.registry.exposition();
    return text
      .split('\n')
      .filter((line) => line.startsWith('istio_agent_ferry_wasm_') && !line.includes('_duration_seconds_'))
      .map((line) => line.slice('istio_agent_ferry_wasm_'.length));
  }
}

describe('a plugin explains itself', () => {
  test('when its module cannot be had for long: the log tells it once, as often as a reminder is due, and anew', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const bench = await Bench.open(context);
    const told = (): readonly string[] => {
      const lines = bench.logLines.splice(0).map((line) => line.split('\t'));
      return lines.map(([, level, , message = '']) => `${level} ${message}`);
    };
    const both = ['error Wasm module cannot be had', 'info Wasm module will be fetched again'];
    /** Lets the next try come, which fails. */
    const failAgain = async (code?: FetchErrorCode): Promise<void> => {
      bench.source.answers.push(missing(code));
      const news = bench.news();
      // The longest wait, and its random share.
      bench.nowMs += 90_000;
      context.mock.timers.tick(90_000);
      await news;
    };
    bench.source.answers.push(missing());
    await bench.push();
    bench.acknowledge();
    assert.deepEqual(told(), both, 'the first failure');
    await failAgain();
    await failAgain();
    assert.deepEqual(told(), [], 'the same again');
    await failAgain('unauthorized');
    assert.deepEqual(told(), both, 'another failure');
    for (let minute = 1.5; minute < 10; minute += 1.5) await failAgain('unauthorized');
    assert.deepEqual(told(), [], 'within ten minutes');
    await failAgain('unauthorized');
    assert.deepEqual(told(), both, 'the reminder');
    bench.source.answers.push(found());
    const ready = bench.news();
    context.mock.timers.tick(90_000);
    await ready;
    bench.acknowledge();
    told();
    bench.source.answers.push(missing('unauthorized'));
    await bench.push({ url: 'oci://registry.example/basic_auth:1.13.0' });
    assert.deepEqual(told(), both, 'the failure of another push');
  });

  test('when its module cannot be had and comes later', async (context) => {
    const bench = await Bench.open(context);
    bench.source.answers.push(missing());
    await bench.push();
    assert.equal(bench.plugin.inForce, 'none');
    assert.equal(bench.plugin.fallbackAction, undefined, 'the stand-in is not in force before the ACK');
    bench.acknowledge();
    const failed = bench.plugin;
    assert.equal(failed.state, 'failed');
    assert.equal(failed.retry, 'waiting');
    assert.equal(failed.stateSince, '2031-01-01T00:00:00.000Z');
    assert.equal(failed.nextRetryAt, '2031-01-01T00:00:01.000Z');
    assert.equal(failed.fallbackAction, 'deny');
    assert.equal(failed.failAction, 'deny');
    assert.equal(failed.url, 'oci://registry.example/basic_auth:1.12.0');
    assert.deepEqual(failed.history, [
      {
        at: '2031-01-01T00:00:00.000Z',
        lastAt: undefined,
        count: 1,
        what: 'pushed',
        why: 'module oci://registry.example/basic_auth:1.12.0',
      },
      {
        at: '2031-01-01T00:00:00.000Z',
        lastAt: undefined,
        count: 1,
        what: 'failed',
        why: 'registry says not_found',
      },
      {
        at: '2031-01-01T00:00:00.000Z',
        lastAt: undefined,
        count: 1,
        what: 'fallback',
        why: 'all requests are denied',
      },
    ]);
    assert.deepEqual(await bench.metrics(), [
      'fallback_in_force{action="deny",plugin="shop.jwt"} 1',
      'fetch_failures_total{reason="not_found",source="oci"} 1',
      'plugin_state{plugin="shop.jwt",state="failed"} 1',
    ]);

    bench.source.answers.push(found());
    await bench.push();
    bench.acknowledge();
    bench.nowMs += 5_000;
    const healed = bench.plugin;
    assert.equal(healed.state, 'active');
    assert.equal(healed.runningDigest, digest);
    assert.equal(healed.lastError, undefined);
    assert.equal(healed.nextRetryAt, undefined);
    assert.equal(healed.lastKnownGoodAt, '2031-01-01T00:00:00.000Z');
    assert.deepEqual(bench.history, ['pushed', 'failed', 'fallback', 'pushed', 'offered', 'accepted']);
    assert.deepEqual(await bench.metrics(), [
      'fetch_failures_total{reason="not_found",source="oci"} 1',
      'last_known_good_age_seconds{plugin="shop.jwt"} 5',
      'plugin_state{plugin="shop.jwt",state="active"} 1',
    ]);
  });

  test('when Envoy refuses an update: what runs is not what was sent', async (context) => {
    const bench = await Bench.open(context);
    bench.source.answers.push(found(), found('e'.repeat(64)));
    await bench.push();
    bench.acknowledge();
    await bench.push({ url: 'oci://registry.example/basic_auth:2' });
    bench.reject('missing import env.foo');
    bench.acknowledge();
    const { plugin } = bench;
    assert.equal(plugin.state, 'failed');
    assert.equal(plugin.retry, 'none');
    assert.equal(plugin.nextRetryAt, undefined);
    assert.equal(plugin.inForce, 'plugin');
    assert.equal(plugin.runningDigest, digest);
    assert.equal(plugin.digest, 'e'.repeat(64));
    assert.equal(plugin.lastError, 'missing import env.foo');
    assert.deepEqual(bench.history.slice(-4), ['pushed', 'offered', 'rejected', 'accepted']);
    const metrics = await bench.metrics();
    assert.ok(metrics.includes('envoy_rejects_total 1'));
    assert.ok(metrics.includes('plugin_state{plugin="shop.jwt",state="failed"} 1'));
  });

  test('with the action of the stand-in that runs, not of the config that is on its way', async (context) => {
    const bench = await Bench.open(context);
    bench.source.answers.push(missing(), missing());
    await bench.push();
    bench.acknowledge();
    await bench.push({ failurePolicy: failOpen });
    assert.equal(bench.plugin.failAction, 'allow');
    assert.equal(bench.plugin.fallbackAction, 'deny', 'Envoy has not answered yet');
    assert.ok((await bench.metrics()).includes('fallback_in_force{action="deny",plugin="shop.jwt"} 1'));
    bench.acknowledge();
    assert.equal(bench.plugin.fallbackAction, 'allow');
    assert.ok((await bench.metrics()).includes('fallback_in_force{action="allow",plugin="shop.jwt"} 1'));
  });

  test('counting retries, and refusals of modules that are not what was asked for', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const bench = await Bench.open(context);
    bench.source.answers.push(missing('digest_mismatch'), missing('digest_mismatch'));
    await bench.push();
    bench.acknowledge();
    context.mock.timers.tick(1_000);
    assert.equal(bench.plugin.retry, 'running');
    assert.equal(bench.plugin.nextRetryAt, undefined);
    await bench.news();
    assert.equal(bench.plugin.retry, 'waiting');
    assert.equal(bench.plugin.failedAttemptCount, 2);
    assert.deepEqual(bench.history, ['pushed', 'failed', 'fallback', 'failed']);
    const metrics = await bench.metrics();
    assert.ok(metrics.includes('retries_total 1'));
    assert.ok(metrics.includes('refusals_total{reason="digest_mismatch"} 2'));
  });

  test('after a restart: the age of what serves is that of its acceptance', async (context) => {
    const folder = await temporaryFolder(context);
    const before = await Bench.open(context, folder);
    before.source.answers.push(found());
    await before.push();
    before.acknowledge();
    await before.close();
    const bench = await Bench.open(context, folder);
    bench.nowMs += 60_000;
    bench.source.answers.push(missing());
    await bench.push();
    bench.acknowledge();
    assert.equal(bench.plugin.inForce, 'last-known-good');
    assert.equal(bench.plugin.lastKnownGoodAt, '2031-01-01T00:00:00.000Z');
    assert.deepEqual(bench.history, ['pushed', 'failed', 'last-known-good']);
    const metrics = await bench.metrics();
    assert.ok(metrics.includes('last_known_good_age_seconds{plugin="shop.jwt"} 60'));
    assert.ok(!metrics.some((line) => line.startsWith('fallback_in_force')));
  });

  test('in a form that page and command line can read, for every plan', async (context) => {
    const bench = await Bench.open(context);
    bench.source.answers.push(missing());
    await bench.push();
    for (const code of ['local', 'inline', 'none'] as const) await bench.push({ code });
    await bench.push({ url: undefined });
    const page = {
      nodeId: 'n',
      isConversionEnabled: true,
      plugins: bench.rollouts.snapshot(),
      xds: { discoveryAddress: 'a:1', stream: undefined, failedDialCount: 0, lastEnd: undefined },
    };
    const reading = readWasmReport(JSON.parse(formatDebugPage(page)));
    assert.equal(reading.kind, 'report', JSON.stringify(reading));
  });
});
