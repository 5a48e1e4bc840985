import { Session } from 'node:inspector/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** Samples are kept until the end: this many make a profile of a few MB, whatever time it covers. */
const maxSampleCount = 30_000;

/** Finest distance of two samples, in microseconds: V8's own default. */
const minIntervalMicroseconds = 1_000;

/** How far apart samples are so that a profile of this length stays within its bound, in microseconds. */
export function samplingInterval(durationMs: number): number {
  return Math.max(minIntervalMicroseconds, Math.ceil((durationMs * 1_000) / maxSampleCount));
}

/**
 * Records what the CPU does in this thread and resolves with the profile as JSON (`.cpuprofile`, as Chrome DevTools
 * and speedscope read it). In-process: no debugger port is opened. Rejects with the reason of `signal` when it aborts;
 * the profiler is off in every case.
 */
export async function recordCpuProfile(
  durationMs: number,
  { signal }: { readonly signal: AbortSignal },
): Promise<string> {
  signal.throwIfAborted();
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.setSamplingInterval', { interval: samplingInterval(durationMs) });
    await session.post('Profiler.start');
    try {
      await delay(durationMs, undefined, { signal });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
    const { profile } = await session.post('Profiler.stop');
    return JSON.stringify(profile);
  } finally {
    // Ends a recording, too.
    session.disconnect();
  }
}
