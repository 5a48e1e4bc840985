import assert from 'node:assert/strict';
import { LogRoot } from '../../../agent/log.ts';
import type { Policy } from '../../../agent/policy/policy-data.ts';
import { LastKnownGood } from '../../../agent/wasm/last-known-good.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import { EcdsSession } from '../../../agent/xds/ecds-session.ts';
import type { GrpcStatus } from '../../../agent/xds/grpc-status.ts';
import type { StreamKind } from '../../../agent/xds/interceptor.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import { decodeExtensionConfig } from '../../support/ecds-codec.ts';
import { HandPolicy } from '../policy/hand-policy.ts';
import { MemoryIndex } from '../wasm/memory-index.ts';
import { EcdsWire } from './ecds-wire.ts';
import { ModelEnvoy } from './model-envoy.ts';
import { ModelIstiod } from './model-istiod.ts';
import { modelPlugin, moduleId, moduleOf, type Offered, offeredOf } from './model-plugin.ts';
import { ModelRegistry } from './model-registry.ts';

const dayMs = 86_400_000;

/** The policies of the model operator, by what they do with remote modules; inline ones are always allowed. */
export interface WorldPolicies {
  readonly allow: Policy;
  /** Refused, and what runs is left alone. */
  readonly keep: Policy;
  /** Refused, and what runs is replaced. */
  readonly stop: Policy;
  /** Allowed; a first load holds nobody back for long. */
  readonly hurry: Policy;
}

export const ecdsSteps = [
  'change',
  'remove',
  'push',
  'subscribe',
  'fetched',
  'failed',
  'answer',
  'listener',
  'clock',
  'clock-set',
  'policy',
  'disconnect',
  'restart',
] as const;

export type EcdsStep = (typeof ecdsSteps)[number];

/**
 * The agent's ECDS part between a model istiod and a model Envoy, both as the real ones were seen to behave. Each
 * step is checked against the promises of docs/rollout.md as it happens.
 */
export class EcdsWorld {
  readonly #kind: StreamKind;
  readonly #wire: EcdsWire;
  readonly #tick: (ms: number) => void;
  readonly #volume = new MemoryIndex();
  readonly #policies: WorldPolicies;
  readonly #policy = new HandPolicy();
  readonly #registry = new ModelRegistry();
  readonly #envoy = new ModelEnvoy();
  readonly #istiod: ModelIstiod;
  #policyName: keyof WorldPolicies = 'allow';
  #unrepaired = new Set<string>();
  #nowMs = 1_700_000_000_000;
  #rollouts: PluginRollouts;
  #session!: EcdsSession;
  #streamCount = 0;
  #ended: GrpcStatus | undefined;
  #generation = 0;
  /** The newest generation sent to Envoy for the first time. */
  readonly #newestSent = new Map<string, number>();
  readonly #inlineIds = new Set<string>();
  #broken: Error | undefined;

  constructor(kind: StreamKind, policies: WorldPolicies, tick: (ms: number) => void) {
    this.#kind = kind;
    this.#wire = new EcdsWire(kind);
    this.#istiod = new ModelIstiod({ kind, wire: this.#wire, wanted: this.#envoy.wanted });
    this.#policies = policies;
    this.#policy.current = policies.allow;
    this.#tick = tick;
    this.#rollouts = this.#start();
    this.#connect();
  }

  /** Envoy asks for a plugin, of which istiod knows nothing yet. */
  async begin(): Promise<void> {
    this.#want('a');
    await this.#turn();
    await this.#read();
  }

  /** What may happen next; `pick` chooses among what there is. */
  async step(choice: EcdsStep, pick: number): Promise<void> {
    const name = pick % 2 === 0 ? 'a' : 'b';
    switch (choice) {
      case 'change':
        this.#change(name, pick);
        this.#push();
        break;
      case 'remove':
        this.#istiod.plugins.delete(name);
        this.#push();
        break;
      case 'push':
        this.#push();
        break;
      case 'subscribe':
        // A listener names what istiod has.
        if (this.#envoy.wanted.has(name) || this.#istiod.plugins.has(name)) this.#want(name);
        break;
      case 'fetched':
        this.#registry.succeed(pick);
        break;
      case 'failed':
        this.#registry.fail(pick, pick % 3 === 0 ? 'not_wasm' : 'network');
        break;
      case 'answer':
        this.#answer();
        break;
      case 'listener':
        this.#envoy.take({ kind: 'listener' });
        break;
      case 'clock':
        this.#pass([500, 5_000, 70_000, 700_000][pick % 4] ?? 0);
        break;
      case 'clock-set':
        this.#nowMs += pick % 2 === 0 ? 30 * dayMs : -30 * dayMs;
        break;
      case 'policy':
        this.#setPolicy((['allow', 'keep', 'stop', 'hurry'] as const)[pick % 4] ?? 'allow');
        break;
      case 'disconnect':
        this.#reconnect();
        break;
      case 'restart':
        await this.#restart();
        break;
      default:
        choice satisfies never;
    }
    await this.#turn();
    // Else its next push comes first.
    if (pick % 4 !== 3) await this.#read();
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** Now every fetch succeeds and Envoy answers all: what must be in force in the end? */
  async finish(): Promise<void> {
    const { plugins } = this.#istiod;
    // Listeners of plugins that are gone are gone too.
    for (const name of this.#envoy.wanted) if (!plugins.has(name)) this.#want(name);
    await this.#turn();
    await this.#read();
    await this.#checkStopped();
    this.#setPolicy('allow');
    for (let round = 0; round < 12; round++) {
      for (let index = this.#registry.fetching.length; index > 0; index--) this.#registry.succeed(0);
      await this.#turn();
      await this.#read();
      while (!this.#envoy.isIdle) this.#answer();
      await this.#turn();
      await this.#read();
      this.#pass(700_000);
      await this.#turn();
      if (this.#broken !== undefined) throw this.#broken;
    }
    this.#checkEnd();
    await this.#rollouts.close();
  }

  #checkEnd(): void {
    const { plugins, latestVerdicts } = this.#istiod;
    const { wanted, filters, isListenerRefused } = this.#envoy;
    assert.deepEqual(this.#registry.fetching, [], 'no fetch goes on');
    assert.equal(isListenerRefused, false, 'a listener that was refused has come again');
    assert.deepEqual([...wanted.difference(this.#istiod.subscribed)], [], 'istiod knows all names');
    const asked = [...wanted].flatMap((name) => plugins.get(name) ?? []);
    for (const plugin of asked) {
      const { name } = plugin;
      const filter = filters.get(name);
      assert.ok(filter, `${name} has something in Envoy`);
      assert.ok(this.#rollouts.names().includes(name), `${name} is not forgotten`);
      assert.equal(filter.isRefused, false, `${name}: Envoy is not left with what it refused`);
      const { running } = filter;
      if (!plugin.isBad) assert.deepEqual(running, moduleOf(plugin), `${name} runs its newest config`);
      else assert.notDeepEqual(running, undefined, `${name}: something stands in for what Envoy refused`);
      if (plugin.strategy === 'closed')
        assert.notEqual(running?.kind, 'allow', `${name} is not open in the end`);
    }
    if (latestVerdicts === undefined) return;
    assert.ok(latestVerdicts.length > 0, 'the newest push has its verdict');
    if (asked.every(({ isBad }) => !isBad))
      assert.notEqual(latestVerdicts.at(-1), 'nack', 'istiod knows of the healing');
  }

  /**
   * Under a policy that stops modules, Envoy runs none once it has taken what it was sent. Its answers may end the
   * stream, and what was on the way with it: that comes again when istiod answers on the next.
   */
  async #checkStopped(): Promise<void> {
    if (this.#policyName !== 'stop') return;
    for (let round = 0; round < 4; round++) {
      while (!this.#envoy.isIdle) this.#answer();
      await this.#turn();
      await this.#read();
    }
    for (const [name, { running }] of this.#envoy.filters) {
      if (running?.kind !== 'module' || !this.#istiod.plugins.has(name)) continue;
      const id = moduleId({ name, generation: running.generation });
      assert.ok(this.#inlineIds.has(id), `${id} runs, and the policy stops it`);
    }
  }

  #change(name: string, pick: number): void {
    this.#generation += 1;
    const plugin = modelPlugin(name, this.#generation, pick);
    this.#istiod.plugins.set(name, plugin);
    if (plugin.isBad) this.#registry.badModules.add(moduleId(plugin));
    if (plugin.code === 'inline') this.#inlineIds.add(moduleId(plugin));
  }

  #start(): PluginRollouts {
    return new PluginRollouts({
      source: this.#registry.source,
      preflight: { passLocal: () => Promise.resolve() },
      store: {
        get: async (digest) => ({ digest, path: `/${digest}`, sizeBytes: 8 }),
        setReferences: () => undefined,
      },
      policy: this.#policy,
      lastKnownGood: new LastKnownGood({ index: this.#volume, now: () => this.#nowMs }),
      metrics: new WasmMetrics(new MetricRegistry()),
      log: silentLog(),
      now: () => this.#nowMs,
      random: () => 0.5,
    });
  }

  #connect(): void {
    this.#streamCount += 1;
    this.#envoy.connect();
    this.#istiod.connect();
    this.#ended = undefined;
    this.#session = new EcdsSession({
      stream: {
        id: this.#streamCount,
        kind: this.#kind,
        sendDownstream: (message) => this.#note(() => this.#receive(message)),
        sendUpstream: (message) => this.#note(() => this.#istiod.hear(message)),
        end: (status) => {
          this.#ended = status;
        },
      },
      rollouts: this.#rollouts,
      unrepaired: this.#unrepaired,
      log: silentLog(),
    });
    const { wanted } = this.#envoy;
    if (wanted.size > 0) this.#subscribe([...wanted], []);
  }

  /** Envoy and istiod find each other again. */
  #reconnect(): void {
    this.#session.close();
    this.#connect();
  }

  /** Agent and Envoy start again on the same volume. */
  async #restart(): Promise<void> {
    this.#session.close();
    await this.#rollouts.close();
    assert.deepEqual(this.#registry.fetching, [], 'a closed agent fetches nothing');
    this.#envoy.restart();
    this.#newestSent.clear();
    this.#rollouts = this.#start();
    this.#unrepaired = new Set();
    this.#connect();
  }

  #push(): void {
    this.#deliver(this.#istiod.push());
  }

  /** A response of istiod comes to the agent. */
  #deliver(response: Uint8Array | undefined): void {
    if (response === undefined) return;
    this.#session.onResponse(response);
    this.#followEnd();
  }

  /** istiod reads what has come, and answers. */
  async #read(): Promise<void> {
    for (let letter = this.#istiod.read(); letter !== undefined; letter = this.#istiod.read()) {
      this.#deliver(letter.answer);
      await this.#turn();
    }
  }

  /** A listener that names the filter comes or goes. */
  #want(name: string): void {
    if (this.#envoy.toggle(name)) this.#subscribe([name], []);
    else this.#subscribe([], [name]);
  }

  #subscribe(added: readonly string[], removed: readonly string[]): void {
    const { wanted, answeredNonce } = this.#envoy;
    this.#session.onRequest(this.#wire.subscription(wanted, { added, removed }, answeredNonce));
    for (const name of removed) {
      const isFetching = this.#registry.fetching.includes(name);
      assert.ok(!isFetching, `nobody asks for ${name} any more, and its fetch ends`);
    }
    this.#followEnd();
  }

  /** The agent calls: a promise that it breaks is told after the step, not to the agent. */
  #note(take: () => void): void {
    try {
      take();
    } catch (error) {
      this.#broken ??= error instanceof Error ? error : new Error(String(error));
    }
  }

  #setPolicy(name: keyof WorldPolicies): void {
    this.#policyName = name;
    this.#istiod.notePolicy();
    this.#policy.set(this.#policies[name]);
  }

  /** A response of the agent to Envoy. */
  #receive(message: Uint8Array): void {
    const { nonce, config } = this.#wire.readResponse(message);
    if (config === undefined) {
      this.#envoy.take({ kind: 'notice', nonce });
      return;
    }
    const { name } = decodeExtensionConfig(config);
    const bytes = Buffer.from(config).toString('latin1');
    const offered = offeredOf(bytes);
    this.#check(name, offered);
    this.#envoy.take({ kind: 'config', nonce, name, offered, bytes });
  }

  #check(name: string, offered: Offered): void {
    const plugin = this.#istiod.told.get(name);
    if (offered.kind === 'allow')
      assert.equal(plugin?.strategy, 'open', `${name}: only a plugin that is FAIL_OPEN is let go without`);
    if (offered.kind !== 'module') return;
    const { generation } = offered;
    const id = moduleId({ name, generation });
    const isRemote = !this.#inlineIds.has(id);
    assert.ok(!isRemote || this.#registry.verified.has(id), `${id} was verified before it was sent`);
    if (isRemote) assert.notEqual(this.#policyName, 'stop', `${id} is stopped by the policy`);
    if (this.#envoy.ranLast.get(name) === id) return;
    if (isRemote) assert.notEqual(this.#policyName, 'keep', `${id} is refused by the policy`);
    const newest = this.#newestSent.get(name) ?? 0;
    assert.ok(generation >= newest, `${id} does not overtake ${newest}`);
    this.#newestSent.set(name, generation);
    assert.ok(plugin !== undefined, `${name} was withdrawn, and nothing of it is sent`);
    assert.equal(generation, plugin.generation, `${name}: only the newest config is tried`);
  }

  readonly #isGone = (name: string): boolean => !this.#istiod.plugins.has(name);

  /** Envoy answers the oldest response. */
  #answer(): void {
    const answer = this.#envoy.answer(this.#isGone);
    switch (answer?.kind) {
      case undefined:
        return;
      case 'listener':
        this.#session.onListenerRequest(this.#wire.listenerAnswer(answer.failure));
        break;
      case 'config':
        this.#session.onRequest(this.#wire.answer(this.#envoy.wanted, answer.nonce, answer.failure));
        break;
      default:
        answer satisfies never;
    }
    this.#followEnd();
  }

  #followEnd(): void {
    if (this.#ended === undefined) return;
    const { isListenerRefused } = this.#envoy;
    assert.equal(isListenerRefused, true, `the stream ends for a listener alone: ${this.#ended.message}`);
    assert.equal(this.#envoy.isAnyRefused(this.#isGone), false, 'the stream ends after the repair');
    this.#reconnect();
  }

  #pass(ms: number): void {
    this.#nowMs += ms;
    this.#tick(ms);
  }

  /** Lets all promises run. */
  async #turn(): Promise<void> {
    for (let round = 0; round < 3; round++) await new Promise((resolve) => setImmediate(resolve));
  }
}

function silentLog(): ReturnType<LogRoot['scope']> {
  return new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test');
}
