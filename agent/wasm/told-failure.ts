import type { FetchErrorCode } from '../fetch/types.ts';

/** A failure to have a module that stands in the log. */
export interface ToldFailure {
  readonly push: number;
  readonly code: FetchErrorCode;
  /** Epoch ms. */
  readonly atMs: number;
}

/** A failure that goes on is told this often. A hundred plugins that fail together then make ten lines a minute. */
const reminderMs = 10 * 60_000;

/**
 * True for one more failure of the kind that was told last, of the same push, and not long ago: the plugin page, the
 * metrics and the reminder say that it goes on. Pure.
 */
export function isTold(
  told: ToldFailure | undefined,
  failure: { readonly push: number; readonly code: FetchErrorCode; readonly nowMs: number },
): boolean {
  if (told === undefined || told.push !== failure.push || told.code !== failure.code) return false;
  const ageMs = failure.nowMs - told.atMs;
  // Below zero: the clock was put back.
  return ageMs >= 0 && ageMs < reminderMs;
}
