import type { BlobStore } from '../../cache/types.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { Any, Resource } from '../../proto/codec.ts';
import { FetchError, type FetchErrorCode, type ModuleSource } from '../fetch/types.ts';
import { describeError, type Logger } from '../log.ts';
import { type ExtensionPlan, planExtensionConfig } from './extension-plan.ts';
import {
  describePlugin,
  emptyRecord,
  type PluginRecord,
  type PluginStatus,
  presentUrl,
} from './plugin-status.ts';
import { isRetryable, retryDelayMs } from './retry-delay.ts';
import {
  type ConfigEnvelope,
  initialRollout,
  type Offer,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutState,
  transition,
} from './rollout.ts';

/** The stream that offers go to and verdicts come from: one at a time, as Envoy has one. */
export interface RolloutStream {
  /** Send this config to Envoy, alone in a response, under a nonce that leads back to `offer.number`. */
  send(name: string, offer: Offer): void;
  /** A push's config of this name is settled: `failure` is what istiod is to hear, undefined is success. */
  settled(name: string, push: number, failure: string | undefined): void;
}

/** One resource of a push. */
export interface PushedResource {
  readonly any: Any;
  /** Delta: the wrapper it came in, whose name is used when the config itself cannot be read. */
  readonly wrapper: Resource | undefined;
  /** Used as its name when neither the config nor the wrapper gives one. */
  readonly placeholderName: string;
}

export interface PluginRolloutsOptions {
  readonly source: ModuleSource;
  readonly store: Pick<BlobStore, 'setReferences'>;
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
}

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
  #stream: RolloutStream | undefined;
  #pushCounter = 0;
  #offerCounter = 0;
  #isClosed = false;

  constructor(options: PluginRolloutsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#random = options.random ?? Math.random;
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

  /**
   * Takes all resources of one response of istiod. Returns the names, in order, and the push's number: each name is
   * settled once under it, the first of them possibly while `start` runs.
   */
  push(
    response: ConfigEnvelope['response'],
    version: string,
    resources: readonly PushedResource[],
  ): { readonly push: number; readonly names: readonly string[]; readonly start: () => void } {
    this.#pushCounter += 1;
    const push = this.#pushCounter;
    const startedAtMs = this.#now();
    const items = resources.map(({ any, wrapper, placeholderName }) => {
      const plan = planExtensionConfig(any);
      const name = plan.name === '' ? (wrapper?.name ?? placeholderName) : plan.name;
      return { name, plan, envelope: { version, response, wrapper } };
    });
    const start = (): void => {
      const conversions = items.map(({ name, plan, envelope }) => this.#start(name, push, plan, envelope));
      if (conversions.length > 0) this.#track(this.#observeDuration(conversions, startedAtMs));
    };
    return { push, names: items.map(({ name }) => name), start };
  }

  /** istiod does not send it any more, or Envoy does not ask for it any more. */
  withdraw(name: string): void {
    if (!this.#plugins.has(name)) return;
    this.#apply(name, { kind: 'withdrawn' });
    this.#plugins.delete(name);
    this.#options.store.setReferences(referenceOwner(name), []);
    this.#options.log.debug('extension config withdrawn', { name });
  }

  /** Names that istiod has pushed and nobody has withdrawn. */
  names(): readonly string[] {
    return [...this.#plugins.keys()];
  }

  acknowledged(name: string, offer: number): void {
    this.#apply(name, { kind: 'acknowledged', offer });
  }

  rejected(name: string, offer: number, reason: string): void {
    this.#options.log.warn('Envoy rejected an extension config', { name, reason });
    this.#apply(name, { kind: 'rejected', offer, reason });
  }

  snapshot(): readonly PluginStatus[] {
    return [...this.#plugins].map(([name, plugin]) => describePlugin(name, plugin.state, plugin.record));
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
    };
    this.#plugins.set(name, plugin);
    plugin.plan = plan;
    plugin.envelope = envelope;
    plugin.record = { ...plugin.record, pushedAtMs: this.#now(), version: envelope.version };
    const without = { envelope, moduleDigest: undefined };
    switch (plan.kind) {
      case 'as-is':
      case 'stripped':
        this.#options.metrics.conversion('no_remote_load');
        plugin.record = { ...plugin.record, url: undefined, module: undefined, fallbackAction: undefined };
        this.#apply(name, { kind: 'pushed-ready', push, config: { ...without, bytes: plan.bytes } });
        return Promise.resolve();
      case 'refused': {
        this.#options.metrics.conversion(plan.result);
        this.#noteFailure(plugin, plan.reason);
        this.#options.log.error('extension config cannot be used', { name, reason: plan.reason });
        plugin.record = {
          ...plugin.record,
          url: undefined,
          module: undefined,
          fallbackAction: plan.fallbackAction,
        };
        const fallback = plan.fallback === undefined ? undefined : { ...without, bytes: plan.fallback };
        this.#apply(name, { kind: 'pushed-refused', push, reason: plan.reason, fallback });
        return Promise.resolve();
      }
      case 'fetch': {
        plugin.record = {
          ...plugin.record,
          url: presentUrl(plan.request.url),
          fallbackAction: plan.fallbackAction,
        };
        const fallback = { ...without, bytes: plan.fallback };
        return new Promise((resolve) => {
          this.#apply(name, { kind: 'pushed-remote', push, fallback }, resolve);
        });
      }
      default:
        return plan satisfies never;
    }
  }

  #apply(name: string, event: RolloutEvent, onPrepared: () => void = () => undefined): void {
    const plugin = this.#plugins.get(name);
    if (plugin === undefined) return;
    const { state, effects } = transition(plugin.state, event, () => ++this.#offerCounter);
    if (state.progress.kind === 'active' && plugin.state.progress.kind !== 'active') {
      plugin.record = { ...plugin.record, activeAtMs: this.#now() };
    }
    if (event.kind === 'rejected') this.#noteFailure(plugin, event.reason);
    plugin.state = state;
    this.#pin(name, state);
    for (const effect of effects) this.#run(name, plugin, effect, onPrepared);
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
    if (plan?.kind !== 'fetch') return;
    const controller = new AbortController();
    plugin.preparations.set(push, controller);
    const startedAtMs = this.#now();
    try {
      const module = await this.#options.source.fetch(plan.request, { signal: controller.signal });
      if (controller.signal.aborted || this.#isClosed) return;
      const bytes = plan.rewrite(module.path);
      this.#options.metrics.conversion('success');
      plugin.record = {
        ...plugin.record,
        module,
        fetchDurationMs: this.#now() - startedAtMs,
        lastError: undefined,
        lastErrorAtMs: undefined,
        nextRetryAtMs: undefined,
      };
      this.#apply(name, { kind: 'prepared', push, config: { bytes, envelope, moduleDigest: module.digest } });
    } catch (error) {
      if (!controller.signal.aborted && !this.#isClosed)
        this.#fail(name, plugin, push, plan.request.url, error);
    } finally {
      plugin.preparations.delete(push);
    }
  }

  #fail(name: string, plugin: Plugin, push: number, url: string, error: unknown): void {
    const reason = describeError(error);
    const code = error instanceof FetchError ? error.code : 'store';
    plugin.failure = { code, retryAfterMs: error instanceof FetchError ? error.retryAfterMs : undefined };
    this.#options.metrics.conversion('fetch_failure');
    this.#noteFailure(plugin, reason);
    this.#options.log.error('Wasm module cannot be had', { name, url: presentUrl(url), code, reason });
    this.#apply(name, { kind: 'preparation-failed', push, reason, isRetryable: isRetryable(code) });
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

function referenceOwner(name: string): string {
  return `ecds:${name}`;
}
