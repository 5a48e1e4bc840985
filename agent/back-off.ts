/** How waits grow between the tries of something that fails. */
export interface BackOffOptions {
  readonly firstMs: number;
  readonly largestMs: number;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Each wait is this much longer than the one before (`pkg/backoff/exponential.go` and its library's defaults). */
const growth = 1.5;
/** A wait is spread over its own length times 1 - spread to 1 + spread. */
const spread = 0.5;

/** Exponential waits with jitter, as the stock agent retries files, watches and the first certificate. */
export class BackOff {
  readonly #options: BackOffOptions;
  #currentMs: number;

  constructor(options: BackOffOptions) {
    this.#options = options;
    this.#currentMs = options.firstMs;
  }

  /** The wait before the next try, in ms. */
  nextMs(): number {
    const { largestMs, random } = this.#options;
    const waitMs = this.#currentMs * (1 - spread + 2 * spread * random());
    this.#currentMs = Math.min(largestMs, this.#currentMs * growth);
    return waitMs;
  }

  reset(): void {
    this.#currentMs = this.#options.firstMs;
  }
}

/** Where a wait has no reason of its own: 0.5 s, growing to a minute. */
export const defaultBackOff = { firstMs: 500, largestMs: 60_000 };
