import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CodedError } from '../coded-error.ts';
import { describeError, type Logger } from '../log.ts';
import { Answer, ClientGoneError } from './answer.ts';
import { isLoopbackAddress } from './local-peer.ts';
import { findRoute, parseTarget, type Route } from './route.ts';

/** What StatusServer is built from. */
export interface StatusServerOptions {
  /** On all addresses of both families; 0 takes a free port. */
  readonly port: number;
  readonly routes: readonly Route[];
  readonly log: Logger;
  /** How long open answers may go on after the listener was closed, unless `close` is called later than that. */
  readonly closeGraceMs?: number;
}

/** `bind`: the port could not be had. `state`: listen was called twice or after close. */
export type StatusServerErrorCode = 'bind' | 'state';

/** The status server cannot run. Without it the pod never gets ready, so the agent must end with this text. */
export class StatusServerError extends CodedError<StatusServerErrorCode> {
  override readonly name = 'StatusServerError';
}

/**
 * The port is open to the whole network. Idle connections live longer than the usual probe and scrape intervals, and
 * the time is no multiple of one: else a peer would often use a connection at the moment it is closed.
 */
const limits = {
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 20_000,
  idleTimeoutMs: 95_000,
  /** No byte moved in either direction while an answer is open. */
  stallTimeoutMs: 130_000,
  checkIntervalMs: 5_000,
  maxHeaderBytes: 16 * 1024,
  maxConnections: 256,
} as const;

const defaultCloseGraceMs = 5_000;

type ServerState = 'new' | 'listening' | 'closing';

/** The agent's HTTP server on `statusPort` (15020): common rules for all routes, in the order of the stock agent. */
export class StatusServer {
  readonly #options: StatusServerOptions;
  readonly #server: Server;
  #state: ServerState = 'new';
  /** When the listener was closed, and the end of the last connection. */
  #stopped: { readonly atMs: number; readonly over: Promise<void> } | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: StatusServerOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        headersTimeout: limits.headersTimeoutMs,
        requestTimeout: limits.requestTimeoutMs,
        keepAliveTimeout: limits.idleTimeoutMs,
        connectionsCheckingInterval: limits.checkIntervalMs,
        maxHeaderSize: limits.maxHeaderBytes,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = limits.maxConnections;
    this.#server.setTimeout(limits.stallTimeoutMs);
  }

  /** Resolves when the port is open. Throws StatusServerError. */
  async listen(): Promise<void> {
    if (this.#state !== 'new') throw new StatusServerError('state', 'the status server was already started');
    const { port, log } = this.#options;
    this.#state = 'listening';
    const started = Promise.withResolvers<void>();
    this.#server.once('error', started.reject);
    this.#server.listen(port, started.resolve);
    try {
      await started.promise;
    } catch (error) {
      this.#state = 'closing';
      throw new StatusServerError(
        'bind',
        `the status server cannot listen on port ${port}: ${describeError(error)}. Another process of the pod may hold the port, or the agent may not bind it; free it, or set statusPort in the proxy's configuration`,
        { cause: error },
      );
    }
    this.#server.off('error', started.reject);
    // A connection that cannot be accepted (EMFILE) does not end the server.
    this.#server.on('error', (error) =>
      log.error('status server cannot accept a connection', { error: describeError(error) }),
    );
    log.info(`Opening status port ${this.port}`);
  }

  /** The port that is open; only while listening. */
  get port(): number {
    const address = this.#server.address() as AddressInfo | null;
    if (address === null) throw new StatusServerError('state', 'the status server is not listening');
    return address.port;
  }

  /** Closes the listener and idle connections at once. Open answers go on: a hook of the pod may run for long. */
  stopListening(): void {
    const wasListening = this.#state === 'listening' && this.#server.listening;
    this.#state = 'closing';
    if (!wasListening) return;
    const over = Promise.withResolvers<void>();
    this.#stopped = { atMs: performance.now(), over: over.promise };
    // Idle connections are closed with the listener (Node.js `http.Server.close`).
    this.#server.close(() => over.resolve());
  }

  /** Stops listening; resolves when open answers are finished or broken because their grace is over. */
  async close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.stopListening();
    if (this.#stopped === undefined) return;
    const { closeGraceMs = defaultCloseGraceMs, log } = this.#options;
    const { atMs, over } = this.#stopped;
    const leftMs = Math.max(0, atMs + closeGraceMs - performance.now());
    const grace = setTimeout(() => {
      log.warn('status server breaks answers that were still open', { graceMs: closeGraceMs });
      this.#server.closeAllConnections();
    }, leftMs);
    await over;
    clearTimeout(grace);
    log.info('Status server has successfully terminated');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = new Answer(request, response);
    // No route reads a body. One that is there is thrown away, and its connection is not used again.
    request.resume();
    if (this.#state === 'closing' || hasBody(request)) response.setHeader('Connection', 'close');
    response.once('close', () => {
      if (this.#state === 'closing') this.#server.closeIdleConnections();
    });
    try {
      await this.#route(request, answer);
    } catch (error) {
      await this.#recover(request, answer, error);
    }
  }

  async #route(request: IncomingMessage, answer: Answer): Promise<void> {
    const target = parseTarget(request.url ?? '');
    switch (target.kind) {
      case 'bad':
        return answer.endWithText(400, '400 Bad Request\n');
      case 'redirect':
        answer.setStatus(307);
        answer.setHeader('Location', target.location);
        return answer.end();
      case 'path': {
        const { path, rawQuery } = target;
        const route = findRoute(this.#options.routes, path);
        if (route === undefined) return answer.endWithText(404, '404 page not found\n');
        if (route.localOnly && !isLoopbackAddress(request.socket.remoteAddress)) {
          return answer.endWithText(403, 'Only requests from localhost are allowed\n');
        }
        if (route.method !== undefined && request.method !== route.method) {
          return answer.endWithText(405, 'Method Not Allowed\n');
        }
        return route.handle({ request, path, rawQuery, answer });
      }
      default:
        return target satisfies never;
    }
  }

  async #recover(request: IncomingMessage, answer: Answer, error: unknown): Promise<void> {
    const { log } = this.#options;
    if (error instanceof ClientGoneError) return;
    log.error('status request failed', { path: request.url?.split('?', 1)[0], error: describeError(error) });
    if (answer.isStarted) return answer.destroy();
    try {
      await answer.endWithText(500, 'Internal Server Error\n');
    } catch (failure) {
      if (!(failure instanceof ClientGoneError)) answer.destroy();
    }
  }
}

function hasBody(request: IncomingMessage): boolean {
  const length = request.headers['content-length'];
  return request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}
