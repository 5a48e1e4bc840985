import * as z from 'zod/mini';
import { type PatternKey, readPattern } from './place-pattern.ts';
import { durationPattern, parseDuration, parseSize, sizePattern } from './policy-quantity.ts';

/**
 * Fields of the policy file's schema. Messages continue the quoted value: what is wrong with it, then what to write.
 */

const maxTextLength = 2048;

/** A text with a check that gives what is wrong, or undefined. */
export function text(description: string, problemOf: (value: string) => string | undefined) {
  return z.string().check(
    z.describe(description),
    z.check<string>((context) => {
      const message =
        context.value.length > maxTextLength
          ? `is longer than ${maxTextLength} characters; shorten it`
          : problemOf(context.value);
      if (message !== undefined) context.issues.push({ code: 'custom', message, input: context.value });
    }),
  );
}

/** A duration such as `30s`. */
export function duration(description: string, minMs: number, minText: string) {
  return z.string().check(
    z.describe(description),
    z.regex(durationPattern, {
      error: 'is no duration; write it with units, such as 30s, 5m or 1h30m',
      abort: true,
    }),
    z.check<string>((context) => {
      const durationMs = parseDuration(context.value);
      const message =
        durationMs === undefined
          ? 'is too long; 596h is the most'
          : durationMs < minMs
            ? `is too short; ${minText} is the least`
            : undefined;
      if (message !== undefined) context.issues.push({ code: 'custom', message, input: context.value });
    }),
  );
}

/** A number of bytes, or a text such as `64Mi`. */
export function size(description: string) {
  const error = 'is no size; write bytes, or a number with Ki, Mi or Gi, such as 64Mi';
  const bytes = z.int({ error }).check(z.minimum(1, { error }));
  const sizeText = z.string().check(
    z.regex(sizePattern, { error, abort: true }),
    z.refine((value) => parseSize(value) !== undefined, { error }),
  );
  return z.union([bytes, sizeText], { error }).check(z.describe(description));
}

/** A path of a file; relative ones start at the policy file's folder. */
export function path(description: string) {
  return text(description, (value) => {
    if (value === '') return 'is empty; write a path';
    // A pasted PEM text is the likeliest reason; it may be a key.
    return /[\r\n\0]/.test(value) ? 'is no path: it has line breaks; write the path of a file' : undefined;
  });
}

/** Which modules something is for. */
export function place(key: PatternKey, description: string) {
  return text(description, (value) => {
    const reading = readPattern(key, value);
    return reading.kind === 'rejected' ? reading.problem : undefined;
  });
}

/** A text that is not empty. */
export function filled(description: string) {
  return text(description, (value) =>
    value === '' ? 'is empty; write a text or remove the key' : undefined,
  );
}
