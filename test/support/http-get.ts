import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';

export interface HttpAnswer {
  readonly status: number;
  /** Lower-case names; values of one name are joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** The body as UTF-8. */
  readonly text: string;
}

export interface HttpGetOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** PEM of the authority to trust, for https. */
  readonly ca?: string;
  /** Over the whole exchange. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** A larger body is an error: answers in tests are small. */
const maxBodyBytes = 64 * 1024 * 1024;

/**
 * One request on a connection of its own, so that no answer comes over a connection from before a change.
 * Redirects are not followed. Throws Error naming the URL and the cause, also when the body is cut short.
 */
export async function httpGet(url: string | URL, options: HttpGetOptions = {}): Promise<HttpAnswer> {
  const timeout = AbortSignal.timeout(options.timeoutMs ?? 10_000);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  const method = options.method ?? 'GET';
  try {
    return await exchange(new URL(url), method, options, signal);
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new Error(`${method} ${String(url)} failed: ${cause}`, { cause: error });
  }
}

function exchange(
  url: URL,
  method: string,
  options: HttpGetOptions,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const start = url.protocol === 'https:' ? requestHttps : requestHttp;
  const settings = {
    method,
    signal,
    agent: false as const,
    headers: { connection: 'close', ...options.headers },
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  };
  const request = start(url, settings, (response) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    response.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > maxBodyBytes) request.destroy(new Error(`the body is over ${maxBodyBytes} bytes`));
      else chunks.push(chunk);
    });
    response.on('error', reject);
    response.on('end', () => {
      const body = Buffer.concat(chunks);
      const headers = Object.fromEntries(
        Object.entries(response.headersDistinct).map(([name, values]) => [name, (values ?? []).join(', ')]),
      );
      resolve({ status: response.statusCode ?? 0, headers, body, text: body.toString('utf8') });
    });
  });
  request.on('error', reject);
  request.end(options.body);
  return promise;
}
