import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { Logger } from '../log.ts';
import type { Policy } from '../policy/policy-data.ts';
import { noteFailure, noteHistory, type Plugin } from './plugin.ts';
import { judgeOffers } from './plugin-judgement.ts';
import type { PluginWork } from './plugin-work.ts';
import type { PolicyGate } from './policy-gate.ts';
import { isPreparing, type RolloutEvent, type RolloutState } from './rollout.ts';

export interface PluginReviewOptions {
  readonly gate: PolicyGate;
  readonly work: PluginWork;
  readonly metrics: WasmMetrics;
  readonly log: Logger;
  readonly now: () => number;
  readonly plugins: ReadonlyMap<string, Plugin>;
  /** Takes what the policy means for a rollout. */
  readonly apply: (name: string, event: RolloutEvent) => void;
}

/** What a changed policy means for plugins that were pushed before it. */
export class PluginReview {
  readonly #options: PluginReviewOptions;

  constructor(options: PluginReviewOptions) {
    this.#options = options;
  }

  /** Another policy is in force: what runs is judged again, and with a stream what failed may be had now. */
  takePolicy(before: Policy, hasStream: boolean): void {
    const { gate, work, plugins, apply } = this.#options;
    for (const [name, plugin] of plugins) {
      this.#takePollInterval(name, plugin, before);
      this.judge(name, false);
      const { plan, state } = plugin;
      if (plan === undefined || plan.kind === 'refused') continue;
      const refusal = gate.refusalOf(plan);
      if (refusal !== undefined && isPreparing(state.progress)) work.refuse(name, plugin, refusal);
      const isWaiting = state.progress.kind === 'failed' && state.progress.retry === 'waiting';
      // Without a stream the next push finds out.
      if (hasStream && (refusal === undefined || isWaiting)) apply(name, { kind: 'reconsidered' });
    }
  }

  /** `isProofMissing`: it was looked for what the policy asks for, and it is not there. */
  judge(name: string, isProofMissing: boolean): void {
    const { gate, work, metrics, log, now, plugins, apply } = this.#options;
    const plugin = plugins.get(name);
    if (plugin === undefined) return;
    const { stopped, newest, standIns } = judgeOffers(plugin.state, {
      judge: (config) => gate.judge(config.module),
      isStandInAllowed: (config) => gate.judge(config.module).kind === 'allowed',
      isProofMissing,
    });
    switch (newest.kind) {
      case 'allowed':
        break;
      case 'unproven':
        work.recheckNow(name, plugin);
        break;
      case 'refused': {
        const { action, reason } = newest;
        log.warn('the policy refuses a plugin that runs', { name, action, reason });
        metrics.plugins.refused('policy_refused');
        noteFailure(plugin, reason, now(), 'policy');
        if (action === 'keep') noteHistory(plugin, { what: 'kept', why: reason }, now());
        break;
      }
      default:
        newest satisfies never;
    }
    const reason = newest.kind === 'refused' ? newest.reason : '';
    apply(name, { kind: 'judged', stopped, reason, standIns });
  }

  /** Why the policy refuses what Envoy runs; undefined when it does not, or there is nothing to refuse. */
  runningRefusal({ acknowledged }: RolloutState): string | undefined {
    if (acknowledged === undefined) return undefined;
    const judgement = this.#options.gate.judge(acknowledged.config.module);
    return judgement.kind === 'allowed' ? undefined : judgement.reason;
  }

  /** Before judging: who lacks a proof is looked at sooner. */
  #takePollInterval(name: string, plugin: Plugin, before: Policy): void {
    const { gate, work } = this.#options;
    const { plan } = plugin;
    if (plan?.kind !== 'fetch' || gate.isPolledAs(before, plan.request.url)) return;
    work.recheckSoon(name, plugin, gate.pollIntervalMs(plan.request.url));
  }
}
