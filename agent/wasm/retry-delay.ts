import type { FetchErrorCode } from '../fetch/types.ts';

/** How soon a failed fetch is tried again in the background. */
type RetryClass =
  /** The network or a server: soon, then ever more slowly. */
  | 'transient'
  /** The content itself: only a change at the origin helps, and each try may cost a whole download. */
  | 'content'
  /** The config itself: only a new push helps, or another policy. */
  | 'never';

const firstDelayMs = 1_000;
const largestDelayMs = 60_000;
const contentDelayMs = 300_000;
/** A server may ask for more patience, but not for days: the operator may have mended it meanwhile. */
const largestRetryAfterMs = 600_000;

function classify(code: FetchErrorCode): RetryClass {
  switch (code) {
    case 'unauthorized':
    case 'not_found':
    case 'http_status':
    case 'network':
    case 'tls':
    case 'timeout':
    case 'aborted':
    case 'digest_mismatch':
    case 'store':
      return 'transient';
    case 'blocked_address':
    case 'redirect':
    case 'too_large':
    case 'bad_manifest':
    case 'bad_archive':
    case 'not_wasm':
    case 'checksum_mismatched':
    case 'unsigned':
    case 'preflight_refused':
      return 'content';
    case 'bad_url':
    case 'unsupported_scheme':
    case 'bad_checksum':
    case 'bad_pull_secret':
    case 'policy_refused':
      return 'never';
    default:
      return code satisfies never;
  }
}

/** True when another try may succeed without a new push. */
export function isRetryable(code: FetchErrorCode): boolean {
  return classify(code) !== 'never';
}

/**
 * The wait before the next try, in ms. `attemptCount` is how many have failed, `random` is in [0, 1): half the wait
 * is spread, so that pods that failed together do not come back together. `retryAfterMs` is the least that a server has
 * asked for, up to ten minutes; up to half as much is added.
 */
export function retryDelayMs(
  code: FetchErrorCode,
  attemptCount: number,
  retryAfterMs: number | undefined,
  random: () => number,
): number {
  const base =
    classify(code) === 'content'
      ? contentDelayMs
      : Math.min(largestDelayMs, firstDelayMs * 2 ** (attemptCount - 1));
  const share = random();
  // Spread too: a server that asks many pods for the same patience must not get them all back in the same second.
  const asked = Math.min(retryAfterMs ?? 0, largestRetryAfterMs) * (1 + share / 2);
  return Math.max(base * (0.5 + share), asked);
}
