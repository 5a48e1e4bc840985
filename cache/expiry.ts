import type { CacheLog } from './cache-log.ts';
import type { BlobStore, Sha256 } from './types.ts';

/** The part of Node's timers that the purge loop needs. */
export interface ExpiryTimers {
  setTimeout(run: () => void, delayMs: number): { unref(): unknown };
  clearTimeout(timer: { unref(): unknown }): void;
}

export interface ExpiryOptions {
  readonly store: Pick<BlobStore, 'expire'>;
  /** Unreferenced modules that nobody asked for during this time are deleted. */
  readonly expiryMs: number;
  /** From the end of one purge to the start of the next; the first purge comes after one interval. */
  readonly intervalMs: number;
  /**
   * Called after every purge, also with an empty list: the stock agent sets its entry gauge at each tick
   * (istio/istio `pkg/wasm/cache.go`).
   */
  readonly onExpired: (digests: readonly Sha256[]) => void;
  readonly now?: () => number;
  readonly timers?: ExpiryTimers;
  readonly log?: CacheLog | undefined;
}

/** The longest delay of a Node timer; a longer one would fire at once. */
const longestDelayMs = 2 ** 31 - 1;

/**
 * Starts the loop that purges modules nobody uses. Purges never overlap, their failures are logged and the loop goes
 * on. Its timer does not keep the process alive. `close` resolves when a running purge has ended.
 * Throws RangeError when a duration is not a positive number.
 */
export function startExpiry(options: ExpiryOptions): { close(): Promise<void> } {
  const { store, expiryMs, intervalMs, onExpired, log } = options;
  for (const [name, value] of Object.entries({ expiryMs, intervalMs })) {
    if (!(value > 0)) throw new RangeError(`${name} must be a positive number of milliseconds, got ${value}`);
  }
  const now = options.now ?? Date.now;
  const timers: ExpiryTimers = options.timers ?? nodeTimers;
  let isClosed = false;
  let timer: { unref(): unknown } | undefined;
  let running = Promise.resolve();

  const purge = async (): Promise<void> => {
    try {
      onExpired(await store.expire(now() - expiryMs));
    } catch (error) {
      log?.warn('purge of unused modules failed, it is tried again after the interval', {
        error: error instanceof Error ? error.message : String(error),
        intervalMs,
      });
    }
    if (!isClosed) schedule();
  };
  const schedule = (): void => {
    timer = timers.setTimeout(
      () => {
        timer = undefined;
        running = purge();
      },
      Math.min(intervalMs, longestDelayMs),
    );
    timer.unref();
  };

  schedule();
  return {
    async close() {
      isClosed = true;
      if (timer !== undefined) timers.clearTimeout(timer);
      timer = undefined;
      await running;
    },
  };
}

const nodeTimers: ExpiryTimers = {
  setTimeout: (run, delayMs) => setTimeout(run, delayMs),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
};
