import type { FetchErrorCode } from '../fetch/types.ts';
import type { ExtensionPlan } from './extension-plan.ts';
import { addToHistory, type HistoryNote } from './plugin-history.ts';
import { emptyRecord, type PluginRecord, presentUrl } from './plugin-status.ts';
import { type ConfigEnvelope, initialRollout, type RolloutState } from './rollout.ts';
import type { ToldFailure } from './told-failure.ts';

/** All that is known of one extension config. It changes in place; who holds it after a wait looks at its push again. */
export interface Plugin {
  state: RolloutState;
  record: PluginRecord;
  /** Of the newest push. */
  plan: ExtensionPlan | undefined;
  envelope: ConfigEnvelope;
  /** Running fetches by push: for a moment two, when a newer one joins the flight of an older. */
  readonly preparations: Map<number, AbortController>;
  retryTimer: NodeJS.Timeout | undefined;
  /** Why the last fetch failed: decides when the next comes. */
  failure: {
    readonly code: FetchErrorCode;
    readonly retryAfterMs: number | undefined;
    /** One more of what the log has told. */
    readonly isTold: boolean;
  };
  /** The failure that the log told last; undefined since a success. */
  toldFailure: ToldFailure | undefined;
  /** Looks after its tag that failed in a row. */
  failedRecheckCount: number;
  /** Module of the newest push that Envoy has refused. */
  refusedDigest: string | undefined;
}

/** `state`: what is left of an earlier time of the same name. */
export function createPlugin(envelope: ConfigEnvelope, state = initialRollout): Plugin {
  return {
    state,
    record: emptyRecord,
    plan: undefined,
    envelope,
    preparations: new Map(),
    retryTimer: undefined,
    failure: { code: 'network', retryAfterMs: undefined, isTold: false },
    toldFailure: undefined,
    failedRecheckCount: 0,
    refusedDigest: undefined,
  };
}

/** istiod has pushed another config: what is about the one before goes, but for what went wrong and the history. */
export function takeConfig(
  plugin: Plugin,
  plan: ExtensionPlan,
  envelope: ConfigEnvelope,
  nowMs: number,
): void {
  plugin.failedRecheckCount = 0;
  plugin.refusedDigest = undefined;
  plugin.plan = plan;
  plugin.envelope = envelope;
  plugin.record = {
    ...plugin.record,
    plan: plan.kind,
    pushedAtMs: nowMs,
    version: envelope.response.version,
    url: plan.kind === 'fetch' ? presentUrl(plan.request.url) : undefined,
    module: undefined,
    fetchDurationMs: undefined,
    fallbackAction: plan.kind === 'as-is' ? undefined : plan.fallbackAction,
    nextRecheckAtMs: undefined,
  };
}

/** For the status: the last thing that went wrong, and whether it was the policy that said no. */
export function noteFailure(
  plugin: Plugin,
  reason: string,
  nowMs: number,
  by: 'policy' | 'other' = 'other',
): void {
  plugin.record = {
    ...plugin.record,
    lastError: reason,
    lastErrorAtMs: nowMs,
    isLastErrorOfPolicy: by === 'policy',
  };
}

export function noteHistory(plugin: Plugin, note: HistoryNote, nowMs: number): void {
  plugin.record = { ...plugin.record, history: addToHistory(plugin.record.history, note, nowMs) };
}
