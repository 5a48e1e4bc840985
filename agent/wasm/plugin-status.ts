import type { FetchedModule } from '../fetch/types.ts';
import type { OfferContent, Progress, RolloutState } from './rollout.ts';

/** One plugin as `/debug/wasm` shows it. Holds no secret: URLs come without user info and query. */
export interface PluginStatus {
  readonly name: string;
  /** How far the newest config has come. */
  readonly state: Progress['kind'];
  /** What Envoy runs under the name now. */
  readonly inForce: OfferContent | 'none';
  /** What the fallback does, when one is in force. */
  readonly fallbackAction: 'allow' | 'deny' | undefined;
  readonly url: string | undefined;
  readonly source: FetchedModule['source'] | undefined;
  /** SHA-256 of the module file. */
  readonly digest: string | undefined;
  /** The manifest's digest for OCI, the module's for HTTP. */
  readonly checksum: string | undefined;
  readonly matchedPin: FetchedModule['matchedPin'];
  readonly file: string | undefined;
  readonly sizeBytes: number | undefined;
  readonly version: string | undefined;
  readonly lastError: string | undefined;
  readonly failedAttemptCount: number;
  /** ISO 8601 times. */
  readonly pushedAt: string | undefined;
  readonly activeAt: string | undefined;
  readonly lastErrorAt: string | undefined;
  readonly nextRetryAt: string | undefined;
  readonly fetchDurationMs: number | undefined;
}

/** What is remembered of one plugin for its status, beside the state machine's own. */
export interface PluginRecord {
  readonly url: string | undefined;
  readonly fallbackAction: 'allow' | 'deny' | undefined;
  readonly module: FetchedModule | undefined;
  readonly fetchDurationMs: number | undefined;
  readonly version: string | undefined;
  readonly lastError: string | undefined;
  readonly pushedAtMs: number | undefined;
  readonly activeAtMs: number | undefined;
  readonly lastErrorAtMs: number | undefined;
  readonly nextRetryAtMs: number | undefined;
}

export const emptyRecord: PluginRecord = {
  url: undefined,
  fallbackAction: undefined,
  module: undefined,
  fetchDurationMs: undefined,
  version: undefined,
  lastError: undefined,
  pushedAtMs: undefined,
  activeAtMs: undefined,
  lastErrorAtMs: undefined,
  nextRetryAtMs: undefined,
};

/** Joins the two halves. Pure. */
export function describePlugin(name: string, state: RolloutState, record: PluginRecord): PluginStatus {
  const inForce = state.acknowledged?.content ?? 'none';
  return {
    name,
    state: state.progress.kind,
    inForce,
    fallbackAction: inForce === 'fallback' ? record.fallbackAction : undefined,
    url: record.url,
    source: record.module?.source,
    digest: record.module?.digest,
    checksum: record.module?.checksum,
    matchedPin: record.module?.matchedPin,
    file: record.module?.path,
    sizeBytes: record.module?.sizeBytes,
    version: record.version,
    lastError: record.lastError,
    failedAttemptCount: state.progress.kind === 'failed' ? state.progress.attemptCount : 0,
    pushedAt: isoTime(record.pushedAtMs),
    activeAt: isoTime(record.activeAtMs),
    lastErrorAt: isoTime(record.lastErrorAtMs),
    nextRetryAt: isoTime(record.nextRetryAtMs),
    fetchDurationMs: record.fetchDurationMs,
  };
}

function isoTime(timeMs: number | undefined): string | undefined {
  return timeMs === undefined ? undefined : new Date(timeMs).toISOString();
}

/** A URL as it may be shown: without user info, query and fragment, which may hold credentials. */
export function presentUrl(url: string): string {
  const match = /^([a-z][a-z0-9+.-]*:\/\/)(?:[^/?#]*@)?([^?#]*)/i.exec(url);
  return match === null ? '(not a URL)' : `${match[1] ?? ''}${match[2] ?? ''}`;
}
