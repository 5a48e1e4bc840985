import assert from 'node:assert/strict';
import { FetchError, type FetchedModule, type ModuleSource } from '../../../agent/fetch/types.ts';
import { LogRoot } from '../../../agent/log.ts';
import type { Policy } from '../../../agent/policy/policy-data.ts';
import { LastKnownGood } from '../../../agent/wasm/last-known-good.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import { EcdsSession } from '../../../agent/xds/ecds-session.ts';
import type { GrpcStatus } from '../../../agent/xds/grpc-status.ts';
import type { StreamKind } from '../../../agent/xds/interceptor.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import * as codec from '../../../proto/codec.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import { HandPolicy } from '../policy/hand-policy.ts';
import { pluginResource } from '../wasm/extension-fixtures.ts';
import { MemoryIndex } from '../wasm/memory-index.ts';

const typeUrl = typeUrls.extensionConfig;
const listenerTypeUrl = 'type.googleapis.com/envoy.config.listener.v3.Listener';
const dayMs = 86_400_000;
const failurePolicy = { closed: 2, open: 3 } as const;

/** A WasmPlugin as the model istiod has it. */
interface Plugin {
  readonly generation: number;
  readonly strategy: keyof typeof failurePolicy;
  /** `inline` needs no fetch. */
  readonly code: 'remote' | 'inline';
  /** Envoy refuses its module. */
  readonly isBad: boolean;
}

/** What one response of the agent holds. */
type Offered =
  | { readonly kind: 'module'; readonly generation: number; readonly isBad: boolean }
  | { readonly kind: 'allow' | 'deny' };

/** A response on its way to the model Envoy. `bytes` tell one config from another. */
type Response =
  | { readonly kind: 'listener' }
  | { readonly kind: 'notice'; readonly nonce: string }
  | {
      readonly kind: 'config';
      readonly nonce: string;
      readonly name: string;
      readonly offered: Offered;
      readonly bytes: string;
    };

/** One name in the model Envoy. */
interface Filter {
  /** The bytes it was given last, refused ones too: the same again are acknowledged unseen. */
  remembered: string;
  isRefused: boolean;
  running: Offered | undefined;
}

/** A message to istiod. */
interface Letter {
  readonly nonce: string;
  readonly failure: string | undefined;
  readonly added: readonly string[];
  readonly dropped: readonly string[];
  /** istiod answers it with the names that it adds. */
  readonly isAsking: boolean;
  /** State of the world: all. */
  readonly names: readonly string[];
}

interface Fetch {
  readonly name: string;
  readonly generation: number;
  readonly signal: AbortSignal;
  readonly resolve: (module: FetchedModule) => void;
  readonly reject: (error: unknown) => void;
}

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

/** Where the modules of all plugins are. */
export const registryHost = 'registry.example';

/** Verdicts on one nonce: a change of names in state of the world is an ACK that nobody meant. */
type Verdict = 'ack' | 'nack' | 'names';

/**
 * The agent's ECDS part between a model istiod and a model Envoy, both as the real ones were seen to behave. Each
 * step is checked against the promises of docs/rollout.md as it happens.
 */
export class EcdsWorld {
  readonly #kind: StreamKind;
  readonly #tick: (ms: number) => void;
  readonly #volume = new MemoryIndex();
  readonly #policies: WorldPolicies;
  readonly #policy = new HandPolicy();
  #policyName: keyof WorldPolicies = 'allow';
  #unrepaired = new Set<string>();
  #nowMs = 1_700_000_000_000;
  #rollouts: PluginRollouts;
  #session!: EcdsSession;
  #streamCount = 0;
  #ended: GrpcStatus | undefined;

  readonly #plugins = new Map<string, Plugin>();
  #generation = 0;
  /** What istiod knows of the stream. */
  #subscribed = new Set<string>();
  #nonceCount = 0;
  #latestNonce = '';
  readonly #verdicts = new Map<string, Verdict[]>();
  /** Of pushes under which the policy has changed. */
  readonly #policedNonces = new Set<string>();
  /** What istiod has sent on this stream last, by name. */
  readonly #told = new Map<string, Plugin>();
  #toldNames: ReadonlySet<string> = new Set();
  /** What istiod has not read. */
  #inbox: Letter[] = [];

  readonly #wanted = new Set<string>();
  readonly #filters = new Map<string, Filter>();
  #queue: Response[] = [];
  #isListenerRefused = false;
  /** Of the response that Envoy has answered last: state of the world repeats it with other names. */
  #answeredNonce = '';

  #fetches: Fetch[] = [];
  readonly #verified = new Set<string>();
  /** The newest generation sent to Envoy for the first time. */
  readonly #newestSent = new Map<string, number>();
  /** The module that each name ran last: it may come again after a newer one. */
  readonly #ranLast = new Map<string, string>();
  readonly #badGenerations = new Set<number>();
  #broken: Error | undefined;
  readonly #inlineIds = new Set<string>();

  constructor(kind: StreamKind, policies: WorldPolicies, tick: (ms: number) => void) {
    this.#kind = kind;
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
        this.#plugins.delete(name);
        this.#push();
        break;
      case 'push':
        this.#push();
        break;
      case 'subscribe':
        // A listener names what istiod has.
        if (this.#wanted.has(name) || this.#plugins.has(name)) this.#want(name);
        break;
      case 'fetched':
        this.#fetched(pick);
        break;
      case 'failed':
        this.#failed(pick, pick % 3 === 0 ? 'not_wasm' : 'network');
        break;
      case 'answer':
        this.#answer();
        break;
      case 'listener':
        this.#queue.push({ kind: 'listener' });
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
    // Listeners of plugins that are gone are gone too.
    for (const name of this.#wanted) if (!this.#plugins.has(name)) this.#want(name);
    await this.#turn();
    await this.#read();
    await this.#checkStopped();
    this.#setPolicy('allow');
    for (let round = 0; round < 12; round++) {
      for (let index = this.#fetches.length; index > 0; index--) this.#fetched(0);
      await this.#turn();
      await this.#read();
      while (this.#queue.length > 0) this.#answer();
      await this.#turn();
      await this.#read();
      this.#pass(700_000);
      await this.#turn();
      if (this.#broken !== undefined) throw this.#broken;
    }
    assert.deepEqual(this.#fetches, [], 'no fetch goes on');
    assert.equal(this.#isListenerRefused, false, 'a listener that was refused has come again');
    assert.deepEqual([...this.#wanted.difference(this.#subscribed)], [], 'istiod knows all names');
    const asked = [...this.#wanted].filter((name) => this.#plugins.has(name));
    for (const name of asked) {
      const plugin = this.#plugins.get(name);
      const filter = this.#filters.get(name);
      assert.ok(plugin && filter, `${name} has something in Envoy`);
      assert.ok(this.#rollouts.names().includes(name), `${name} is not forgotten`);
      assert.equal(filter.isRefused, false, `${name}: Envoy is not left with what it refused`);
      const { running } = filter;
      if (!plugin.isBad) assert.deepEqual(running, moduleOf(plugin), `${name} runs its newest config`);
      else assert.notDeepEqual(running, undefined, `${name}: something stands in for what Envoy refused`);
      if (plugin.strategy === 'closed')
        assert.notEqual(running?.kind, 'allow', `${name} is not open in the end`);
    }
    const verdicts = this.#verdicts.get(this.#latestNonce) ?? [];
    if (this.#latestNonce !== '') assert.ok(verdicts.length > 0, 'the newest push has its verdict');
    const isBad = asked.some((name) => this.#plugins.get(name)?.isBad === true);
    if (!isBad && verdicts.length > 0)
      assert.notEqual(verdicts.at(-1), 'nack', 'istiod knows of the healing');
    await this.#rollouts.close();
  }

  /** Under a policy that stops modules, Envoy runs none once it has taken what it was sent. */
  async #checkStopped(): Promise<void> {
    if (this.#policyName !== 'stop') return;
    for (let round = 0; round < 4; round++) {
      while (this.#queue.length > 0) this.#answer();
      await this.#turn();
    }
    for (const [name, { running }] of this.#filters) {
      if (running?.kind !== 'module' || !this.#plugins.has(name)) continue;
      const id = `${name}-${running.generation}`;
      assert.ok(this.#inlineIds.has(id), `${id} runs, and the policy stops it`);
    }
  }

  #change(name: string, pick: number): void {
    this.#generation += 1;
    const plugin: Plugin = {
      generation: this.#generation,
      strategy: pick % 3 === 0 ? 'open' : 'closed',
      code: pick % 5 === 0 ? 'inline' : 'remote',
      isBad: pick % 4 === 0,
    };
    this.#plugins.set(name, plugin);
    if (plugin.isBad) this.#badGenerations.add(plugin.generation);
    if (plugin.code === 'inline') this.#inlineIds.add(`${name}-${plugin.generation}`);
  }

  #start(): PluginRollouts {
    const log = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test');
    const source: ModuleSource = {
      // Some are in the cache, and need no fetch.
      atHand: ({ url }) => {
        const [name, generation] = moduleNameOf(url);
        return generation % 3 === 1 ? this.#found(name, generation) : undefined;
      },
      fetch: ({ url }, { signal }) =>
        new Promise((resolve, reject) => {
          const [name, generation] = moduleNameOf(url);
          const fetch: Fetch = { name, generation, signal, resolve, reject };
          this.#fetches.push(fetch);
          const drop = (): void => {
            this.#fetches = this.#fetches.filter((other) => other !== fetch);
            reject(signal.reason);
          };
          if (signal.aborted) drop();
          else signal.addEventListener('abort', drop, { once: true });
        }),
    };
    return new PluginRollouts({
      source,
      preflight: { passLocal: () => Promise.resolve() },
      store: {
        get: async (digest) => ({ digest, path: `/${digest}`, sizeBytes: 8 }),
        setReferences: () => undefined,
      },
      policy: this.#policy,
      lastKnownGood: new LastKnownGood({ index: this.#volume, now: () => this.#nowMs }),
      metrics: new WasmMetrics(new MetricRegistry()),
      log,
      now: () => this.#nowMs,
      random: () => 0.5,
    });
  }

  #connect(): void {
    this.#streamCount += 1;
    // istiod sends the listeners first.
    this.#queue = [{ kind: 'listener' }];
    this.#subscribed = new Set();
    this.#latestNonce = '';
    this.#answeredNonce = '';
    this.#toldNames = new Set();
    this.#inbox = [];
    this.#ended = undefined;
    this.#session = new EcdsSession({
      stream: {
        id: this.#streamCount,
        kind: this.#kind,
        sendDownstream: (message) => this.#note(() => this.#receive(message)),
        sendUpstream: (message) => this.#note(() => this.#hear(message)),
        end: (status) => {
          this.#ended = status;
        },
      },
      rollouts: this.#rollouts,
      unrepaired: this.#unrepaired,
      log: new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test'),
    });
    if (this.#wanted.size > 0) this.#subscribe([...this.#wanted], []);
  }

  /** Envoy and istiod find each other again; the listener that was refused comes with it. */
  #reconnect(): void {
    this.#session.close();
    this.#isListenerRefused = false;
    this.#connect();
  }

  /** Agent and Envoy start again on the same volume. */
  async #restart(): Promise<void> {
    this.#session.close();
    await this.#rollouts.close();
    assert.deepEqual(this.#fetches, [], 'a closed agent fetches nothing');
    this.#filters.clear();
    this.#newestSent.clear();
    this.#isListenerRefused = false;
    this.#rollouts = this.#start();
    this.#unrepaired = new Set();
    this.#connect();
  }

  /** istiod sends all that it has and Envoy asks for. */
  #push(): void {
    if (this.#subscribed.size > 0) this.#respond([...this.#subscribed]);
  }

  #respond(names: readonly string[]): void {
    this.#nonceCount += 1;
    const nonce = `n${this.#nonceCount}`;
    const resources = names.flatMap((name) => {
      const plugin = this.#plugins.get(name);
      return plugin === undefined ? [] : [{ name, plugin, resource: resourceOf(name, plugin) }];
    });
    // While it waits for a name that istiod does not have, an empty response may be about that one.
    const isDoubtful = resources.length === 0 && [...this.#wanted].some((name) => !this.#told.has(name));
    if (!isDoubtful) for (const name of names) this.#told.delete(name);
    for (const { name, plugin } of resources) this.#told.set(name, plugin);
    this.#latestNonce = nonce;
    this.#verdicts.set(nonce, []);
    const common = { typeUrl, nonce };
    this.#session.onResponse(
      this.#kind === 'sotw'
        ? codec.encodeResponse(
            codec.makeResponse({
              ...common,
              versionInfo: nonce,
              resources: resources.map((one) => one.resource),
            }),
          )
        : codec.encodeDeltaResponse(
            codec.makeDeltaResponse({
              ...common,
              systemVersionInfo: nonce,
              resources: resources.map(({ name, resource }) => ({
                $typeName: 'envoy.service.discovery.v3.Resource' as const,
                name,
                version: '',
                aliases: [],
                resource,
              })),
            }),
          ),
    );
    this.#followEnd();
  }

  /** A listener that names the filter comes or goes. */
  #want(name: string): void {
    if (this.#wanted.delete(name)) {
      this.#filters.delete(name);
      this.#subscribe([], [name]);
    } else {
      this.#wanted.add(name);
      this.#subscribe([name], []);
    }
  }

  #subscribe(added: readonly string[], removed: readonly string[]): void {
    this.#session.onRequest(
      this.#kind === 'sotw'
        ? codec.encodeRequest(
            codec.makeRequest({
              typeUrl,
              resourceNames: [...this.#wanted],
              responseNonce: this.#answeredNonce,
            }),
          )
        : codec.encodeDeltaRequest(
            codec.makeDeltaRequest({
              typeUrl,
              resourceNamesSubscribe: [...added],
              resourceNamesUnsubscribe: [...removed],
            }),
          ),
    );
    for (const name of removed) {
      assert.ok(
        this.#fetches.every((fetch) => fetch.name !== name),
        `nobody asks for ${name} any more, and its fetch ends`,
      );
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

  /** A message of the agent to istiod, which reads it when it comes to that. */
  #hear(message: Uint8Array): void {
    const isSotw = this.#kind === 'sotw';
    const request = isSotw ? codec.decodeRequest(message) : codec.decodeDeltaRequest(message);
    const nonce = request.responseNonce;
    const failure = request.errorDetail?.message;
    if (nonce !== '') assert.equal(nonce, this.#latestNonce, 'only the newest push is answered');
    let added: readonly string[];
    let dropped: readonly string[];
    if ('resourceNames' in request) {
      const names = new Set(request.resourceNames);
      assert.deepEqual([...names].sort(), [...this.#wanted].sort(), 'each message has all names');
      added = [...names.difference(this.#toldNames)];
      dropped = [...this.#toldNames.difference(names)];
      this.#toldNames = names;
    } else {
      added = request.resourceNamesSubscribe;
      dropped = request.resourceNamesUnsubscribe;
    }
    const isChanged = added.length + dropped.length > 0;
    if (failure !== undefined) {
      assert.equal(isChanged, false, 'a change of names is no NACK');
      const isLate = this.#inbox.some((letter) => letter.isAsking);
      assert.equal(isLate, false, 'no NACK behind new names, whose answer makes it stale');
    }
    // With an ACK istiod is told the names again, as long as it has sent nothing of one of them.
    const isUnanswered = [...this.#toldNames].some((name) => !this.#told.has(name));
    const isRepeat = isUnanswered || !isSame(this.#subscribed, this.#toldNames);
    const isForNames = isChanged || (isSotw && failure === undefined && isRepeat);
    if (nonce !== '') this.#take(nonce, isForNames ? 'names' : failure === undefined ? 'ack' : 'nack');
    this.#inbox.push({
      nonce,
      failure,
      added,
      dropped,
      isAsking: added.length > 0,
      names: [...this.#toldNames],
    });
  }

  /** istiod reads what has come, and answers. */
  async #read(): Promise<void> {
    for (let letter = this.#inbox.shift(); letter !== undefined; letter = this.#inbox.shift()) {
      const answer = this.#answerTo(letter);
      if (answer !== undefined) this.#respond(answer);
      await this.#turn();
    }
  }

  /**
   * The added names alone; none where delta only dropped names, which state of the world does not answer. State of the
   * world takes no names from a NACK, nor from what is about an older response.
   */
  #answerTo({ nonce, failure, added, dropped, names }: Letter): readonly string[] | undefined {
    if (this.#kind === 'delta') {
      for (const name of added) this.#subscribed.add(name);
      for (const name of dropped) this.#subscribed.delete(name);
      return added.length + dropped.length > 0 ? added : undefined;
    }
    if (failure !== undefined || nonce !== this.#latestNonce) return undefined;
    const before = this.#subscribed;
    this.#subscribed = new Set(names);
    const fresh = names.filter((name) => !before.has(name));
    return fresh.length > 0 ? fresh : undefined;
  }

  /** A policy that stops or frees what istiod has had a verdict on makes another one. */
  #setPolicy(name: keyof WorldPolicies): void {
    this.#policyName = name;
    this.#policedNonces.add(this.#latestNonce);
    this.#policy.set(this.#policies[name]);
  }

  #take(nonce: string, verdict: Verdict): void {
    const verdicts = this.#verdicts.get(nonce) ?? [];
    verdicts.push(verdict);
    this.#verdicts.set(nonce, verdicts);
    const meant = verdicts.filter((one) => one !== 'names').join(' ');
    assert.doesNotMatch(meant, /\b(\w+) \1\b/, 'no verdict is told twice');
    const isAllowed = ['', 'ack', 'nack', 'nack ack'].includes(meant) || this.#policedNonces.has(nonce);
    assert.ok(isAllowed, `one first verdict, at most one healing: ${verdicts.join(' ')}`);
  }

  /** A response of the agent to Envoy. */
  #receive(message: Uint8Array): void {
    const isSotw = this.#kind === 'sotw';
    const response = isSotw ? codec.decodeResponse(message) : codec.decodeDeltaResponse(message);
    const anys = response.resources.map((resource) => ('typeUrl' in resource ? resource : resource.resource));
    assert.ok(anys.length <= 1, 'each resource goes alone');
    const [any] = anys;
    if (any === undefined) {
      this.#queue.push({ kind: 'notice', nonce: response.nonce });
      return;
    }
    const { name } = codec.decodeExtensionConfig(any.value);
    const bytes = Buffer.from(any.value).toString('latin1');
    const offered = offeredOf(bytes);
    this.#check(name, offered);
    this.#queue.push({ kind: 'config', nonce: response.nonce, name, offered, bytes });
  }

  #check(name: string, offered: Offered): void {
    const plugin = this.#told.get(name);
    if (offered.kind === 'allow')
      assert.equal(plugin?.strategy, 'open', `${name}: only a plugin that is FAIL_OPEN is let go without`);
    if (offered.kind !== 'module') return;
    const id = `${name}-${offered.generation}`;
    assert.ok(this.#verified.has(id) || this.#inlineIds.has(id), `${id} was verified before it was sent`);
    const isRemote = !this.#inlineIds.has(id);
    if (isRemote) assert.notEqual(this.#policyName, 'stop', `${id} is stopped by the policy`);
    if (this.#ranLast.get(name) === id) return;
    if (isRemote) assert.notEqual(this.#policyName, 'keep', `${id} is refused by the policy`);
    const newest = this.#newestSent.get(name) ?? 0;
    assert.ok(offered.generation >= newest, `${id} does not overtake ${newest}`);
    this.#newestSent.set(name, offered.generation);
    assert.ok(plugin !== undefined, `${name} was withdrawn, and nothing of it is sent`);
    assert.equal(offered.generation, plugin.generation, `${name}: only the newest config is tried`);
  }

  /** Envoy takes the oldest response. */
  #answer(): void {
    const response = this.#queue.shift();
    switch (response?.kind) {
      case undefined:
        return;
      case 'listener':
        this.#answerListener();
        break;
      case 'notice':
        this.#answerConfig(response.nonce, undefined);
        break;
      case 'config':
        this.#answerConfig(response.nonce, this.#run(response));
        break;
      default:
        response satisfies never;
    }
    this.#followEnd();
  }

  /** Why Envoy refuses a config; undefined when it runs it, or says so. */
  #run({ name, offered, bytes }: Extract<Response, { kind: 'config' }>): string | undefined {
    if (!this.#wanted.has(name)) return undefined;
    const filter = this.#filters.get(name) ?? { remembered: '', isRefused: false, running: undefined };
    this.#filters.set(name, filter);
    if (filter.remembered === bytes) return undefined;
    filter.remembered = bytes;
    filter.isRefused = offered.kind === 'module' && offered.isBad;
    if (filter.isRefused) return `Unable to create Wasm plugin ${name}`;
    filter.running = offered;
    if (offered.kind === 'module') this.#ranLast.set(name, `${name}-${offered.generation}`);
    return undefined;
  }

  #answerConfig(nonce: string, failure: string | undefined): void {
    this.#answeredNonce = nonce;
    const detail = failure === undefined ? {} : { errorDetail: codec.makeErrorDetail(failure) };
    this.#session.onRequest(
      this.#kind === 'sotw'
        ? codec.encodeRequest(
            codec.makeRequest({ typeUrl, resourceNames: [...this.#wanted], responseNonce: nonce, ...detail }),
          )
        : codec.encodeDeltaRequest(codec.makeDeltaRequest({ typeUrl, responseNonce: nonce, ...detail })),
    );
  }

  /** A listener is refused while Envoy remembers a refused config for one of its filters. */
  #answerListener(): void {
    const isRefused = this.#isAnyRefused();
    if (isRefused) this.#isListenerRefused = true;
    const detail = isRefused
      ? { errorDetail: codec.makeErrorDetail('Error adding/updating listener(s)') }
      : {};
    const answer = { typeUrl: listenerTypeUrl, responseNonce: 'l', ...detail };
    this.#session.onListenerRequest(
      this.#kind === 'sotw'
        ? codec.encodeRequest(codec.makeRequest(answer))
        : codec.encodeDeltaRequest(codec.makeDeltaRequest(answer)),
    );
  }

  #isAnyRefused(): boolean {
    return [...this.#filters].some(([name, { isRefused }]) => isRefused && this.#plugins.has(name));
  }

  #followEnd(): void {
    if (this.#ended === undefined) return;
    assert.equal(
      this.#isListenerRefused,
      true,
      `the stream ends for a listener alone: ${this.#ended.message}`,
    );
    assert.equal(this.#isAnyRefused(), false, 'the stream ends after the repair');
    this.#reconnect();
  }

  #fetched(pick: number): void {
    const fetch = this.#fetches[pick % Math.max(1, this.#fetches.length)];
    if (fetch === undefined) return;
    this.#fetches = this.#fetches.filter((other) => other !== fetch);
    fetch.resolve(this.#found(fetch.name, fetch.generation));
  }

  #found(name: string, generation: number): FetchedModule {
    const id = `${name}-${generation}`;
    this.#verified.add(id);
    return {
      path: `/modules/${id}${this.#badGenerations.has(generation) ? '-bad' : ''}.wasm`,
      digest: 'a'.repeat(64),
      checksum: 'a'.repeat(64),
      sizeBytes: 8,
      source: 'oci',
      matchedPin: undefined,
    };
  }

  #failed(pick: number, code: FetchError['code']): void {
    const fetch = this.#fetches[pick % Math.max(1, this.#fetches.length)];
    if (fetch === undefined) return;
    this.#fetches = this.#fetches.filter((other) => other !== fetch);
    fetch.reject(new FetchError(code, 'it cannot be had'));
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

function isSame(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  return one.symmetricDifference(other).size === 0;
}

function moduleOf({ generation, isBad }: Plugin): Offered {
  return { kind: 'module', generation, isBad };
}

function resourceOf(name: string, plugin: Plugin): codec.Any {
  const { generation, strategy, code, isBad } = plugin;
  const common = { name, failurePolicy: failurePolicy[strategy] };
  return code === 'remote'
    ? pluginResource({ ...common, url: `oci://${registryHost}/${name}-${generation}` })
    : pluginResource({
        ...common,
        code: 'inline',
        bytes: Buffer.from(`/inline/${name}-${generation}${isBad ? '-bad' : ''}.wasm`),
      });
}

/** A config as the agent sends it, by the texts in its bytes. */
function offeredOf(bytes: string): Offered {
  const module = /\/(?:modules|inline)\/\w-(\d+)(-bad)?\.wasm/.exec(bytes);
  if (module !== null)
    return { kind: 'module', generation: Number(module[1]), isBad: module[2] !== undefined };
  const [, action] = /wasm-default-(allow|deny)/.exec(bytes) ?? [];
  assert.ok(action === 'allow' || action === 'deny', `neither a module nor a stand-in: ${bytes}`);
  return { kind: action };
}

/** Name and generation of the plugin whose module the URL names. */
function moduleNameOf(url: string): readonly [string, number] {
  const [, name = '', generation = ''] = /(\w)-(\d+)$/.exec(url) ?? [];
  return [name, Number(generation)];
}
