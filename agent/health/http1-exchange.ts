import { Agent, type ClientRequestArgs, type IncomingMessage, request as startRequest } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type HttpExchangeOutcome, type HttpExchangeRequest, readBodyStart } from './http-exchange.ts';

/** Go, which the stock agent's client is written in, takes much longer heads; this is four times Node's default. */
const maxHeadBytes = 64 * 1024;
/** An idle connection is closed after this time (Go `net/http`, DefaultTransport). */
const idleTimeoutMs = 90_000;

/** Keeps connections between probes. It opens none: it is given those that were dialled. */
export class KeptConnections extends Agent {
  #offered: Socket | undefined;

  constructor() {
    super({ keepAlive: true, maxFreeSockets: 1, timeout: idleTimeoutMs });
  }

  /** True when a connection waits for a request. */
  get hasIdle(): boolean {
    return Object.values(this.freeSockets).some((sockets) => (sockets?.length ?? 0) > 0);
  }

  /** The next request that finds no idle connection takes this one. */
  offer(socket: Socket): void {
    this.#offered = socket;
  }

  /** Closes a connection that no request took. */
  dropOffer(): void {
    this.#offered?.destroy();
    this.#offered = undefined;
  }

  override createConnection(
    _options: ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | undefined {
    const socket = this.#offered;
    this.#offered = undefined;
    if (socket !== undefined) return socket;
    // The idle connection was closed in the meantime.
    callback?.(new LostConnectionError(), undefined as never);
    return undefined;
  }
}

class LostConnectionError extends Error {
  override readonly name = 'LostConnectionError';
}

/** Over which connection an exchange goes. */
export type Http1Way =
  /** Closed after the answer. */
  | { readonly kind: 'once'; readonly socket: Socket }
  /** An idle one of the pool, or the one that was offered to it. */
  | { readonly kind: 'kept'; readonly pool: KeptConnections };

/**
 * One GET over HTTP/1.1. Throws what broke the connection, or the signal's reason; `stale` only for a connection that
 * had been used before.
 */
export async function getHttp1(
  way: Http1Way,
  { url, hostHeader, headers, maxBodyBytes }: HttpExchangeRequest,
  options: { readonly signal: AbortSignal },
): Promise<HttpExchangeOutcome> {
  const { signal } = options;
  signal.throwIfAborted();
  const outgoing = startRequest({
    host: url.host,
    port: url.port,
    path: url.target,
    method: 'GET',
    headers: ['Host', hostHeader, ...headers.flat()],
    maxHeaderSize: maxHeadBytes,
    ...(way.kind === 'kept' ? { agent: way.pool } : { createConnection: () => way.socket }),
  });
  const onAbort = (): void => void outgoing.destroy(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve);
      outgoing.on('error', reject);
      outgoing.once('close', () => reject(new Error('the connection ended before the answer')));
      outgoing.end();
    });
    const body = await readBodyStart(response, maxBodyBytes);
    signal.throwIfAborted();
    if (!response.complete) response.destroy();
    return { status: response.statusCode ?? 0, location: response.headers.location, body };
  } catch (error) {
    signal.throwIfAborted();
    if (outgoing.reusedSocket || error instanceof LostConnectionError) return 'stale';
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (way.kind === 'once') outgoing.destroy();
    else way.pool.dropOffer();
  }
}
