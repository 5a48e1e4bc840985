/** Time as the certificate side sees it; a test gives one that it moves by hand. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Calls back once after `delayMs`, however long that is, unless disposed before. */
  schedule(delayMs: number, callback: () => void): Disposable;
}

/** Longest delay of a timer of Node, 24.8 days: a longer one would fire at once. */
export const longestDelayMs = 2 ** 31 - 1;

/** The time of this machine. */
export const systemClock: Clock = {
  now: Date.now,
  schedule(delayMs, callback) {
    let leftMs = delayMs;
    let timer: NodeJS.Timeout;
    const arm = (): void => {
      const nowMs = Math.min(leftMs, longestDelayMs);
      leftMs -= nowMs;
      timer = setTimeout(leftMs > 0 ? arm : callback, nowMs);
    };
    arm();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/**
 * A signal that aborts with a `TimeoutError` after any number of ms; it does not keep the process alive. In the place of
 * `AbortSignal.timeout`, which throws for a fraction (`1.0005s` has one), fires at once for more than a timer of Node
 * holds, and is no part for `AbortSignal.any`: Node 24 can collect it there, and then it never fires and what was made
 * of it is never freed.
 */
export function timeoutSignal(timeoutMs: number): AbortSignal {
  const controller = new AbortController();
  const delayMs = Math.min(Math.max(0, Math.ceil(timeoutMs)), longestDelayMs);
  setTimeout(() => {
    controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
  }, delayMs).unref();
  return controller.signal;
}

/** Resolves after `delayMs`, however long that is. Rejects with the signal's reason when that is aborted first. */
export async function wait(
  clock: Clock,
  delayMs: number,
  options: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { signal } = options;
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = (): void => reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  using _timer = clock.schedule(delayMs, resolve);
  try {
    await promise;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/**
 * Settles as `work` does, or rejects with the signal's reason when that is aborted first; the work goes on then, for
 * whoever else waits for it.
 */
export async function unlessAborted<Value>(
  work: Promise<Value>,
  options: { readonly signal: AbortSignal },
): Promise<Value> {
  const { signal } = options;
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
