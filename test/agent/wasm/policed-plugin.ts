import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  FetchError,
  type FetchErrorCode,
  type FetchedModule,
  type ModuleRequest,
  type ModuleSource,
} from '../../../agent/fetch/types.ts';
import type { Policy } from '../../../agent/policy/policy-data.ts';
import { type KeptConfig, LastKnownGood, parseKeptConfig } from '../../../agent/wasm/last-known-good.ts';
import { ModulePreflight } from '../../../agent/wasm/module-preflight.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import type { PluginStatus } from '../../../agent/wasm/plugin-status.ts';
import type { Offer } from '../../../agent/wasm/rollout.ts';
import { FileRecordIndex } from '../../../cache/record-index.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import type { Any } from '../../support/ecds-codec.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { HandPolicy } from '../policy/hand-policy.ts';
import { createKeptLog, type KeptLog } from '../policy/kept-log.ts';
import { type PluginFixture, pluginResource } from './extension-fixtures.ts';
import { responseShell } from './prepared-config.ts';

export const pluginName = 'extensions.istio.io/trafficextension/shop.jwt~istio-translated-wasmplugin';
export const moduleUrl = 'oci://reg.test/jwt:1';
export const digest = 'd'.repeat(64);
export const otherDigest = 'e'.repeat(64);

/** One question to the source, which the test answers. */
export interface Question {
  readonly request: ModuleRequest;
  readonly signal: AbortSignal;
  readonly find: (moduleDigest?: string, more?: Partial<FetchedModule>) => void;
  readonly fail: (code: FetchErrorCode) => void;
}

/** Things in the order in which they came; each is taken once. */
class Arrivals<Item> {
  readonly #items: Item[] = [];
  #waiting: ((item: Item) => void) | undefined;

  add(item: Item): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#items.push(item);
    else waiting(item);
  }

  async next(): Promise<Item> {
    const item = this.#items.shift();
    return item ?? (await new Promise<Item>((resolve) => (this.#waiting = resolve)));
  }

  get left(): readonly Item[] {
    return this.#items;
  }
}

/** One plugin under a policy: real rollouts and records; the network, Envoy and istiod are the test. */
export class PolicedPlugin {
  readonly questions = new Arrivals<Question>();
  /** `plugin`, `fallback`, `last-known-good` as they are sent; `ok` or a failure as istiod hears it. */
  readonly events = new Arrivals<string>();
  readonly kept: KeptLog = createKeptLog();
  readonly metrics = new MetricRegistry();
  readonly #policy = new HandPolicy();
  readonly #index: FileRecordIndex<KeptConfig>;
  readonly #rollouts: PluginRollouts;
  #last: Offer | undefined;
  #disk: Promise<void> = Promise.resolve();

  private constructor(index: FileRecordIndex<KeptConfig>, policy: Policy) {
    this.#index = index;
    this.#policy.current = policy;
    const source: ModuleSource = {
      atHand: () => undefined,
      fetch: async (request, { signal }) =>
        new Promise((resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
          this.questions.add({
            request,
            signal,
            find: (moduleDigest = digest, more = {}) =>
              resolve({
                path: `/modules/${moduleDigest}`,
                digest: moduleDigest,
                checksum: moduleDigest,
                sizeBytes: 8,
                source: 'oci',
                matchedPin: undefined,
                ...more,
              }),
            fail: (code) => reject(new FetchError(code, `the registry says ${code}`)),
          });
        }),
    };
    const metrics = new WasmMetrics(this.metrics);
    const { log } = this.kept;
    this.#rollouts = new PluginRollouts({
      source,
      preflight: new ModulePreflight({ metrics: metrics.plugins, log }),
      store: {
        get: async (wanted) => {
          await this.#disk;
          return { digest: wanted, path: `/modules/${wanted}`, sizeBytes: 8 };
        },
        setReferences: () => undefined,
      },
      lastKnownGood: new LastKnownGood({ index }),
      policy: this.#policy,
      metrics,
      log,
      random: () => 0.5,
    });
    this.connect();
  }

  /** Envoy has a new stream. */
  connect(): void {
    this.#rollouts.attach({
      send: (_, offer) => {
        this.#last = offer;
        this.events.add(offer.content);
      },
      settled: (_, __, failure) => this.events.add(failure ?? 'ok'),
    });
  }

  /** On a volume of its own, or on that of an earlier one. Ends with the test. */
  static async open(context: TestContext, policy: Policy, folder?: string): Promise<PolicedPlugin> {
    const own = folder ?? (await temporaryFolder(context));
    const index = await FileRecordIndex.open({
      path: join(own, 'kept.json'),
      parse: parseKeptConfig,
      maxEntryCount: 10,
    });
    const plugin = new PolicedPlugin(index, policy);
    atEnd(context, () => plugin.close());
    return plugin;
  }

  /** A volume on which an earlier agent has run the plugin. */
  static async leaveBehind(
    context: TestContext,
    policy: Policy,
    more: Partial<FetchedModule> = {},
    options: PluginFixture = {},
  ): Promise<string> {
    const folder = await temporaryFolder(context);
    const before = await PolicedPlugin.open(context, policy, folder);
    await before.run(options, more);
    await before.close();
    return folder;
  }

  async close(): Promise<void> {
    await this.#rollouts.close();
    await this.#index.close();
  }

  /** istiod pushes it. */
  push(
    options: PluginFixture = {},
    any: Any = pluginResource({ name: pluginName, url: moduleUrl, ...options }),
  ): void {
    this.#rollouts.push(responseShell('v'), [{ any, wrapper: undefined, place: 'first' }]).start();
  }

  /** Nothing is read from disk until the function that is returned is called. */
  holdDisk(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#disk = promise;
    return resolve;
  }

  setPolicy(policy: Policy): void {
    this.#policy.set(policy);
  }

  /** Envoy takes what it was sent last. */
  accept(): void {
    this.#rollouts.acknowledged(this.status.name, this.#last?.number ?? 0);
  }

  /** It is pushed, found, and runs. */
  async run(options: PluginFixture = {}, more: Partial<FetchedModule> = {}): Promise<void> {
    this.push(options);
    (await this.questions.next()).find(digest, more);
    assert.equal(await this.events.next(), 'plugin');
    this.accept();
    assert.equal(await this.events.next(), 'ok');
  }

  /** It is pushed while the network is down. What is sent to Envoy then. */
  async runOffline(): Promise<string> {
    this.push();
    (await this.questions.next()).fail('network');
    await this.events.next();
    return this.events.next();
  }

  get status(): PluginStatus {
    const [status] = this.#rollouts.snapshot();
    assert.ok(status);
    return status;
  }
}
