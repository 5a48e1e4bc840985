import { systemClock } from '../clock.ts';
import { ProbeError } from './probe-error.ts';

/** How long one probe may take, all its parts together. */
export interface ProbeDeadline {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Runs one probe under its deadline. `run` gets a signal that is aborted with ProbeError `timeout` when the time is
 * over, and with the reason of the outer signal when that is aborted; it must end then.
 */
export async function withProbeDeadline<Value>(
  deadline: ProbeDeadline,
  run: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const { timeoutMs, signal } = deadline;
  signal.throwIfAborted();
  const inner = new AbortController();
  const onAbort = (): void => inner.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  using _timer = systemClock.schedule(timeoutMs, () => {
    inner.abort(new ProbeError('timeout', `no answer within ${timeoutMs} ms`));
  });
  try {
    return await run(inner.signal);
  } catch (error) {
    // Whatever an abort made of the parts, the reason is what happened.
    throw inner.signal.aborted ? inner.signal.reason : error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
