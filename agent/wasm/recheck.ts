import type { FetchErrorCode } from '../fetch/types.ts';
import { retryDelayMs } from './retry-delay.ts';

/** Up to this share of the interval is added at random: pods that started together do not ask together. */
const spreadShare = 0.5;

/** Longest timer of node. */
const maxTimerMs = 2 ** 31 - 1;

/**
 * The wait before a tag is looked after again, in ms: never shorter than `afterMs`, for until then the source answers
 * from its cache. `random` is in [0, 1).
 */
export function recheckDelayMs(afterMs: number, random: () => number): number {
  return Math.min(maxTimerMs, afterMs * (1 + spreadShare * random()));
}

/** The wait before the first look at an interval that has changed, in ms: pods that read the file together are spread. */
export function changedPollDelayMs(intervalMs: number, random: () => number): number {
  return Math.min(maxTimerMs, intervalMs * spreadShare * random());
}

/** `recheckDelayMs` after a look that failed: `attemptCount` have failed in a row, the server may have asked for patience. */
export function failedRecheckDelayMs(
  afterMs: number,
  failure: {
    readonly code: FetchErrorCode;
    readonly attemptCount: number;
    readonly retryAfterMs: number | undefined;
  },
  random: () => number,
): number {
  const { code, attemptCount, retryAfterMs } = failure;
  return Math.max(recheckDelayMs(afterMs, random), retryDelayMs(code, attemptCount, retryAfterMs, random));
}

interface PlannedRecheck {
  readonly push: number;
  readonly timer: NodeJS.Timeout;
  readonly controller: AbortController;
}

/** When each plugin's tag is looked after again. One look a plugin: planned, or under way. */
export class RecheckPlan {
  readonly #look: (name: string, push: number, signal: AbortSignal) => void;
  readonly #planned = new Map<string, PlannedRecheck>();

  /** `look` is called when a plugin is due; its signal is aborted when a newer push or the end makes it needless. */
  constructor(look: (name: string, push: number, signal: AbortSignal) => void) {
    this.#look = look;
  }

  /** Plans a look after the module of this push, in place of any before. */
  set(name: string, push: number, delayMs: number): void {
    this.end(name);
    const controller = new AbortController();
    const timer = setTimeout(() => this.#look(name, push, controller.signal), delayMs);
    timer.unref();
    this.#planned.set(name, { push, timer, controller });
  }

  /** Ends what is planned or under way for a plugin, but for this push. */
  end(name: string, keptPush?: number): void {
    const planned = this.#planned.get(name);
    if (planned === undefined || planned.push === keptPush) return;
    this.#planned.delete(name);
    clearTimeout(planned.timer);
    planned.controller.abort(new Error('superseded by a newer config'));
  }

  /** Ends all; what is under way ends by its signal. */
  close(): void {
    for (const name of this.#planned.keys()) this.end(name);
  }
}
