import type { PluginFacts } from '../../metrics/plugin-metrics.ts';
import { displayUrl } from '../fetch/module-url.ts';
import type { FetchedModule, ModuleDigests } from '../fetch/types.ts';
import type { ExtensionPlan } from './extension-plan.ts';
import type { FallbackAction } from './fallback-filter.ts';
import type { HistoryEntry, HistoryEvent } from './plugin-history.ts';
import { shortPluginName } from './plugin-name.ts';
import type { OfferContent, Progress, RetryState, RolloutState } from './rollout.ts';
import { shortText } from './short-text.ts';

/** One entry of a plugin's history, oldest first. */
export interface PluginEvent {
  /** ISO 8601. */
  readonly at: string;
  /** The last of several in a row, ISO 8601; undefined when there was one. */
  readonly lastAt: string | undefined;
  readonly count: number;
  readonly what: HistoryEvent;
  readonly why: string | undefined;
}

/** Who signed a module, as far as it is proven. */
export interface PluginSignature {
  /** Name of the signer in the policy. */
  readonly signer: string;
  /** The key, or the identity of the certificate, in words. */
  readonly proof: string;
}

/** One plugin as `/debug/wasm` shows it. Holds no secret: URLs come without user info and query. */
export interface PluginStatus {
  readonly name: string;
  /** How far the newest config has come. */
  readonly state: Progress['kind'];
  /** When it came into this state, ISO 8601. */
  readonly stateSince: string | undefined;
  /** Whether a failed one is tried again in the background. */
  readonly retry: RetryState;
  /** What Envoy runs under the name now. */
  readonly inForce: OfferContent | 'none';
  /** What the fallback does, when one is in force. */
  readonly fallbackAction: FallbackAction | undefined;
  /** SHA-256 of the module file that Envoy runs; undefined when it runs none of ours. */
  readonly runningDigest: string | undefined;
  /** Why the policy of now would refuse what Envoy runs; undefined when it would not. */
  readonly policyRefusal: string | undefined;
  /** What was to be done with the newest config. From here to `signature` all is about the newest config. */
  readonly plan: ExtensionPlan['kind'] | undefined;
  /** What its fail strategy puts in its place where nothing better is at hand. */
  readonly failAction: FallbackAction | undefined;
  readonly url: string | undefined;
  readonly source: FetchedModule['source'] | undefined;
  /** Which place it was, where it was downloaded. */
  readonly sourceName: string | undefined;
  /** It is from the cache because nobody answered, and may be out of date. */
  readonly isStale: boolean;
  /** SHA-256 of the module file. */
  readonly digest: string | undefined;
  /** The manifest's digest for OCI, the module's for HTTP. */
  readonly checksum: string | undefined;
  readonly matchedPin: FetchedModule['matchedPin'];
  /** Of the whole chain, as far as it is known. */
  readonly digests: ModuleDigests | undefined;
  readonly file: string | undefined;
  readonly sizeBytes: number | undefined;
  /** Undefined: no signature was asked for. */
  readonly signature: PluginSignature | undefined;
  readonly version: string | undefined;
  readonly lastError: string | undefined;
  /** The last error is a refusal by the policy: another policy mends it, without a push. */
  readonly isLastErrorOfPolicy: boolean;
  readonly failedAttemptCount: number;
  /** ISO 8601 times. */
  readonly pushedAt: string | undefined;
  readonly activeAt: string | undefined;
  readonly lastErrorAt: string | undefined;
  /** Undefined while none is planned. */
  readonly nextRetryAt: string | undefined;
  /** When it is looked whether its tag names another module; undefined: not without a new push. */
  readonly nextRecheckAt: string | undefined;
  /** When Envoy accepted the config that is kept on disk; undefined while none is. */
  readonly lastKnownGoodAt: string | undefined;
  readonly fetchDurationMs: number | undefined;
  readonly history: readonly PluginEvent[];
}

/** What is remembered of one plugin for its status, beside the state machine's own. */
export interface PluginRecord {
  readonly plan: ExtensionPlan['kind'] | undefined;
  readonly url: string | undefined;
  /** Of the newest config, whether it is in force or not. */
  readonly fallbackAction: FallbackAction | undefined;
  readonly module: FetchedModule | undefined;
  readonly fetchDurationMs: number | undefined;
  readonly version: string | undefined;
  readonly lastError: string | undefined;
  readonly isLastErrorOfPolicy: boolean;
  readonly stateSinceMs: number | undefined;
  readonly pushedAtMs: number | undefined;
  readonly activeAtMs: number | undefined;
  readonly lastErrorAtMs: number | undefined;
  readonly nextRetryAtMs: number | undefined;
  readonly nextRecheckAtMs: number | undefined;
  readonly history: readonly HistoryEntry[];
}

export const emptyRecord: PluginRecord = {
  plan: undefined,
  url: undefined,
  fallbackAction: undefined,
  module: undefined,
  fetchDurationMs: undefined,
  version: undefined,
  lastError: undefined,
  isLastErrorOfPolicy: false,
  stateSinceMs: undefined,
  pushedAtMs: undefined,
  activeAtMs: undefined,
  lastErrorAtMs: undefined,
  nextRetryAtMs: undefined,
  nextRecheckAtMs: undefined,
  history: [],
};

/** What neither half knows by itself. */
export interface PluginSurroundings {
  /** What the stand-in does that Envoy runs, which may be that of an earlier config. */
  readonly runningFallbackAction: FallbackAction | undefined;
  /** Epoch ms. */
  readonly lastKnownGoodAtMs: number | undefined;
  readonly runningRefusal: string | undefined;
}

/** Joins the halves. Pure. */
export function describePlugin(
  name: string,
  state: RolloutState,
  record: PluginRecord,
  surroundings: PluginSurroundings,
): PluginStatus {
  const inForce = state.acknowledged?.content ?? 'none';
  const retry = state.progress.kind === 'failed' ? state.progress.retry : 'none';
  return {
    name,
    state: state.progress.kind,
    stateSince: isoTime(record.stateSinceMs),
    retry,
    inForce,
    fallbackAction: inForce === 'fallback' ? surroundings.runningFallbackAction : undefined,
    runningDigest: state.acknowledged?.config.moduleDigest,
    policyRefusal: surroundings.runningRefusal,
    plan: record.plan,
    failAction: record.fallbackAction,
    url: record.url,
    source: record.module?.source,
    sourceName: record.module?.sourceName,
    isStale: record.module?.isStale ?? false,
    digest: record.module?.digest,
    checksum: record.module?.checksum,
    matchedPin: record.module?.matchedPin,
    digests: record.module?.digests,
    file: record.module?.path,
    sizeBytes: record.module?.sizeBytes,
    signature: record.module?.signature,
    version: record.version,
    lastError: record.lastError,
    isLastErrorOfPolicy: record.lastError !== undefined && record.isLastErrorOfPolicy,
    failedAttemptCount: state.progress.kind === 'failed' ? state.progress.attemptCount : 0,
    pushedAt: isoTime(record.pushedAtMs),
    activeAt: isoTime(record.activeAtMs),
    lastErrorAt: isoTime(record.lastErrorAtMs),
    nextRetryAt: retry === 'waiting' ? isoTime(record.nextRetryAtMs) : undefined,
    nextRecheckAt: isoTime(record.nextRecheckAtMs),
    lastKnownGoodAt: isoTime(surroundings.lastKnownGoodAtMs),
    fetchDurationMs: record.fetchDurationMs,
    history: record.history.map(describeEntry),
  };
}

/** The same for the metrics. Pure. */
export function countPlugin(
  name: string,
  state: RolloutState,
  surroundings: PluginSurroundings,
  nowMs: number,
): PluginFacts {
  const { runningFallbackAction, lastKnownGoodAtMs: keptAtMs, runningRefusal } = surroundings;
  return {
    plugin: shortPluginName(name),
    state: state.progress.kind,
    fallbackAction: runningFallbackAction,
    isRefusedByPolicy: runningRefusal !== undefined,
    lastKnownGoodAgeSeconds: keptAtMs === undefined ? undefined : Math.max(0, (nowMs - keptAtMs) / 1_000),
  };
}

function describeEntry({ what, why, count, firstAtMs, lastAtMs }: HistoryEntry): PluginEvent {
  const at = new Date(firstAtMs).toISOString();
  return { at, lastAt: count > 1 ? isoTime(lastAtMs) : undefined, count, what, why };
}

function isoTime(timeMs: number | undefined): string | undefined {
  return timeMs === undefined ? undefined : new Date(timeMs).toISOString();
}

/** A URL as it may be shown on a page: `displayUrl`, no longer than a line, and nothing of a text that is none. */
export function presentUrl(url: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? shortText(displayUrl(url)) : '(not a URL)';
}
