import type { BlobStore } from '../../cache/types.ts';
import type { PluginFacts } from '../../metrics/plugin-metrics.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { ModuleSource } from '../fetch/types.ts';
import type { Logger } from '../log.ts';
import { noPolicy, type PolicySource } from '../policy/policy-data.ts';
import { ConfigPreparer } from './config-preparer.ts';
import type { ExtensionPlan } from './extension-plan.ts';
import { fallbackActionOf, standIn } from './fallback-config.ts';
import { KeptConfigs } from './kept-configs.ts';
import type { LastKnownGood } from './last-known-good.ts';
import type { ModulePreflight } from './module-preflight.ts';
import { createPlugin, noteFailure, noteHistory, type Plugin, takeConfig } from './plugin.ts';
import { noteOf } from './plugin-history.ts';
import { PluginReview } from './plugin-review.ts';
import { countPlugin, describePlugin, type PluginStatus, type PluginSurroundings } from './plugin-status.ts';
import { PluginWork } from './plugin-work.ts';
import { PolicyGate } from './policy-gate.ts';
import { type PushedResource, planResources } from './pushed-resources.ts';
import { RejectedConfigs } from './rejected-configs.ts';
import {
  type ConfigEnvelope,
  isAckTrue,
  type ResponseShell,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutState,
  type StandIn,
} from './rollout.ts';
import type { RolloutStream, TakenPush } from './rollout-stream.ts';
import { transition } from './rollout-transition.ts';

export interface PluginRolloutsOptions {
  /** Of modules that may be given to Envoy as they are. */
  readonly source: ModuleSource;
  /** For modules that come from no source. */
  readonly preflight: Pick<ModulePreflight, 'passLocal'>;
  readonly store: Pick<BlobStore, 'get' | 'setReferences'>;
  readonly lastKnownGood: LastKnownGood;
  /** Default: everything is allowed. */
  readonly policy?: PolicySource;
  readonly metrics: WasmMetrics;
  readonly log: Logger;
  readonly now?: () => number;
  readonly random?: () => number;
}

/**
 * The rollout of every extension config, by resource name: runs the effects of the state machine. It outlives
 * streams, because what Envoy runs does.
 */
export class PluginRollouts {
  readonly #options: PluginRolloutsOptions;
  readonly #now: () => number;
  readonly #plugins = new Map<string, Plugin>();
  /** Of names that were withdrawn before Envoy had answered: when they come back, its answers still count. */
  readonly #unanswered = new Map<string, RolloutState>();
  readonly #rejected: RejectedConfigs;
  readonly #gate: PolicyGate;
  readonly #kept: KeptConfigs;
  readonly #work: PluginWork;
  readonly #forgetPolicy: () => void;
  readonly #review: PluginReview;
  #stream: RolloutStream | undefined;
  #pushCounter = 0;
  #offerCounter = 0;

  constructor(options: PluginRolloutsOptions) {
    this.#options = options;
    const { source, preflight, store, lastKnownGood, metrics, log, policy = noPolicy } = options;
    const now = options.now ?? Date.now;
    this.#now = now;
    const rejected = new RejectedConfigs({ now });
    this.#rejected = rejected;
    const gate = new PolicyGate({ policy, source });
    this.#gate = gate;
    const kept = new KeptConfigs({ lastKnownGood, store, gate, log });
    this.#kept = kept;
    this.#work = new PluginWork({
      gate,
      preparer: new ConfigPreparer({ gate, preflight }),
      kept,
      rejected,
      metrics,
      log,
      now,
      random: options.random ?? Math.random,
      plugin: (name) => this.#plugins.get(name),
      apply: (name, event) => this.#apply(name, event),
      onUnproven: (name) => this.#review.judge(name, true),
    });
    this.#review = new PluginReview({
      gate,
      work: this.#work,
      metrics,
      log,
      now,
      plugins: this.#plugins,
      apply: (name, event) => this.#apply(name, event),
    });
    this.#forgetPolicy = gate.onChange((before) =>
      this.#review.takePolicy(before, this.#stream !== undefined),
    );
    metrics.plugins.watchPlugins(() => this.#facts());
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
  push(response: ResponseShell, resources: readonly PushedResource[]): TakenPush {
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
        const started = this.#start(name, push, plan, { response, wrapper });
        // Now that the new fetch has joined what it may join.
        this.#work.endRechecks(name, push);
        return started;
      });
      if (conversions.length > 0) this.#work.track(this.#observeDuration(conversions, startedAtMs));
    };
    return { push, names: named.map(({ name }) => name), nameless, start };
  }

  /** istiod does not send it any more, or Envoy does not ask for it any more. */
  withdraw(name: string): void {
    if (!this.#plugins.has(name)) return;
    this.#apply(name, { kind: 'withdrawn' });
    const state = this.#plugins.get(name)?.state;
    if (state !== undefined && state.inFlight.length > 0) this.#unanswered.set(name, state);
    this.#work.endRechecks(name);
    this.#plugins.delete(name);
    this.#options.store.setReferences(referenceOwner(name), []);
    this.#kept.forget(name);
    this.#options.log.debug('extension config withdrawn', { name });
  }

  /** Names that istiod has pushed and nobody has withdrawn. */
  names(): readonly string[] {
    return [...this.#plugins.keys()];
  }

  /** False when Envoy does not run the offer for all that. */
  acknowledged(name: string, offer: number): boolean {
    const before = this.#stateOf(name);
    const answered = before?.inFlight.find(({ number }) => number === offer);
    const isTrue = before === undefined || answered === undefined || isAckTrue(before, answered);
    this.#answer(name, { kind: 'acknowledged', offer });
    const running = this.#plugins.get(name)?.state.acknowledged;
    if (running?.number !== offer) return isTrue;
    this.#rejected.delete(running.config.bytes);
    if (running.content === 'plugin') this.#kept.keep(name, running.config);
    return true;
  }

  rejected(name: string, offer: number, reason: string): void {
    this.#options.log.warn('Envoy rejected an extension config', { name, reason });
    const rejected = this.#stateOf(name)?.inFlight.find(({ number }) => number === offer);
    if (rejected !== undefined) {
      this.#rejected.add(rejected.config.bytes, reason);
      const plugin = this.#plugins.get(name);
      if (plugin?.state.push === rejected.push) plugin.refusedDigest = rejected.config.moduleDigest;
      this.#options.metrics.plugins.envoyRejected();
    }
    this.#answer(name, { kind: 'rejected', offer, reason });
  }

  #stateOf(name: string): RolloutState | undefined {
    return this.#plugins.get(name)?.state ?? this.#unanswered.get(name);
  }

  #answer(name: string, event: RolloutEvent): void {
    const withdrawn = this.#unanswered.get(name);
    if (withdrawn === undefined) return this.#apply(name, event);
    // Nothing is done for a name that is gone.
    const { state } = transition(withdrawn, event, () => ++this.#offerCounter);
    if (state.inFlight.length > 0) this.#unanswered.set(name, state);
    else this.#unanswered.delete(name);
  }

  snapshot(): readonly PluginStatus[] {
    return [...this.#plugins].map(([name, { state, record }]) =>
      describePlugin(name, state, record, this.#surroundings(name, state)),
    );
  }

  /** For the metrics; asked at each scrape. */
  #facts(): readonly PluginFacts[] {
    return [...this.#plugins].map(([name, { state }]) =>
      countPlugin(name, state, this.#surroundings(name, state), this.#now()),
    );
  }

  #surroundings(name: string, state: RolloutState): PluginSurroundings {
    return {
      runningFallbackAction: fallbackActionOf(state.acknowledged),
      lastKnownGoodAtMs: this.#kept.keptAtMs(name),
      runningRefusal: this.#review.runningRefusal(state),
    };
  }

  /** Ends fetches and retries; resolves when none is left. */
  async close(): Promise<void> {
    this.#stream = undefined;
    this.#forgetPolicy();
    await this.#work.close(this.#plugins.values());
  }

  /** Offers that no stream carries any more can not be answered; also those made while there was no stream. */
  #forgetOffers(): void {
    this.#unanswered.clear();
    for (const name of this.#plugins.keys()) this.#apply(name, { kind: 'stream-ended' });
  }

  #start(name: string, push: number, plan: ExtensionPlan, envelope: ConfigEnvelope): Promise<void> {
    const plugin = this.#plugins.get(name) ?? createPlugin(envelope, this.#unanswered.get(name));
    this.#plugins.set(name, plugin);
    this.#unanswered.delete(name);
    takeConfig(plugin, plan, envelope, this.#now());
    switch (plan.kind) {
      case 'as-is': {
        if (plan.holdsWasm && this.#gate.isOn) return this.#startWork(name, push, []);
        this.#options.metrics.conversion('no_remote_load');
        const refusal = this.#rejected.reason(plan.bytes);
        if (refusal === undefined) {
          const config = { envelope, moduleDigest: undefined, module: undefined, bytes: plan.bytes };
          this.#apply(name, { kind: 'pushed-ready', push, config });
        } else {
          noteFailure(plugin, refusal, this.#now());
          this.#apply(name, { kind: 'pushed-refused', push, reason: refusal, standIns: [] });
        }
        return Promise.resolve();
      }
      case 'refused': {
        this.#options.metrics.conversion(plan.result);
        noteFailure(plugin, plan.reason, this.#now());
        this.#options.log.error('extension config cannot be used', { name, reason: plan.reason });
        const standIns = plan.fallback === undefined ? [] : [standIn(plan.fallback, plan, envelope)];
        this.#apply(name, { kind: 'pushed-refused', push, reason: plan.reason, standIns });
        return Promise.resolve();
      }
      case 'local':
      case 'fetch': {
        const standIns = [standIn(plan.fallback, plan, envelope)];
        return this.#startWork(name, push, standIns);
      }
      default:
        return plan satisfies never;
    }
  }

  /** Resolves when the first try has ended. */
  async #startWork(name: string, push: number, standIns: readonly StandIn[]): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#apply(name, { kind: 'pushed-remote', push, standIns }, resolve);
    });
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
    if (event.kind === 'rejected') noteFailure(plugin, event.reason, this.#now());
    const { progress } = state;
    if (event.kind === 'acknowledged' && progress.kind === 'failed' && plugin.state.progress !== progress)
      noteFailure(plugin, progress.reason, this.#now());
    this.#remember(plugin, event, state);
    const { acknowledged, inFlight } = plugin.state;
    plugin.state = state;
    if (state.acknowledged !== acknowledged || state.inFlight !== inFlight) this.#pin(name, state);
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
      fallbackActionOf: (offer) => fallbackActionOf(offer),
    });
    if (note !== undefined) noteHistory(plugin, note, this.#now());
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
        this.#work.prepare(name, plugin, effect.push, onPrepared);
        return;
      case 'cancel-preparation':
        plugin.preparations.get(effect.push)?.abort(new Error('superseded by a newer config'));
        return;
      case 'schedule-retry':
        this.#work.scheduleRetry(name, plugin, effect.push, effect.attemptCount);
        return;
      case 'cancel-retry':
        this.#work.cancelRetry(plugin);
        return;
      default:
        effect satisfies never;
    }
  }

  async #observeDuration(conversions: readonly Promise<void>[], startedAtMs: number): Promise<void> {
    await Promise.all(conversions);
    this.#options.metrics.conversionDurationMs(Math.max(0, this.#now() - startedAtMs));
  }
}

function referenceOwner(name: string): string {
  return `ecds:${name}`;
}
