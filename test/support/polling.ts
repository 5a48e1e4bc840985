import { setTimeout as sleep } from 'node:timers/promises';

export interface PollOptions {
  /** What is waited for; opens the error message: `The listener did not open within 5000 ms: ...`. */
  readonly what: string;
  readonly deadlineMs: number;
  /** Pause between two looks. */
  readonly intervalMs?: number;
  readonly signal?: AbortSignal;
}

/** One look: done with a value, or not yet and what was seen instead. */
export type PollAnswer<Value> =
  | { readonly done: true; readonly value: Value }
  | { readonly done: false; readonly seen: string };

/**
 * Looks again and again at something that tells nobody when it changes (another process's port), until the answer
 * is done. A look that throws counts as not yet. Throws Error with what was seen last when the deadline passes, and
 * the signal's reason when that is aborted. `look` must end when its signal is aborted.
 */
export async function poll<Value>(
  look: (signal: AbortSignal) => Promise<PollAnswer<Value>>,
  options: PollOptions,
): Promise<Value> {
  const deadline = AbortSignal.timeout(options.deadlineMs);
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
  let seen = 'nothing was seen';
  while (!signal.aborted) {
    try {
      const answer = await look(signal);
      if (answer.done) return answer.value;
      seen = answer.seen;
    } catch (error) {
      if (!signal.aborted) seen = error instanceof Error ? error.message : String(error);
    }
    await sleep(options.intervalMs ?? 50, undefined, { signal }).catch(() => undefined);
  }
  options.signal?.throwIfAborted();
  throw new Error(`${options.what} did not happen within ${options.deadlineMs} ms. Last seen: ${seen}`);
}
