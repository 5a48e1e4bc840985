import type { HttpResponse } from './http-client.ts';

/** By which a server knows whether a file has changed (RFC 9110 section 8.8). At least one is there. */
export interface HttpValidators {
  /** With its quotes, and `W/` when it is weak. */
  readonly etag?: string | undefined;
  /** HTTP date. */
  readonly lastModified?: string | undefined;
}

/** What is longer is not remembered; real ones have a few dozen characters. */
const maxValidatorLength = 256;
const entityTag = /^(?:W\/)?"[\x21\x23-\x7e]*"$/;
const httpDate = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;
/** A file whose date is this much older than the answer is not changed twice within that date (RFC 9110, 8.8.2.2). */
const strongDateAgeMs = 60_000;

/** The validators of an answer; undefined when it has none that can be sent back. */
export function readValidators(response: Pick<HttpResponse, 'header'>): HttpValidators | undefined {
  const etag = matching(response.header('etag'), entityTag);
  const lastModified = matching(response.header('last-modified'), httpDate);
  if (etag === undefined && lastModified === undefined) return undefined;
  return {
    ...(etag === undefined ? {} : { etag }),
    ...(lastModified === undefined ? {} : { lastModified }),
  };
}

/** Request headers that ask for a file only if it is another one than that. */
export function conditionHeaders(validators: HttpValidators | undefined): Readonly<Record<string, string>> {
  const { etag, lastModified } = validators ?? {};
  return {
    ...(etag === undefined ? {} : { 'if-none-match': etag }),
    ...(lastModified === undefined ? {} : { 'if-modified-since': lastModified }),
  };
}

/**
 * The value of `If-Range` that makes sure a rest belongs to the bytes that came (RFC 9110 section 13.1.5): a strong
 * tag, or a date that is old enough. Undefined: there is no such, and the file must be asked for from its start.
 */
export function rangeValidator(response: Pick<HttpResponse, 'header'>): string | undefined {
  const { etag, lastModified } = readValidators(response) ?? {};
  if (etag !== undefined) return etag.startsWith('W/') ? undefined : etag;
  const date = matching(response.header('date'), httpDate);
  if (lastModified === undefined || date === undefined) return undefined;
  return Date.parse(date) - Date.parse(lastModified) >= strongDateAgeMs ? lastModified : undefined;
}

/**
 * True when two answers are of the same bytes as far as they say. A server that heeds `Range` but not `If-Range` is
 * found out by this.
 */
export function isSameFile(
  first: Pick<HttpResponse, 'header'>,
  next: Pick<HttpResponse, 'header' | 'status'>,
): boolean {
  const differs = (name: string): boolean => {
    const value = next.header(name);
    return value !== undefined && value !== first.header(name);
  };
  if (differs('etag') || differs('last-modified')) return false;
  // The whole again, without saying that it is the same: it is not.
  if (next.status !== 206) return rangeValidator(next) === rangeValidator(first);
  const [, total] = /\/(\d+)$/.exec(next.header('content-range') ?? '') ?? [];
  const length = first.header('content-length');
  return total === undefined || length === undefined || total === length;
}

function matching(value: string | undefined, pattern: RegExp): string | undefined {
  return value !== undefined && value.length <= maxValidatorLength && pattern.test(value) ? value : undefined;
}
