import { systemClock, wait } from '../clock.ts';
import { abortFailure } from './network-failure.ts';
import { FetchError, type FetchErrorCode } from './types.ts';

/** What one try came to. */
export type Attempt<Value> =
  | { readonly kind: 'done'; readonly value: Value }
  | { readonly kind: 'failed'; readonly error: FetchError; readonly isRetryable: boolean };

/** What all tries together came to. */
export type RetryOutcome<Value> =
  | { readonly kind: 'done'; readonly value: Value; readonly attemptCount: number }
  | {
      readonly kind: 'failed';
      readonly error: FetchError;
      readonly attemptCount: number;
      readonly stoppedBy: 'not-retryable' | 'attempts' | 'deadline';
    };

/** How often and how slowly work is tried again. */
export interface BackOff {
  /** At least 1. */
  readonly maxAttemptCount: number;
  /** Wait after the given number of failed attempts; `random` is in [0, 1). */
  readonly waitMs: (failedCount: number, random: number) => number;
}

/** Time and chance of one fetch. */
export interface FetchClock {
  /** Milliseconds of a clock that never jumps. */
  readonly nowMs: () => number;
  /** In [0, 1). */
  readonly random: () => number;
}

/** What limits the work on one module; shared by all its steps. */
export interface FetchLimits {
  readonly signal: AbortSignal;
  /** On the clock's scale. May move later when somebody with more time joins. */
  readonly deadlineAtMs: () => number;
}

/**
 * Tries until it succeeds, may not be tried again, or has no attempt or time left. A wait that would pass the
 * deadline is not begun: the last failure says more than a timeout. Throws FetchError `aborted` or `timeout` when
 * the signal ends a wait.
 */
export async function retry<Value>(
  backOff: BackOff,
  attempt: (attemptCount: number) => Promise<Attempt<Value>>,
  limits: FetchLimits,
  clock: FetchClock,
): Promise<RetryOutcome<Value>> {
  for (let attemptCount = 1; ; attemptCount += 1) {
    const outcome = await attempt(attemptCount);
    if (outcome.kind === 'done') return { ...outcome, attemptCount };
    const { error } = outcome;
    const stop = (stoppedBy: 'not-retryable' | 'attempts' | 'deadline') =>
      ({ kind: 'failed', error, attemptCount, stoppedBy }) as const;
    if (!outcome.isRetryable || limits.signal.aborted) return stop('not-retryable');
    if (attemptCount >= backOff.maxAttemptCount) return stop('attempts');
    const waitMs = error.retryAfterMs ?? backOff.waitMs(attemptCount, clock.random());
    if (!(await pause(waitMs, error, limits, clock))) return stop('deadline');
  }
}

/**
 * Waits before another try. False, at once, when the wait would pass the deadline. `after` is the failure that made
 * it necessary. Throws FetchError `aborted` or `timeout` when the signal ends it.
 */
export async function pause(
  waitMs: number,
  after: FetchError,
  limits: FetchLimits,
  clock: FetchClock,
): Promise<boolean> {
  if (clock.nowMs() + waitMs >= limits.deadlineAtMs()) return false;
  try {
    await wait(systemClock, waitMs, { signal: limits.signal });
    return true;
  } catch {
    throw abortFailure(limits.signal, `waiting to try again after: ${after.message}`);
  }
}

/** A `Retry-After` value in ms: seconds or an HTTP date (RFC 9110 section 10.2.3); undefined when it is neither. */
export function parseRetryAfter(value: string | undefined, epochMs: number): number | undefined {
  const text = value?.trim() ?? '';
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // Only dates with a weekday: Date.parse takes much that is no HTTP date.
  const dateMs = /^[A-Z][a-z]{2,8},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - epochMs);
}

/** An answer with a status that was not wanted. */
export class StatusFailure extends FetchError {
  readonly status: number;

  /** `retryAfterMs` is what the server asked for, if anything. */
  constructor(status: number, message: string, retryAfterMs: number | undefined) {
    super(statusCode(status), message, retryAfterMs === undefined ? {} : { retryAfterMs });
    this.status = status;
  }
}

function statusCode(status: number): FetchErrorCode {
  if (status === 401 || status === 403) return 'unauthorized';
  return status === 404 || status === 410 ? 'not_found' : 'http_status';
}
