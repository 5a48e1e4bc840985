import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, test } from 'node:test';
import type { Signer } from '../../../agent/fetch/signature/signer.ts';
import { LogRoot } from '../../../agent/log.ts';
import { type KeptConfig, LastKnownGood, parseKeptConfig } from '../../../agent/wasm/last-known-good.ts';
import { ModulePreflight } from '../../../agent/wasm/module-preflight.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import type { PluginStatus } from '../../../agent/wasm/plugin-status.ts';
import { failedRecheckDelayMs, recheckDelayMs } from '../../../agent/wasm/recheck.ts';
import type { Offer } from '../../../agent/wasm/rollout.ts';
import { FileRecordIndex } from '../../../cache/record-index.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import { poll } from '../../support/polling.ts';
import { FetchFixture } from '../fetch/fetch-fixture.ts';
import { ImageRegistry, ociTarGzip } from '../fetch/image-registry.ts';
import { ImageSigner } from '../fetch/image-signer.ts';
import { pluginLayer, sha256, wasmModule } from '../fetch/module-bytes.ts';
import { answer, startWebServer, type WebServer } from '../fetch/web-server.ts';
import { pluginResource } from './extension-fixtures.ts';
import { responseShell } from './prepared-config.ts';

const name = 'extensions.istio.io/wasmplugin/shop.jwt';
/** Bound on one plugin alone in its source. */
const oneOf = (text: string): Buffer => wasmModule(text);

/** A plugin named by a tag, its rollout over a real registry and store, and Envoy's answers given by the test. */
class PolledPlugin implements AsyncDisposable {
  readonly registry = new ImageRegistry();
  readonly offers: Offer[] = [];
  readonly settled: (string | undefined)[] = [];
  readonly metrics = new MetricRegistry();
  readonly #news = new EventTarget();
  readonly #parts = new AsyncDisposableStack();
  server!: WebServer;
  rollouts!: PluginRollouts;

  /** `pollIntervalMs` 0 is once a second. */
  static async open(pollIntervalMs: number | undefined, signers?: readonly Signer[]): Promise<PolledPlugin> {
    const polled = new PolledPlugin();
    const parts = polled.#parts;
    polled.server = parts.use(await startWebServer(polled.registry.handle));
    const fixture = parts.use(
      await FetchFixture.open({
        settings: {
          module: () => ({ layouts: [], mirrors: [], pollIntervalMs }),
          signersFor: () => (signers === undefined ? undefined : { signers }),
        },
      }),
    );
    const index: FileRecordIndex<KeptConfig> = await FileRecordIndex.open({
      path: join(fixture.folder, 'kept.json'),
      parse: parseKeptConfig,
      maxEntryCount: 10,
    });
    parts.defer(() => index.close());
    const log = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test');
    const metrics = new WasmMetrics(polled.metrics);
    polled.rollouts = new PluginRollouts({
      source: {
        atHand: (request) => fixture.source.atHand(request, () => true),
        fetch: (request, options) => fixture.source.fetch(request, options),
      },
      preflight: new ModulePreflight({ metrics: metrics.plugins, log }),
      store: fixture.store,
      lastKnownGood: new LastKnownGood({ index }),
      metrics,
      log,
      random: () => 0,
    });
    parts.defer(() => polled.rollouts.close());
    polled.rollouts.attach({
      send: (_, offer) => {
        polled.offers.push(offer);
        polled.#news.dispatchEvent(new Event('offer'));
      },
      settled: (_, __, failure) => polled.settled.push(failure),
    });
    return polled;
  }

  get url(): string {
    return `oci://${this.server.host}/p`;
  }

  async tag(module: Buffer, signer?: ImageSigner): Promise<void> {
    const layer = { mediaType: ociTarGzip, bytes: await pluginLayer(module) };
    if (signer !== undefined) signer.sign(this.registry, this.registry.image([layer]).digest);
    this.registry.image([layer], { tags: ['latest'] });
  }

  push(url = this.url): void {
    const any = pluginResource({ name, url });
    this.rollouts.push(responseShell('v1'), [{ any, wrapper: undefined, place: 'first' }]).start();
  }

  /** The next config that goes to Envoy; to be called before what brings it about. */
  async nextOffer(): Promise<Offer> {
    await once(this.#news, 'offer');
    const offer = this.offers.at(-1);
    assert.ok(offer);
    return offer;
  }

  /** It is pushed, fetched, offered, and Envoy accepts it. */
  async run(url = this.url): Promise<void> {
    const offer = this.nextOffer();
    this.push(url);
    await offer;
    this.accept();
  }

  accept(): void {
    this.rollouts.acknowledged(name, this.offers.at(-1)?.number ?? 0);
  }

  reject(): void {
    this.rollouts.rejected(name, this.offers.at(-1)?.number ?? 0, 'missing import env.foo');
  }

  get plugin(): PluginStatus {
    const [plugin] = this.rollouts.snapshot();
    assert.ok(plugin);
    return plugin;
  }

  /** Resolves when so many HEADs have come. */
  async headCount(count: number): Promise<void> {
    while (this.server.count('HEAD ') < count) await once(this.server.server, 'request');
  }

  async rechecks(): Promise<readonly string[]> {
    const text = await this.metrics.exposition();
    const start = 'istio_agent_ferry_wasm_rechecks_total';
    return text
      .split('\n')
      .filter((line) => line.startsWith(start))
      .map((line) => line.slice(start.length));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }
}

describe('a running plugin named by a moving tag', { concurrency: true }, () => {
  it('is looked after with a HEAD, and rolled to what the tag names next, without a push', async () => {
    await using polled = await PolledPlugin.open(0);
    await polled.tag(oneOf('one'));
    await polled.run();
    assert.notEqual(polled.plugin.nextRecheckAt, undefined);
    const pulls = polled.server.count('GET ');
    await polled.headCount(1);
    const second = polled.nextOffer();
    await polled.headCount(2);
    assert.equal(polled.server.count('GET '), pulls, 'nothing has changed: a HEAD says so');

    await polled.tag(oneOf('two'));
    const offer = await second;
    assert.equal(offer.content, 'plugin');
    assert.equal(offer.config.moduleDigest, sha256(oneOf('two')));
    assert.equal(polled.plugin.runningDigest, sha256(oneOf('one')), 'until Envoy accepts it');
    polled.accept();
    const { plugin } = polled;
    assert.deepEqual([plugin.state, plugin.runningDigest], ['active', sha256(oneOf('two'))]);
    assert.deepEqual(await readFile(plugin.file ?? ''), oneOf('two'));
    assert.deepEqual(polled.settled, [undefined], 'istiod hears one verdict on its push');
    assert.match(plugin.history.at(-2)?.why ?? '', /^its name means another module now: module /);
    assert.ok((await polled.rechecks()).includes('{result="changed"} 1'));
  });

  it('goes on with its module when Envoy refuses the new one, which is not offered again', async () => {
    await using polled = await PolledPlugin.open(0);
    await polled.tag(oneOf('one'));
    await polled.run();
    const second = polled.nextOffer();
    await polled.tag(oneOf('two'));
    await second;
    polled.reject();
    assert.equal(polled.offers.at(-1)?.config.moduleDigest, sha256(oneOf('one')), 'rolled back at once');
    polled.accept();
    assert.deepEqual(polled.settled, [undefined]);
    assert.deepEqual(
      [polled.plugin.state, polled.plugin.runningDigest, polled.plugin.lastError],
      ['active', sha256(oneOf('one')), 'missing import env.foo'],
    );
    const seen = polled.server.count('HEAD ');
    await polled.headCount(seen + 2);
    assert.equal(polled.offers.length, 3);

    const third = polled.nextOffer();
    await polled.tag(oneOf('three'));
    assert.equal((await third).config.moduleDigest, sha256(oneOf('three')));
    polled.accept();
    assert.equal(polled.plugin.lastError, undefined);
  });

  it('heals when Envoy had refused its first module', async () => {
    await using polled = await PolledPlugin.open(0);
    await polled.tag(oneOf('one'));
    const first = polled.nextOffer();
    polled.push();
    await first;
    polled.reject();
    assert.deepEqual(polled.settled, ['missing import env.foo']);
    const second = polled.nextOffer();
    await polled.tag(oneOf('two'));
    assert.equal((await second).config.moduleDigest, sha256(oneOf('two')));
    polled.accept();
    assert.deepEqual(polled.settled, ['missing import env.foo', undefined]);
    assert.equal(polled.plugin.state, 'active');
  });

  it('goes on while its registry is down, and says so', async () => {
    await using polled = await PolledPlugin.open(0);
    await polled.tag(oneOf('one'));
    await polled.run();
    let isDown = true;
    polled.registry.fail('HEAD ', (_, response) => {
      if (isDown) answer(response, 403);
      return isDown;
    });
    await polled.headCount(2);
    const { plugin } = polled;
    assert.deepEqual([plugin.state, plugin.inForce], ['active', 'plugin']);
    assert.match(plugin.lastError ?? '', /status code 403/);
    assert.equal(plugin.history.at(-1)?.what, 'recheck-failed');
    const second = polled.nextOffer();
    await polled.tag(oneOf('two'));
    isDown = false;
    await second;
    assert.equal(polled.plugin.lastError, undefined);
    assert.deepEqual(polled.settled, [undefined]);
  });

  it('that must be signed goes on with its module when its tag names one that is not', async () => {
    const release = new ImageSigner('release');
    await using polled = await PolledPlugin.open(0, await release.signers());
    await polled.tag(oneOf('one'), release);
    await polled.run();
    await polled.tag(oneOf('two'), new ImageSigner('release'));
    const lastError = await poll(
      async () => {
        const { lastError: value } = polled.plugin;
        return value === undefined ? { done: false, seen: 'no error' } : { done: true, value };
      },
      { what: 'The refusal of an image that nobody known has signed', deadlineMs: 20_000 },
    );
    assert.match(lastError, /no key of the signer made it/);
    assert.deepEqual(
      [polled.plugin.state, polled.plugin.runningDigest, polled.offers.length, polled.settled],
      ['active', sha256(oneOf('one')), 1, [undefined]],
    );
    assert.deepEqual(await polled.rechecks(), ['{result="failed"} 1']);
  });

  it('is not looked after without an interval, by a digest, or when it is withdrawn', async () => {
    await using unpolled = await PolledPlugin.open(undefined);
    await unpolled.tag(oneOf('one'));
    await unpolled.run();
    assert.equal(unpolled.plugin.nextRecheckAt, undefined);

    await using polled = await PolledPlugin.open(0);
    await polled.tag(oneOf('one'));
    await polled.run();
    assert.notEqual(polled.plugin.nextRecheckAt, undefined);
    await polled.run(`${polled.url}@sha256:${polled.plugin.checksum}`);
    assert.equal(polled.plugin.nextRecheckAt, undefined, 'the push ended it');
    const offer = polled.nextOffer();
    polled.push();
    await offer;
    polled.rollouts.withdraw(name);
    assert.deepEqual(polled.rollouts.snapshot(), []);
  });
});

describe('the wait before a tag is looked after again', () => {
  test('is spread over half of it, never shorter, and never beyond what a timer can do', () => {
    assert.equal(
      recheckDelayMs(60_000, () => 0),
      60_000,
    );
    assert.equal(
      recheckDelayMs(60_000, () => 0.5),
      75_000,
    );
    assert.equal(
      recheckDelayMs(365 * 86_400_000, () => 0.9),
      2 ** 31 - 1,
    );
  });

  test('grows with failures where the interval is short, and heeds what the server asks for', () => {
    const wait = (attemptCount: number, retryAfterMs?: number): number =>
      failedRecheckDelayMs(10_000, { code: 'network', attemptCount, retryAfterMs }, () => 0.5);
    assert.deepEqual([wait(1), wait(5), wait(20)], [12_500, 16_000, 60_000]);
    // A quarter more: half of the random share.
    assert.equal(wait(1, 90_000), 112_500);
  });
});
