import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { isLoopbackAddress } from './local-peer.ts';
import { type LoopbackResponse, loopbackGet } from './loopback-get.ts';
import { ScrapeError } from './scrape-error.ts';

/** One part of the merged page to fetch. */
export interface PartRequest {
  readonly port: number;
  /** Path and query. */
  readonly target: string;
  /** Lower-case names; `Accept` and what is forwarded. */
  readonly headers: ReadonlyMap<string, string>;
  /** Covers the body. Aborting it frees the connection of a body that is not read to its end. */
  readonly signal: AbortSignal;
}

/** A part that has answered 200. */
export interface ScrapedPart {
  readonly contentType: string | undefined;
  /** Decompressed. Each chunk is valid until the next one is asked for. Throws ScrapeError, or the signal's reason. */
  readonly body: AsyncIterable<Buffer>;
}

const maxRedirectCount = 10;

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * Fetches one part over loopback. Redirects are followed on this machine only: the agent's own connections bypass the
 * pod's traffic rules, so an application must not steer them elsewhere.
 * Throws ScrapeError, or the reason of the signal.
 */
export async function scrapePart(request: PartRequest): Promise<ScrapedPart> {
  // Loopback has bandwidth to spare: compressing there would only cost both sides time.
  const headers = new Map([...request.headers, ['accept-encoding', 'identity']]);
  let { port, target } = request;
  for (let redirectCount = 0; redirectCount <= maxRedirectCount; redirectCount += 1) {
    const response = await loopbackGet({ port, target, headers, signal: request.signal });
    if (response.status === 200) return toPart(response);
    response.close();
    const location = response.headers.get('location');
    if (!redirectStatuses.has(response.status) || location === undefined) {
      throw new ScrapeError('status', `the answer is ${response.status} instead of 200`);
    }
    ({ port, target } = resolveRedirect(location, port, target));
  }
  throw new ScrapeError('redirect', `more than ${maxRedirectCount} redirects`);
}

function resolveRedirect(location: string, port: number, target: string): { port: number; target: string } {
  const url = URL.parse(location, `http://localhost:${port}${target}`);
  if (url === null) throw new ScrapeError('redirect', 'a redirect to something that is no URL');
  const host = url.hostname.replaceAll(/^\[|\]$/g, '');
  if (url.protocol !== 'http:' || !(host === 'localhost' || isLoopbackAddress(host))) {
    throw new ScrapeError('redirect', `a redirect to ${url.origin}, which is not http on this machine`);
  }
  return { port: url.port === '' ? 80 : Number(url.port), target: `${url.pathname}${url.search}` };
}

function toPart(response: LoopbackResponse): ScrapedPart {
  const { headers } = response;
  const encoding = headers.get('content-encoding')?.toLowerCase() ?? 'identity';
  const contentType = headers.get('content-type');
  switch (encoding) {
    case 'identity':
    case '':
      return { contentType, body: response.body };
    case 'gzip':
    case 'x-gzip':
      return { contentType, body: gunzip(response.body) };
    default:
      response.close();
      throw new ScrapeError('encoding', `the answer has the Content-Encoding ${encoding}, only gzip is read`);
  }
}

async function* gunzip(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  const decoder = createGunzip();
  // The decoder's own iteration throws what breaks the pipeline.
  pipeline(ownChunks(body), decoder).catch(() => undefined);
  try {
    for await (const chunk of decoder) yield chunk as Buffer;
  } catch (error) {
    const isZlib = error instanceof Error && 'code' in error && String(error.code).startsWith('Z_');
    throw isZlib
      ? new ScrapeError('encoding', `the gzip body is broken: ${error.message}`, { cause: error })
      : error;
  }
}

/** The decoder queues what it is given, and the reader's buffer is used again at the next read. */
async function* ownChunks(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of body) yield Buffer.from(chunk);
}
