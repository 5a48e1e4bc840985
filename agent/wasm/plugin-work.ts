import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { FetchErrorCode } from '../fetch/types.ts';
import type { Logger } from '../log.ts';
import type { RefusedModule } from '../policy/policy.ts';
import type { ConfigPreparer, ReadyConfig } from './config-preparer.ts';
import { countFailure, describeFailure, isRefusal } from './fetch-outcome.ts';
import type { KeptConfigs } from './kept-configs.ts';
import { noteFailure, noteHistory, type Plugin } from './plugin.ts';
import { presentUrl } from './plugin-status.ts';
import { type PolicyGate, refusalError, type WasmPlan } from './policy-gate.ts';
import { changedPollDelayMs, failedRecheckDelayMs, RecheckPlan, recheckDelayMs } from './recheck.ts';
import type { RejectedConfigs } from './rejected-configs.ts';
import { isRetryable, retryDelayMs } from './retry-delay.ts';
import { isPreparing, isRenewable, type PreparedConfig, type RolloutEvent } from './rollout.ts';
import { isTold } from './told-failure.ts';

export interface PluginWorkOptions {
  readonly gate: PolicyGate;
  readonly preparer: ConfigPreparer;
  readonly kept: KeptConfigs;
  readonly rejected: RejectedConfigs;
  readonly metrics: WasmMetrics;
  readonly log: Logger;
  readonly now: () => number;
  readonly random: () => number;
  readonly plugin: (name: string) => Plugin | undefined;
  /** Takes what came of the work. */
  readonly apply: (name: string, event: RolloutEvent) => void;
  /** What runs has not the proof that the policy asks for. */
  readonly onUnproven: (name: string) => void;
}

/** All on plugins that takes time: first loads, retries, looks after newer modules. `close` waits for it. */
export class PluginWork {
  readonly #options: PluginWorkOptions;
  readonly #running = new Set<Promise<void>>();
  readonly #rechecks = new RecheckPlan((name, push, signal) => this.track(this.#recheck(name, push, signal)));
  #isClosed = false;

  constructor(options: PluginWorkOptions) {
    this.#options = options;
  }

  /** Makes the newest config of a plugin ready; then `prepared` or `preparation-failed` is applied. */
  prepare(name: string, plugin: Plugin, push: number, onEnd: () => void): void {
    if (this.#prepareAtHand(name, plugin, push)) onEnd();
    else this.track(this.#prepare(name, plugin, push).finally(onEnd));
  }

  /** A preparation that must not come to anything: it ends, and has failed for this reason. */
  refuse(name: string, plugin: Plugin, decision: RefusedModule): void {
    const { push } = plugin.state;
    const { plan } = plugin;
    if (plan === undefined || plan.kind === 'refused') return;
    plugin.preparations.get(push)?.abort(new Error('the policy refuses it'));
    this.#fail(name, plugin, push, { plan, seconds: 0 }, refusalError(decision));
  }

  scheduleRetry(name: string, plugin: Plugin, push: number, attemptCount: number): void {
    const { now, random, apply, log } = this.#options;
    const { code, retryAfterMs } = plugin.failure;
    const delayMs = retryDelayMs(code, attemptCount, retryAfterMs, random);
    plugin.record = { ...plugin.record, nextRetryAtMs: now() + delayMs };
    plugin.retryTimer = setTimeout(() => apply(name, { kind: 'retry-due', push }), delayMs);
    plugin.retryTimer.unref();
    const level = plugin.failure.isTold ? 'debug' : 'info';
    log[level]('Wasm module will be fetched again', { name, attemptCount, inMs: Math.round(delayMs) });
  }

  cancelRetry(plugin: Plugin): void {
    clearTimeout(plugin.retryTimer);
    plugin.record = { ...plugin.record, nextRetryAtMs: undefined };
  }

  /** Looks at once whether a running plugin has the proof that the policy asks for now. */
  recheckNow(name: string, plugin: Plugin): void {
    this.#setRecheck(name, plugin, plugin.state.push, 0);
  }

  /**
   * Looks soon whether the name of a running plugin means another module, for how often that is done has changed. The
   * source says from its cache when the next look is due, or that there is none.
   */
  recheckSoon(name: string, plugin: Plugin, pollIntervalMs: number | undefined): void {
    const { push, progress } = plugin.state;
    // What is being fetched, or will be, plans its own looks.
    if (plugin.record.module === undefined || isPreparing(progress)) return;
    this.#setRecheck(name, plugin, push, changedPollDelayMs(pollIntervalMs ?? 0, this.#options.random));
  }

  /** Ends looks after a plugin's newer modules, but for those of this push. */
  endRechecks(name: string, keptPush?: number): void {
    this.#rechecks.end(name, keptPush);
  }

  /** Work that `close` waits for. It must not reject. */
  track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  /** Ends all work on these plugins; resolves when none is left. */
  async close(plugins: Iterable<Plugin>): Promise<void> {
    this.#isClosed = true;
    for (const plugin of plugins) {
      for (const preparation of plugin.preparations.values()) {
        preparation.abort(new Error('the agent is shutting down'));
      }
      clearTimeout(plugin.retryTimer);
    }
    this.#rechecks.close();
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  /** Updates come a hundred in one push, and their module is mostly in the cache. False: this one takes time. */
  #prepareAtHand(name: string, plugin: Plugin, push: number): boolean {
    const { plan, envelope } = plugin;
    const { preparer, metrics, now } = this.#options;
    if (this.#isClosed || plan === undefined || plan.kind === 'refused') return false;
    // On a first load it is looked for what stands in, too.
    if (plugin.state.acknowledged === undefined) return false;
    const startedAtMs = now();
    let ready: ReadyConfig | undefined;
    try {
      ready = preparer.atHand(plan, envelope);
    } catch (error) {
      this.#fail(name, plugin, push, { plan, seconds: Math.max(0, now() - startedAtMs) / 1_000 }, error);
      return true;
    }
    if (ready === undefined) return false;
    const durationMs = Math.max(0, now() - startedAtMs);
    if (ready.module !== undefined) metrics.plugins.fetchEnded(ready.module.source, durationMs / 1_000);
    this.#takePrepared(name, plugin, push, plan, ready, durationMs);
    return true;
  }

  async #prepare(name: string, plugin: Plugin, push: number): Promise<void> {
    const { plan, envelope } = plugin;
    if (plan === undefined || plan.kind === 'refused') return;
    const { gate, kept, now, apply } = this.#options;
    const controller = new AbortController();
    const { signal } = controller;
    plugin.preparations.set(push, controller);
    const startedAtMs = now();
    const { generation } = gate;
    // Looked for beside the download: it must be at hand when that fails, or when Envoy refuses what came.
    const standIn = plugin.state.acknowledged === undefined ? kept.find(name, envelope) : undefined;
    const hold = this.#startHold(name, plugin, push, plan, standIn, signal);
    try {
      const ready = await this.#obtain(plan, plugin, signal, async () => this.#addKept(name, push, standIn));
      if (signal.aborted || this.#isClosed) return;
      this.#takePrepared(name, plugin, push, plan, ready, Math.max(0, now() - startedAtMs));
    } catch (error) {
      const seconds = Math.max(0, now() - startedAtMs) / 1_000;
      await this.#addKept(name, push, standIn);
      if (signal.aborted || this.#isClosed) return;
      this.#fail(name, plugin, push, { plan, seconds }, error);
      // What has failed under a policy that is no more may be had under that of now.
      if (generation !== gate.generation) apply(name, { kind: 'reconsidered' });
    } finally {
      clearTimeout(hold);
      // The next try of the same push may have begun.
      if (plugin.preparations.get(push) === controller) plugin.preparations.delete(push);
    }
  }

  #takePrepared(
    name: string,
    plugin: Plugin,
    push: number,
    plan: WasmPlan,
    { config, module }: ReadyConfig,
    fetchDurationMs: number,
  ): void {
    const { rejected, metrics, now, apply } = this.#options;
    if (module !== undefined) plugin.record = { ...plugin.record, module, fetchDurationMs };
    plugin.toldFailure = undefined;
    metrics.conversion(plan.kind === 'fetch' ? 'success' : 'no_remote_load');
    const refusal = rejected.reason(config.bytes);
    if (refusal === undefined) {
      const none = { lastError: undefined, lastErrorAtMs: undefined, nextRetryAtMs: undefined };
      plugin.record = { ...plugin.record, ...none };
      apply(name, { kind: 'prepared', push, config });
    } else {
      noteFailure(plugin, refusal, now());
      plugin.refusedDigest = module?.digest;
      const failure = { reason: refusal, isRetryable: false, isReplacing: false };
      apply(name, { kind: 'preparation-failed', push, ...failure });
    }
    this.#planRecheck(name, plugin, push, module?.recheckAfterMs);
  }

  /** A ready config, judged by the policy that is in force in this very turn. Throws FetchError. */
  async #obtain(
    plan: WasmPlan,
    { envelope }: Plugin,
    signal: AbortSignal,
    beforeUse: () => Promise<void>,
  ): Promise<ReadyConfig> {
    const { preparer, gate, metrics, now } = this.#options;
    for (;;) {
      const startedAtMs = now();
      const ready = await preparer.prepare(plan, envelope, { signal });
      const seconds = Math.max(0, now() - startedAtMs) / 1_000;
      if (ready.module !== undefined) metrics.plugins.fetchEnded(ready.module.source, seconds);
      await beforeUse();
      if (signal.aborted || this.#isClosed || ready.generation === gate.generation) return ready;
    }
  }

  /** The stand-in goes first where the policy wants nobody to wait as long as the download may take. */
  #startHold(
    name: string,
    plugin: Plugin,
    push: number,
    plan: WasmPlan,
    standIn: Promise<PreparedConfig | undefined> | undefined,
    signal: AbortSignal,
  ): NodeJS.Timeout | undefined {
    const maxHoldMs = this.#options.gate.maxHoldMs(plan);
    if (maxHoldMs === undefined || plugin.state.progress.kind !== 'preparing') return undefined;
    const end = async (): Promise<void> => {
      await this.#addKept(name, push, standIn);
      if (!signal.aborted && !this.#isClosed) this.#options.apply(name, { kind: 'hold-expired', push });
    };
    return setTimeout(() => this.track(end()), maxHoldMs).unref();
  }

  async #addKept(
    name: string,
    push: number,
    standIn: Promise<PreparedConfig | undefined> | undefined,
  ): Promise<void> {
    const config = await standIn;
    if (config === undefined || !this.#options.kept.isAllowed(name, config)) return;
    this.#options.apply(name, { kind: 'remembered', push, config });
  }

  #fail(
    name: string,
    plugin: Plugin,
    push: number,
    { plan, seconds }: { readonly plan: WasmPlan; readonly seconds: number },
    error: unknown,
  ): void {
    const { gate, metrics, log, apply } = this.#options;
    const { reason, code, retryAfterMs, place } = this.#note(plugin, { plan, seconds }, error);
    const level = this.#tell(plugin, push, code) ? 'error' : 'debug';
    plugin.failure = { code, retryAfterMs, isTold: level === 'debug' };
    metrics.conversion('fetch_failure');
    log[level]('Wasm module cannot be had', { name, ...place, code, reason });
    const isReplacing = gate.actionOnFailure(plan, error) === 'failStrategy';
    const failure = { reason, isRetryable: isRetryable(code), isReplacing };
    apply(name, { kind: 'preparation-failed', push, ...failure });
  }

  /** False for a failure that the log has told not long ago. */
  #tell(plugin: Plugin, push: number, code: FetchErrorCode): boolean {
    const nowMs = this.#options.now();
    if (isTold(plugin.toldFailure, { push, code, nowMs })) return false;
    plugin.toldFailure = { push, code, atMs: nowMs };
    return true;
  }

  /** What any failure to have a module leaves behind; `place` is for the log. */
  #note(
    plugin: Plugin,
    { plan, seconds }: { readonly plan: WasmPlan; readonly seconds: number },
    error: unknown,
  ): ReturnType<typeof describeFailure> & { readonly place: { readonly url?: string } } {
    const { metrics, now } = this.#options;
    const failure = describeFailure(error);
    const url = plan.kind === 'fetch' ? plan.request.url : undefined;
    countFailure(metrics.plugins, url, seconds, failure.code);
    noteFailure(plugin, failure.reason, now(), failure.code === 'policy_refused' ? 'policy' : 'other');
    return { ...failure, place: url === undefined ? {} : { url: presentUrl(url) } };
  }

  #planRecheck(name: string, plugin: Plugin, push: number, afterMs: number | undefined): void {
    if (afterMs === undefined || this.#isClosed || plugin.state.push !== push) return;
    this.#setRecheck(name, plugin, push, recheckDelayMs(afterMs, this.#options.random));
  }

  #setRecheck(name: string, plugin: Plugin, push: number, delayMs: number): void {
    plugin.record = { ...plugin.record, nextRecheckAtMs: this.#options.now() + delayMs };
    this.#rechecks.set(name, push, delayMs);
  }

  /** Looks whether the tag of a running plugin names another module, and offers that one. Never rejects. */
  async #recheck(name: string, push: number, signal: AbortSignal): Promise<void> {
    const plugin = this.#options.plugin(name);
    const { plan } = plugin ?? {};
    if (plugin === undefined || plugin.state.push !== push) return;
    if (plan === undefined || plan.kind === 'refused') return;
    const startedAtMs = this.#options.now();
    try {
      const ready = await this.#obtain(plan, plugin, signal, async () => undefined);
      if (signal.aborted || this.#isClosed) return;
      this.#takeRechecked(name, plugin, push, ready, this.#options.now() - startedAtMs);
    } catch (error) {
      if (signal.aborted || this.#isClosed) return;
      const seconds = Math.max(0, this.#options.now() - startedAtMs) / 1_000;
      this.#failRecheck(name, plugin, push, { plan, seconds }, error);
    }
  }

  #takeRechecked(name: string, plugin: Plugin, push: number, ready: ReadyConfig, durationMs: number): void {
    const { metrics, apply } = this.#options;
    const { config, module } = ready;
    const { acknowledged } = plugin.state;
    plugin.failedRecheckCount = 0;
    plugin.toldFailure = undefined;
    const isRefused = module !== undefined && module.digest === plugin.refusedDigest;
    const isRunning =
      acknowledged !== undefined && Buffer.compare(acknowledged.config.bytes, config.bytes) === 0;
    const isSameModule = config.moduleDigest === acknowledged?.config.moduleDigest;
    metrics.plugins.rechecked(isSameModule || isRefused ? 'unchanged' : 'changed');
    if (isRunning) {
      const { module: known } = plugin.record;
      if (known !== undefined && module !== undefined) {
        // Where the file came from stays; what is known of it is that of the look.
        const { isStale = false, signature, recheckAfterMs } = module;
        plugin.record = { ...plugin.record, module: { ...known, isStale, signature, recheckAfterMs } };
      }
      apply(name, { kind: 'proven', offer: acknowledged.number, config });
    } else if (!isRefused && isRenewable(plugin.state)) {
      const fetchDurationMs = Math.max(0, durationMs);
      const facts = { module, fetchDurationMs, lastError: undefined, lastErrorAtMs: undefined };
      plugin.record = { ...plugin.record, ...facts };
      apply(name, { kind: 'renewed', push, config });
    }
    plugin.record = { ...plugin.record, nextRecheckAtMs: undefined };
    this.#planRecheck(name, plugin, push, module?.recheckAfterMs);
  }

  #failRecheck(
    name: string,
    plugin: Plugin,
    push: number,
    { plan, seconds }: { readonly plan: WasmPlan; readonly seconds: number },
    error: unknown,
  ): void {
    const { metrics, log, now, random } = this.#options;
    const { reason, code, retryAfterMs, place } = this.#note(plugin, { plan, seconds }, error);
    metrics.plugins.rechecked('failed');
    noteHistory(plugin, { what: 'recheck-failed', why: reason }, now());
    const level = this.#tell(plugin, push, code) ? 'warn' : 'debug';
    log[level]('whether a plugin has a newer module could not be found out', {
      name,
      ...place,
      code,
      reason,
    });
    plugin.failedRecheckCount += 1;
    if (isRefusal(code)) this.#options.onUnproven(name);
    const afterMs = plugin.record.module?.recheckAfterMs;
    plugin.record = { ...plugin.record, nextRecheckAtMs: undefined };
    // Without polling it was looked for a proof, and there is none: only another policy or push helps.
    if (afterMs === undefined && !isRetryable(code)) return;
    const failure = { code, attemptCount: plugin.failedRecheckCount, retryAfterMs };
    this.#setRecheck(name, plugin, push, failedRecheckDelayMs(afterMs ?? 0, failure, random));
  }
}
