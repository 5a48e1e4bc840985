import { timeoutSignal } from '../clock.ts';
import { describeError } from '../log.ts';
import type { LayoutPlace } from './fetch-settings.ts';
import { abortFailure } from './network-failure.ts';
import type { FetchClock, FetchLimits } from './retry.ts';
import { FetchError } from './types.ts';
import type { ModuleOrigin } from './wanted-module.ts';

/** One place where a wanted module may be. */
export type Rung =
  | {
      readonly kind: 'layout';
      readonly name: string;
      readonly layout: LayoutPlace;
      readonly timeoutMs: number;
    }
  | {
      readonly kind: 'mirror';
      readonly name: string;
      readonly origin: ModuleOrigin;
      readonly namespace: string | undefined;
      readonly timeoutMs: number;
    }
  /** A mirror whose settings cannot be used. */
  | { readonly kind: 'unusable'; readonly name: string; readonly error: FetchError }
  | {
      readonly kind: 'origin';
      readonly name: string;
      readonly origin: ModuleOrigin;
      /** Undefined: what is left of the whole. */
      readonly timeoutMs: number | undefined;
    };

/** A rung that did not have the module. */
export interface TriedRung {
  readonly name: string;
  readonly reason: string;
}

/**
 * Tries the rungs in order, each within its own time, until one has the module. What ends the climb before the last
 * rung is only that the caller leaves, the whole time is over, or the module cannot be kept. Throws FetchError: the
 * last rung's failure, with what the others said.
 */
export async function climb<Value>(
  rungs: readonly Rung[],
  attempt: (rung: Rung, limits: FetchLimits) => Promise<Value>,
  limits: FetchLimits,
  clock: FetchClock,
): Promise<{ readonly value: Value; readonly rung: Rung; readonly tried: readonly TriedRung[] }> {
  const tried: TriedRung[] = [];
  for (const [position, rung] of rungs.entries()) {
    const within = withinTime(rung, limits, clock);
    try {
      return { value: await attempt(rung, within), rung, tried };
    } catch (thrown) {
      const error = ownTimeout(thrown, rung, within, limits);
      if (!(error instanceof FetchError) || limits.signal.aborted) throw error;
      if (error.code === 'store' || error.code === 'aborted') throw error;
      if (position === rungs.length - 1) throw withTried(error, tried);
      tried.push({ name: rung.name, reason: describeError(error) });
    }
  }
  throw new RangeError('a module was wanted from nowhere');
}

function withinTime(rung: Rung, limits: FetchLimits, clock: FetchClock): FetchLimits {
  const timeoutMs = rung.kind === 'unusable' ? undefined : rung.timeoutMs;
  if (timeoutMs === undefined) return limits;
  const endsAtMs = clock.nowMs() + timeoutMs;
  return {
    signal: AbortSignal.any([limits.signal, timeoutSignal(timeoutMs)]),
    deadlineAtMs: () => Math.min(endsAtMs, limits.deadlineAtMs()),
  };
}

/** Who waits for a shared download is told by the signal's own reason. */
function ownTimeout(thrown: unknown, rung: Rung, within: FetchLimits, limits: FetchLimits): unknown {
  if (thrown instanceof FetchError || !within.signal.aborted || limits.signal.aborted) return thrown;
  const failure = abortFailure(within.signal, rung.name);
  return new FetchError(failure.code, failure.message, { cause: thrown, result: 'download_failure' });
}

function withTried(error: FetchError, tried: readonly TriedRung[]): FetchError {
  if (tried.length === 0) return error;
  const before = tried.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  return new FetchError(error.code, `${error.message} (tried before: ${before})`, {
    cause: error,
    ...(error.result === undefined ? {} : { result: error.result }),
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
  });
}
