import { parseGoDuration } from '../config/go-values.ts';

/** A duration of the policy file, such as `30s` or `1h30m`. */
export const durationPattern = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/;

/** Longest duration: a timer of Node holds no more. */
const maxDurationMs = 2 ** 31 - 1;

/** ms; undefined when the text is none, or is longer than 596 hours. */
export function parseDuration(text: string): number | undefined {
  const durationMs = durationPattern.test(text) ? parseGoDuration(text) : undefined;
  return durationMs === undefined || durationMs > maxDurationMs ? undefined : durationMs;
}

/** A size of the policy file, such as `64Mi`. */
export const sizePattern = /^\d+(?:Ki|Mi|Gi)?$/;

const unitBytes: Readonly<Record<string, number>> = { '': 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };

/** Bytes; undefined when the text is no size, is 0, or is not exact in a double. */
export function parseSize(text: string): number | undefined {
  const [, digits = '', unit = ''] = /^(\d+)(Ki|Mi|Gi)?$/.exec(text) ?? [];
  const sizeBytes = digits === '' ? Number.NaN : Number(digits) * (unitBytes[unit] ?? Number.NaN);
  return Number.isSafeInteger(sizeBytes) && sizeBytes > 0 ? sizeBytes : undefined;
}
