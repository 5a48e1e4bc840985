import { ScrapeError } from './scrape-error.ts';

/** Status line and header fields of an HTTP/1 response. */
export interface ResponseHead {
  readonly status: number;
  /** Lower-case names; repeated fields joined by `, `. */
  readonly headers: ReadonlyMap<string, string>;
}

/** How the end of a body is known (RFC 9112 6.3). */
export type BodyFraming =
  | { readonly kind: 'chunked' }
  | { readonly kind: 'length'; readonly sizeBytes: number }
  | { readonly kind: 'until_close' };

/** A head of an application's metrics endpoint is a few hundred bytes. */
export const maxHeadBytes = 32 * 1024;

/** Where the empty line that ends a head ends; undefined while it has not come. */
export function findHeadEnd(bytes: Buffer): number | undefined {
  for (let lineEnd = bytes.indexOf(10); lineEnd !== -1; lineEnd = bytes.indexOf(10, lineEnd + 1)) {
    if (bytes[lineEnd + 1] === 10) return lineEnd + 2;
    if (bytes[lineEnd + 1] === 13 && bytes[lineEnd + 2] === 10) return lineEnd + 3;
  }
  return undefined;
}

/** Parses a head, the empty line included. Throws ScrapeError `protocol`. */
export function parseHead(bytes: Buffer): ResponseHead {
  const [statusLine = '', ...lines] = bytes.toString('latin1').split(/\r?\n/);
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(statusLine)?.[1];
  if (status === undefined) {
    throw new ScrapeError(
      'protocol',
      `the answer does not begin as HTTP/1 but with ${JSON.stringify(statusLine.slice(0, 40))}`,
    );
  }
  const headers = new Map<string, string>();
  for (const line of lines) {
    if (line === '') continue;
    const field = /^([!#$%&'*+\-.^`|~\w]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    if (field === null) {
      throw new ScrapeError(
        'protocol',
        `the answer has a bad header line ${JSON.stringify(line.slice(0, 40))}`,
      );
    }
    const [, name = '', value = ''] = field;
    const known = headers.get(name.toLowerCase());
    headers.set(name.toLowerCase(), known === undefined ? value : `${known}, ${value}`);
  }
  return { status: Number(status), headers };
}

/** The framing of a body that is there. Throws ScrapeError `protocol`. */
export function framingOf(headers: ReadonlyMap<string, string>): BodyFraming {
  const coding = headers.get('transfer-encoding')?.toLowerCase();
  if (coding === 'chunked') return { kind: 'chunked' };
  if (coding !== undefined && coding !== 'identity') {
    throw new ScrapeError('protocol', `the answer has the unknown Transfer-Encoding ${coding}`);
  }
  const length = headers.get('content-length');
  if (length === undefined) return { kind: 'until_close' };
  const lengths = new Set(length.split(',').map((item) => item.trim()));
  const [only = ''] = lengths;
  if (lengths.size !== 1 || !/^\d{1,15}$/.test(only)) {
    throw new ScrapeError('protocol', `the answer has the bad Content-Length ${JSON.stringify(length)}`);
  }
  return { kind: 'length', sizeBytes: Number(only) };
}
