import type { BlobStore } from '../../cache/types.ts';
import type { FetchOrigin, PluginFacts } from '../../metrics/plugin-metrics.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import { FetchError, type FetchErrorCode, type FetchedModule, type ModuleSource } from '../fetch/types.ts';
import { describeError, type Logger } from '../log.ts';
import type { ExtensionPlan } from './extension-plan.ts';
import type { FallbackAction } from './fallback-filter.ts';
import type { LastKnownGood } from './last-known-good.ts';
import type { ModulePreflight } from './module-preflight.ts';
import { addToHistory, noteOf } from './plugin-history.ts';
import { shortPluginName } from './plugin-name.ts';
import {
  describePlugin,
  emptyRecord,
  type PluginRecord,
  type PluginStatus,
  presentUrl,
} from './plugin-status.ts';
import { type NamelessResource, type PushedResource, planResources } from './pushed-resources.ts';
import { failedRecheckDelayMs, RecheckPlan, recheckDelayMs } from './recheck.ts';
import { RejectedConfigs } from './rejected-configs.ts';
import { isRetryable, retryDelayMs } from './retry-delay.ts';
import {
  type ConfigEnvelope,
  initialRollout,
  isRenewable,
  type Offer,
  type PreparedConfig,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutState,
  type StandIn,
  transition,
} from './rollout.ts';
import { shortText } from './short-text.ts';

/** The stream that offers go to and verdicts come from: one at a time, as Envoy has one. */
export interface RolloutStream {
  /** Send this config to Envoy, alone in a response, under a nonce that leads back to `offer.number`. */
  send(name: string, offer: Offer): void;
  /** A push's config of this name is settled: `failure` is what istiod is to hear, undefined is success. */
  settled(name: string, push: number, failure: string | undefined): void;
}

/** One response of istiod, taken apart. */
export interface TakenPush {
  /** Under which each name is settled, once. */
  readonly push: number;
  /** In order, each once. */
  readonly names: readonly string[];
  /** Resources that nobody can be told about by name. They are in no plugin's rollout. */
  readonly nameless: readonly NamelessResource[];
  /** To be called when the outcomes can be taken: the first may be settled while it runs. */
  readonly start: () => void;
}

export interface PluginRolloutsOptions {
  /** Of modules that may be given to Envoy as they are. */
  readonly source: ModuleSource;
  /** For modules that come from no source. */
  readonly preflight: Pick<ModulePreflight, 'passLocal'>;
  readonly store: Pick<BlobStore, 'get' | 'setReferences'>;
  readonly lastKnownGood: LastKnownGood;
  readonly metrics: WasmMetrics;
  readonly log: Logger;
  readonly now?: () => number;
  readonly random?: () => number;
}

interface Plugin {
  state: RolloutState;
  record: PluginRecord;
  plan: ExtensionPlan | undefined;
  envelope: ConfigEnvelope;
  /** Running fetches by push: for a moment two, when a newer one joins the flight of an older. */
  readonly preparations: Map<number, AbortController>;
  retryTimer: NodeJS.Timeout | undefined;
  /** Why the last fetch failed: decides when the next comes. */
  failure: { readonly code: FetchErrorCode; readonly retryAfterMs: number | undefined };
  /** Looks after its tag that failed in a row. */
  failedRecheckCount: number;
  /** Module of the newest push that Envoy has refused. */
  refusedDigest: string | undefined;
}

type FetchPlan = Extract<ExtensionPlan, { readonly kind: 'fetch' }>;

/**
 * The rollout of every extension config, by resource name: runs the effects of the state machine. It outlives
 * streams, because what Envoy runs does.
 */
export class PluginRollouts {
  readonly #options: PluginRolloutsOptions;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #plugins = new Map<string, Plugin>();
  readonly #running = new Set<Promise<void>>();
  readonly #rejected: RejectedConfigs;
  readonly #rechecks = new RecheckPlan((name, push, signal) =>
    this.#track(this.#recheck(name, push, signal)),
  );
  /** What each stand-in filter does: the one in force may be that of an earlier config. */
  readonly #fallbackActions = new WeakMap<PreparedConfig, FallbackAction>();
  #stream: RolloutStream | undefined;
  #pushCounter = 0;
  #offerCounter = 0;
  #isClosed = false;

  constructor(options: PluginRolloutsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#random = options.random ?? Math.random;
    this.#rejected = new RejectedConfigs({ now: this.#now });
    this.#pinKept();
    options.metrics.plugins.watchPlugins(() => this.#facts());
  }

  /** A new stream takes the place of the one before. */
  attach(stream: RolloutStream): void {
    this.#stream = undefined;
    this.#forgetOffers();
    this.#stream = stream;
  }

  /** The stream has ended. Does nothing when another one has already taken its place. */
  detach(stream: RolloutStream): void {
    if (this.#stream !== stream) return;
    this.#stream = undefined;
    this.#forgetOffers();
  }

  /** Takes all resources of one response of istiod. */
  push(
    response: ConfigEnvelope['response'],
    version: string,
    resources: readonly PushedResource[],
  ): TakenPush {
    this.#pushCounter += 1;
    const push = this.#pushCounter;
    const startedAtMs = this.#now();
    const { named, nameless } = planResources(resources);
    const start = (): void => {
      for (const { place, reason } of nameless) {
        this.#options.metrics.conversion('unmarshal_failure');
        this.#options.log.error('extension config cannot be used', { name: place, reason });
      }
      const conversions = named.map(async ({ name, plan, wrapper }) => {
        const started = this.#start(name, push, plan, { version, response, wrapper });
        // Now that the new fetch has joined what it may join.
        this.#rechecks.end(name, push);
        return started;
      });
      if (conversions.length > 0) this.#track(this.#observeDuration(conversions, startedAtMs));
    };
    return { push, names: named.map(({ name }) => name), nameless, start };
  }

  /** istiod does not send it any more, or Envoy does not ask for it any more. */
  withdraw(name: string): void {
    if (!this.#plugins.has(name)) return;
    this.#apply(name, { kind: 'withdrawn' });
    this.#rechecks.end(name);
    this.#plugins.delete(name);
    this.#options.store.setReferences(referenceOwner(name), []);
    this.#options.lastKnownGood.forget(name);
    this.#pinKept();
    this.#options.log.debug('extension config withdrawn', { name });
  }

  /** Names that istiod has pushed and nobody has withdrawn. */
  names(): readonly string[] {
    return [...this.#plugins.keys()];
  }

  acknowledged(name: string, offer: number): void {
    this.#apply(name, { kind: 'acknowledged', offer });
    const running = this.#plugins.get(name)?.state.acknowledged;
    if (running?.number !== offer) return;
    this.#rejected.delete(running.config.bytes);
    if (running.content === 'plugin') this.#keep(name, running.config);
  }

  rejected(name: string, offer: number, reason: string): void {
    this.#options.log.warn('Envoy rejected an extension config', { name, reason });
    const rejected = this.#plugins.get(name)?.state.inFlight.find(({ number }) => number === offer);
    if (rejected !== undefined) {
      this.#rejected.add(rejected.config.bytes, reason);
      const plugin = this.#plugins.get(name);
      if (plugin?.state.push === rejected.push) plugin.refusedDigest = rejected.config.moduleDigest;
      this.#options.metrics.plugins.envoyRejected();
    }
    this.#apply(name, { kind: 'rejected', offer, reason });
  }

  snapshot(): readonly PluginStatus[] {
    return [...this.#plugins].map(([name, { state, record }]) =>
      describePlugin(name, state, record, {
        runningFallbackAction: this.#fallbackActionOf(state.acknowledged),
        lastKnownGoodAtMs: this.#options.lastKnownGood.keptAtMs(name),
      }),
    );
  }

  /** For the metrics; asked at each scrape. */
  #facts(): readonly PluginFacts[] {
    return [...this.#plugins].map(([name, { state }]) => {
      const keptAtMs = this.#options.lastKnownGood.keptAtMs(name);
      return {
        plugin: shortPluginName(name),
        state: state.progress.kind,
        fallbackAction: this.#fallbackActionOf(state.acknowledged),
        lastKnownGoodAgeSeconds:
          keptAtMs === undefined ? undefined : Math.max(0, (this.#now() - keptAtMs) / 1_000),
      };
    });
  }

  /** Ends fetches and retries; resolves when none is left. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stream = undefined;
    for (const plugin of this.#plugins.values()) {
      for (const preparation of plugin.preparations.values()) {
        preparation.abort(new Error('the agent is shutting down'));
      }
      clearTimeout(plugin.retryTimer);
    }
    this.#rechecks.close();
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  /** Offers that no stream carries any more can not be answered; also those made while there was no stream. */
  #forgetOffers(): void {
    for (const name of this.#plugins.keys()) this.#apply(name, { kind: 'stream-ended' });
  }

  #start(name: string, push: number, plan: ExtensionPlan, envelope: ConfigEnvelope): Promise<void> {
    const known = this.#plugins.get(name);
    const plugin: Plugin = known ?? {
      state: initialRollout,
      record: emptyRecord,
      plan: undefined,
      envelope,
      preparations: new Map(),
      retryTimer: undefined,
      failure: { code: 'network', retryAfterMs: undefined },
      failedRecheckCount: 0,
      refusedDigest: undefined,
    };
    this.#plugins.set(name, plugin);
    plugin.failedRecheckCount = 0;
    plugin.refusedDigest = undefined;
    plugin.plan = plan;
    plugin.envelope = envelope;
    plugin.record = {
      ...plugin.record,
      plan: plan.kind,
      pushedAtMs: this.#now(),
      version: envelope.version,
      url: undefined,
      module: undefined,
      fetchDurationMs: undefined,
      fallbackAction: undefined,
      nextRecheckAtMs: undefined,
    };
    switch (plan.kind) {
      case 'as-is': {
        this.#options.metrics.conversion('no_remote_load');
        const refusal = this.#rejected.reason(plan.bytes);
        if (refusal === undefined) {
          const config = { envelope, moduleDigest: undefined, bytes: plan.bytes };
          this.#apply(name, { kind: 'pushed-ready', push, config });
        } else {
          this.#noteFailure(plugin, refusal);
          this.#apply(name, { kind: 'pushed-refused', push, reason: refusal, standIns: [] });
        }
        return Promise.resolve();
      }
      case 'refused': {
        this.#options.metrics.conversion(plan.result);
        this.#noteFailure(plugin, plan.reason);
        this.#options.log.error('extension config cannot be used', { name, reason: plan.reason });
        plugin.record = { ...plugin.record, fallbackAction: plan.fallbackAction };
        const standIns =
          plan.fallback === undefined ? [] : [this.#standIn(plan.fallback, plan.fallbackAction, envelope)];
        this.#apply(name, { kind: 'pushed-refused', push, reason: plan.reason, standIns });
        return Promise.resolve();
      }
      case 'local':
      case 'fetch': {
        plugin.record = {
          ...plugin.record,
          url: plan.kind === 'fetch' ? presentUrl(plan.request.url) : undefined,
          fallbackAction: plan.fallbackAction,
        };
        const standIns = [this.#standIn(plan.fallback, plan.fallbackAction, envelope)];
        return new Promise((resolve) => {
          this.#apply(name, { kind: 'pushed-remote', push, standIns }, resolve);
        });
      }
      default:
        return plan satisfies never;
    }
  }

  #apply(name: string, event: RolloutEvent, onPrepared: () => void = () => undefined): void {
    const plugin = this.#plugins.get(name);
    if (plugin === undefined) return onPrepared();
    const { state, effects } = transition(plugin.state, event, () => ++this.#offerCounter);
    if (state.progress.kind !== plugin.state.progress.kind) {
      const nowMs = this.#now();
      const activeAtMs = state.progress.kind === 'active' ? nowMs : plugin.record.activeAtMs;
      plugin.record = { ...plugin.record, stateSinceMs: nowMs, activeAtMs };
    }
    if (event.kind === 'rejected') this.#noteFailure(plugin, event.reason);
    this.#remember(plugin, event, state);
    plugin.state = state;
    this.#pin(name, state);
    for (const effect of effects) this.#run(name, plugin, effect, onPrepared);
    // Who waits must not wait for ever.
    if (!effects.some((effect) => effect.kind === 'prepare')) onPrepared();
  }

  /** Before the effects: what they bring about comes after it. */
  #remember(plugin: Plugin, event: RolloutEvent, next: RolloutState): void {
    const { record, state } = plugin;
    if (event.kind === 'retry-due' && next !== state) this.#options.metrics.plugins.retried();
    const note = noteOf(event, state, next, {
      ...record,
      fallbackActionOf: (offer) => this.#fallbackActionOf(offer),
    });
    if (note === undefined) return;
    plugin.record = { ...record, history: addToHistory(record.history, note, this.#now()) };
  }

  #pin(name: string, state: RolloutState): void {
    const offers =
      state.acknowledged === undefined ? state.inFlight : [...state.inFlight, state.acknowledged];
    const digests = offers.flatMap(({ config }) => config.moduleDigest ?? []);
    this.#options.store.setReferences(referenceOwner(name), digests);
  }

  #run(name: string, plugin: Plugin, effect: RolloutEffect, onPrepared: () => void): void {
    switch (effect.kind) {
      case 'send':
        this.#stream?.send(name, effect.offer);
        return;
      case 'settle':
        this.#stream?.settled(name, effect.push, effect.failure);
        return;
      case 'prepare':
        this.#track(this.#prepare(name, plugin, effect.push).finally(onPrepared));
        return;
      case 'cancel-preparation':
        plugin.preparations.get(effect.push)?.abort(new Error('superseded by a newer config'));
        return;
      case 'schedule-retry':
        this.#scheduleRetry(name, plugin, effect.push, effect.attemptCount);
        return;
      case 'cancel-retry':
        clearTimeout(plugin.retryTimer);
        plugin.record = { ...plugin.record, nextRetryAtMs: undefined };
        return;
      default:
        effect satisfies never;
    }
  }

  async #prepare(name: string, plugin: Plugin, push: number): Promise<void> {
    const { plan, envelope } = plugin;
    if (plan?.kind !== 'fetch' && plan?.kind !== 'local') return;
    const controller = new AbortController();
    plugin.preparations.set(push, controller);
    const startedAtMs = this.#now();
    // Looked for beside the download: it must be at hand when that fails, or when Envoy refuses what came.
    const kept = this.#findKept(name, plugin, envelope);
    try {
      const config =
        plan.kind === 'fetch'
          ? await this.#prepareRemote(plugin, plan, envelope, controller.signal)
          : await this.#prepareLocal(plan, envelope);
      await this.#addKept(name, push, kept);
      if (controller.signal.aborted || this.#isClosed) return;
      this.#options.metrics.conversion(plan.kind === 'fetch' ? 'success' : 'no_remote_load');
      plugin.record = {
        ...plugin.record,
        lastError: undefined,
        lastErrorAtMs: undefined,
        nextRetryAtMs: undefined,
      };
      const refusal = this.#rejected.reason(config.bytes);
      if (refusal === undefined) {
        this.#apply(name, { kind: 'prepared', push, config });
      } else {
        this.#noteFailure(plugin, refusal);
        plugin.refusedDigest = config.moduleDigest;
        this.#apply(name, { kind: 'preparation-failed', push, reason: refusal, isRetryable: false });
      }
      this.#planRecheck(name, plugin, push, plugin.record.module?.recheckAfterMs);
    } catch (error) {
      const seconds = Math.max(0, this.#now() - startedAtMs) / 1_000;
      await this.#addKept(name, push, kept);
      if (!controller.signal.aborted && !this.#isClosed)
        this.#fail(name, plugin, push, { plan, seconds }, error);
    } finally {
      plugin.preparations.delete(push);
    }
  }

  /** Throws FetchError. */
  async #prepareRemote(
    plugin: Plugin,
    plan: FetchPlan,
    envelope: ConfigEnvelope,
    signal: AbortSignal,
  ): Promise<PreparedConfig> {
    const { module, fetchDurationMs } = await this.#fetch(plan, signal);
    // A newer push has a record of its own.
    if (!signal.aborted) plugin.record = { ...plugin.record, module, fetchDurationMs };
    return { bytes: plan.rewrite(module.path), envelope, moduleDigest: module.digest };
  }

  /** Throws FetchError. */
  async #prepareLocal(
    plan: Extract<ExtensionPlan, { kind: 'local' }>,
    envelope: ConfigEnvelope,
  ): Promise<PreparedConfig> {
    await this.#options.preflight.passLocal(plan.module);
    return { bytes: plan.bytes, envelope, moduleDigest: undefined };
  }

  /** Every fetch goes through here, the first and all later ones. Throws what the source throws. */
  async #fetch(
    plan: FetchPlan,
    signal: AbortSignal,
  ): Promise<{ readonly module: FetchedModule; readonly fetchDurationMs: number }> {
    const startedAtMs = this.#now();
    const module = await this.#options.source.fetch(plan.request, { signal });
    const fetchDurationMs = Math.max(0, this.#now() - startedAtMs);
    this.#options.metrics.plugins.fetchEnded(module.source, fetchDurationMs / 1_000);
    return { module, fetchDurationMs };
  }

  #planRecheck(name: string, plugin: Plugin, push: number, afterMs: number | undefined): void {
    if (afterMs === undefined || this.#isClosed || plugin.state.push !== push) return;
    this.#setRecheck(name, plugin, push, recheckDelayMs(afterMs, this.#random));
  }

  #setRecheck(name: string, plugin: Plugin, push: number, delayMs: number): void {
    plugin.record = { ...plugin.record, nextRecheckAtMs: this.#now() + delayMs };
    this.#rechecks.set(name, push, delayMs);
  }

  /** Looks whether the tag of a running plugin names another module, and offers that one. Never rejects. */
  async #recheck(name: string, push: number, signal: AbortSignal): Promise<void> {
    const plugin = this.#plugins.get(name);
    const { plan } = plugin ?? {};
    if (plugin === undefined || plan?.kind !== 'fetch' || plugin.state.push !== push) return;
    const { metrics, log } = this.#options;
    const afterMs = plugin.record.module?.recheckAfterMs;
    const startedAtMs = this.#now();
    try {
      const { module, fetchDurationMs } = await this.#fetch(plan, signal);
      if (signal.aborted || this.#isClosed) return;
      plugin.failedRecheckCount = 0;
      const isRefused = module.digest === plugin.refusedDigest;
      const isRunning = module.digest === plugin.state.acknowledged?.config.moduleDigest;
      metrics.plugins.rechecked(isRunning || isRefused ? 'unchanged' : 'changed');
      if (!isRefused && isRenewable(plugin.state)) {
        const bytes = plan.rewrite(module.path);
        const facts = { module, fetchDurationMs, lastError: undefined, lastErrorAtMs: undefined };
        plugin.record = { ...plugin.record, ...facts };
        const config = { bytes, envelope: plugin.envelope, moduleDigest: module.digest };
        this.#apply(name, { kind: 'renewed', push, config });
      }
      this.#planRecheck(name, plugin, push, module.recheckAfterMs);
    } catch (error) {
      if (signal.aborted || this.#isClosed) return;
      const seconds = Math.max(0, this.#now() - startedAtMs) / 1_000;
      const { reason, code, retryAfterMs } = describeFailure(error);
      metrics.plugins.rechecked('failed');
      this.#countFailure(plan.request.url, seconds, code);
      this.#noteFailure(plugin, reason);
      const note = { what: 'recheck-failed', why: reason } as const;
      plugin.record = {
        ...plugin.record,
        history: addToHistory(plugin.record.history, note, this.#now()),
      };
      const url = presentUrl(plan.request.url);
      log.warn('whether a plugin has a newer module could not be found out', { name, url, code, reason });
      plugin.failedRecheckCount += 1;
      const failure = { code, attemptCount: plugin.failedRecheckCount, retryAfterMs };
      this.#setRecheck(name, plugin, push, failedRecheckDelayMs(afterMs ?? 0, failure, this.#random));
    }
  }

  /** The config that Envoy accepted before this process, when its module is on disk and whole. Never rejects. */
  async #findKept(
    name: string,
    plugin: Plugin,
    envelope: ConfigEnvelope,
  ): Promise<PreparedConfig | undefined> {
    if (plugin.state.acknowledged !== undefined) return undefined;
    const kept = this.#options.lastKnownGood.get(name);
    if (kept === undefined) return undefined;
    try {
      const blob = await this.#options.store.get(kept.moduleDigest);
      return blob === undefined ? undefined : { ...kept, envelope };
    } catch (error) {
      this.#options.log.warn('the last known good module cannot be read', {
        name,
        reason: describeError(error),
      });
      return undefined;
    }
  }

  async #addKept(name: string, push: number, kept: Promise<PreparedConfig | undefined>): Promise<void> {
    const config = await kept;
    if (config !== undefined) this.#apply(name, { kind: 'remembered', push, config });
  }

  /** Writes down what Envoy runs now. Configs without a module of ours come again from istiod alone. */
  #keep(name: string, { bytes, moduleDigest }: PreparedConfig): void {
    if (moduleDigest === undefined) this.#options.lastKnownGood.forget(name);
    else this.#options.lastKnownGood.remember(name, bytes, moduleDigest);
    this.#pinKept();
  }

  #pinKept(): void {
    this.#options.store.setReferences('last-known-good', this.#options.lastKnownGood.digests());
  }

  #fail(
    name: string,
    plugin: Plugin,
    push: number,
    { plan, seconds }: { readonly plan: PreparedPlan; readonly seconds: number },
    error: unknown,
  ): void {
    const { reason, code, retryAfterMs } = describeFailure(error);
    plugin.failure = { code, retryAfterMs };
    this.#options.metrics.conversion('fetch_failure');
    const url = plan.kind === 'fetch' ? plan.request.url : undefined;
    this.#countFailure(url, seconds, code);
    this.#noteFailure(plugin, reason);
    const place = url === undefined ? {} : { url: presentUrl(url) };
    this.#options.log.error('Wasm module cannot be had', { name, ...place, code, reason });
    this.#apply(name, { kind: 'preparation-failed', push, reason, isRetryable: isRetryable(code) });
  }

  /** `url` undefined: nothing was fetched. */
  #countFailure(url: string | undefined, seconds: number, code: FetchErrorCode): void {
    const { plugins } = this.#options.metrics;
    if (url !== undefined) plugins.fetchFailed(originOf(url), seconds, code);
    if (verificationCodes.has(code)) plugins.refused(code);
  }

  #scheduleRetry(name: string, plugin: Plugin, push: number, attemptCount: number): void {
    const { code, retryAfterMs } = plugin.failure;
    const delayMs = retryDelayMs(code, attemptCount, retryAfterMs, this.#random);
    plugin.record = { ...plugin.record, nextRetryAtMs: this.#now() + delayMs };
    plugin.retryTimer = setTimeout(() => this.#apply(name, { kind: 'retry-due', push }), delayMs);
    plugin.retryTimer.unref();
    this.#options.log.info('Wasm module will be fetched again', {
      name,
      attemptCount,
      inMs: Math.round(delayMs),
    });
  }

  #standIn(bytes: Uint8Array, action: FallbackAction | undefined, envelope: ConfigEnvelope): StandIn {
    const config: PreparedConfig = { bytes, envelope, moduleDigest: undefined };
    if (action !== undefined) this.#fallbackActions.set(config, action);
    return { content: 'fallback', config };
  }

  /** Undefined for an offer that is no stand-in filter. */
  #fallbackActionOf(offer: Offer | undefined): FallbackAction | undefined {
    return offer === undefined ? undefined : this.#fallbackActions.get(offer.config);
  }

  #noteFailure(plugin: Plugin, reason: string): void {
    plugin.record = { ...plugin.record, lastError: reason, lastErrorAtMs: this.#now() };
  }

  async #observeDuration(conversions: readonly Promise<void>[], startedAtMs: number): Promise<void> {
    await Promise.all(conversions);
    this.#options.metrics.conversionDurationMs(this.#now() - startedAtMs);
  }

  /** Work that `close` waits for. It must not reject. */
  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }
}

/** What takes time before its config can be sent. */
type PreparedPlan = Extract<ExtensionPlan, { kind: 'fetch' | 'local' }>;

/** The module came, but it is not what was asked for. */
const verificationCodes: ReadonlySet<FetchErrorCode> = new Set(['digest_mismatch', 'checksum_mismatched']);

/** Why a module could not be had, for people and for what comes next. */
function describeFailure(error: unknown): {
  readonly reason: string;
  readonly code: FetchErrorCode;
  readonly retryAfterMs: number | undefined;
} {
  // A FetchError tells all of its causes itself.
  if (error instanceof FetchError) {
    const { message, code, retryAfterMs } = error;
    return { reason: shortText(message), code, retryAfterMs };
  }
  return { reason: shortText(describeError(error)), code: 'store', retryAfterMs: undefined };
}

/** Where a URL leads; `none` for one that leads nowhere. */
function originOf(url: string): FetchOrigin {
  const scheme = /^[a-z]+(?=:)/i.exec(url)?.[0].toLowerCase();
  if (scheme === 'oci') return 'oci';
  return scheme === 'http' || scheme === 'https' ? 'http' : 'none';
}

function referenceOwner(name: string): string {
  return `ecds:${name}`;
}
