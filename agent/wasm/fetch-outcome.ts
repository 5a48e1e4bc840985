import type { FetchOrigin, PluginMetrics } from '../../metrics/plugin-metrics.ts';
import { FetchError, type FetchErrorCode } from '../fetch/types.ts';
import { describeError } from '../log.ts';
import { shortText } from './short-text.ts';

/** Why a module could not be had, for people and for what comes next. */
export interface FetchFailure {
  readonly reason: string;
  readonly code: FetchErrorCode;
  readonly retryAfterMs: number | undefined;
}

/** Reads any error of a preparation. Pure. */
export function describeFailure(error: unknown): FetchFailure {
  // A FetchError tells all of its causes itself.
  if (error instanceof FetchError) {
    const { message, code, retryAfterMs } = error;
    return { reason: shortText(message), code, retryAfterMs };
  }
  return { reason: shortText(describeError(error)), code: 'store', retryAfterMs: undefined };
}

/** The module is not what was asked for, or not what may be used. */
const refusalCodes: ReadonlySet<FetchErrorCode> = new Set([
  'digest_mismatch',
  'checksum_mismatched',
  'unsigned',
  'policy_refused',
]);

/** True when the failure says something about the module itself, and not about the way to it. Pure. */
export function isRefusal(code: FetchErrorCode): boolean {
  return refusalCodes.has(code);
}

/** Counts a failure. `url` is undefined for what needs no download. */
export function countFailure(
  metrics: Pick<PluginMetrics, 'fetchFailed' | 'refused'>,
  url: string | undefined,
  seconds: number,
  code: FetchErrorCode,
): void {
  // What the policy refuses was not asked for anywhere.
  if (url !== undefined && code !== 'policy_refused') metrics.fetchFailed(originOf(url), seconds, code);
  // Signatures are counted where they are looked for, by what was wrong with them.
  if (isRefusal(code) && code !== 'unsigned') metrics.refused(code);
}

/** Where a URL leads; `none` for one that leads nowhere. */
function originOf(url: string): FetchOrigin {
  const scheme = /^[a-z]+(?=:)/i.exec(url)?.[0].toLowerCase();
  if (scheme === 'oci') return 'oci';
  return scheme === 'http' || scheme === 'https' ? 'http' : 'none';
}
