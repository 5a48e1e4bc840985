import { setTimeout as sleep } from 'node:timers/promises';

/** Delay bound after the first failure; doubles with each further one. */
const firstDelayMs = 250;
/** Envoy waits up to 30 s between its own attempts; ours only keeps a fast client from hammering istiod. */
const maxDelayMs = 4_000;

/**
 * The delay that is due after `failureCount` failed dials in a row, in ms: exponential, of which a random half to
 * whole is waited so that the pods of a cluster do not dial in step. `random` is in [0, 1).
 */
export function redialDelayMs(failureCount: number, random: number): number {
  if (failureCount === 0) return 0;
  // The exponent is bounded so that a day of failures does not overflow.
  const bound = Math.min(maxDelayMs, firstDelayMs * 2 ** Math.min(failureCount - 1, 16));
  return bound * (0.5 + random / 2);
}

/**
 * Spaces the dials of one address: every new stream dials anew, so nothing else does. The delay runs from the last
 * failure, so a client that has waited by itself waits no more.
 */
export class RedialBackoff {
  readonly #now: () => number;
  readonly #random: () => number;
  #failureCount = 0;
  #notBeforeMs = 0;

  /** `now` is a monotonic clock in ms. */
  constructor(options: { readonly now?: () => number; readonly random?: () => number } = {}) {
    this.#now = options.now ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
  }

  /** Failed dials since the last success. */
  get failureCount(): number {
    return this.#failureCount;
  }

  /** How long a dial has to wait now, in ms. */
  get pendingDelayMs(): number {
    return this.#failureCount === 0 ? 0 : Math.max(0, this.#notBeforeMs - this.#now());
  }

  /** Resolves when a dial is allowed. Rejects with the signal's reason when it is aborted. */
  async wait(options: { readonly signal: AbortSignal }): Promise<void> {
    const delayMs = this.pendingDelayMs;
    if (delayMs > 0) await sleep(delayMs, undefined, { signal: options.signal });
    else options.signal.throwIfAborted();
  }

  recordFailure(): void {
    this.#failureCount += 1;
    this.#notBeforeMs = this.#now() + redialDelayMs(this.#failureCount, this.#random());
  }

  recordSuccess(): void {
    this.#failureCount = 0;
  }
}
