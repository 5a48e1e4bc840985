import type { ClientHttp2Session } from 'node:http2';
import { isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { formatHostPort } from '../config/host-port.ts';
import { describeError } from '../log.ts';
import { Keepalive } from '../xds/keepalive.ts';
import type {
  HeaderList,
  HttpExchangeAnswer,
  HttpExchangeOutcome,
  HttpExchangeRequest,
} from './http-exchange.ts';
import {
  describeProbeUrl,
  formatOrigin,
  nextStep,
  type ProbeUrl,
  type RedirectPolicy,
} from './http-redirect.ts';
import { getHttp1, KeptConnections } from './http1-exchange.ts';
import { closeSession, getHttp2, openSession } from './http2-exchange.ts';
import type { ProbeDialer } from './probe-dialer.ts';
import { ProbeError } from './probe-error.ts';

/** An HTTP probe: a GET whose redirects are followed. */
export interface HttpProbeRequest {
  readonly url: ProbeUrl;
  readonly hostHeader: string;
  /** Without `Host`, and without fields that belong to one connection. */
  readonly headers: HeaderList;
  readonly redirects: RedirectPolicy;
  /** As much of the answer's body as is wanted. */
  readonly maxBodyBytes: number;
}

/** The last answer. */
export interface HttpProbeAnswer {
  readonly status: number;
  readonly body: Buffer;
}

export interface HttpProbeOptions {
  readonly dialer: ProbeDialer;
  /** HTTPS servers may choose HTTP/2. */
  readonly isHttp2Offered: boolean;
  /** Connections stay open for the next probe; else each probe has its own. */
  readonly isConnectionKept: boolean;
}

/** Fields that tell one origin something about its user; they do not go to another host (Go `net/http`). */
const privateHeaders: ReadonlySet<string> = new Set(['authorization', 'cookie', 'www-authenticate']);

/** A kept HTTP/2 connection is asked whether it lives (Kubernetes `pkg/probe/http`, transport defaults of apimachinery). */
const keepaliveIntervalMs = 30_000;
const keepaliveTimeoutMs = 15_000;

interface KeptSession {
  readonly session: ClientHttp2Session;
  readonly socket: Socket;
  readonly keepalive: Keepalive;
}

/** The HTTP client of one probe. Certificates are not verified, as the kubelet does not. */
export class HttpProbe {
  readonly #options: HttpProbeOptions;
  readonly #pool = new KeptConnections();
  /** The pool itself finds a connection by host and port alone. */
  #poolOrigin = '';
  /** By origin. Redirects keep to few, and probes of one path to one. */
  readonly #sessions = new Map<string, KeptSession>();
  #isClosed = false;

  constructor(options: HttpProbeOptions) {
    this.#options = options;
  }

  /** Throws ProbeError `connect`, `tls`, `protocol` or `redirect`, or the signal's reason. */
  async get(request: HttpProbeRequest, options: { readonly signal: AbortSignal }): Promise<HttpProbeAnswer> {
    const { signal } = options;
    let { url, hostHeader, headers } = request;
    for (let requestCount = 1; ; requestCount += 1) {
      const answer = await this.#exchange({ ...request, url, hostHeader, headers }, signal);
      const { status, body } = answer;
      const asked = { first: request.url, current: url, requestCount };
      const step = nextStep(answer, asked, request.redirects);
      switch (step.kind) {
        case 'answer':
          return { status, body };
        case 'refused':
          throw new ProbeError('redirect', `GET ${describeProbeUrl(url)}: ${step.reason}`);
        case 'follow':
          if (step.url.host !== url.host) {
            headers = headers.filter(([name]) => !privateHeaders.has(name.toLowerCase()));
          }
          url = step.url;
          if (!step.isHostKept) hostHeader = formatHostPort(url);
          break;
        default:
          step satisfies never;
      }
    }
  }

  /** Closes what is kept. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#pool.destroy();
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const { keepalive } of sessions) keepalive.stop();
    await Promise.all(sessions.map(({ session, socket }) => closeSession(session, socket)));
  }

  async #exchange(request: HttpExchangeRequest, signal: AbortSignal): Promise<HttpExchangeAnswer> {
    try {
      const reused = await this.#useKept(request, signal);
      if (reused !== 'stale') return reused;
      const fresh = await this.#useNew(request, signal);
      if (fresh === 'stale') throw new Error('the connection ended before the answer');
      return fresh;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ProbeError) throw error;
      const what = `GET ${describeProbeUrl(request.url)}`;
      throw new ProbeError('protocol', `${what}: ${describeError(error)}`, { cause: error });
    }
  }

  /** `stale` when there is nothing to use again. */
  async #useKept(request: HttpExchangeRequest, signal: AbortSignal): Promise<HttpExchangeOutcome> {
    const origin = formatOrigin(request.url);
    const kept = this.#sessions.get(origin);
    if (kept !== undefined) {
      const outcome = await getHttp2(kept.session, request, { isKept: true, signal });
      if (outcome === 'stale') await this.#dropSession(origin, kept);
      return outcome;
    }
    if (!this.#pool.hasIdle || this.#poolOrigin !== origin) return 'stale';
    return getHttp1({ kind: 'kept', pool: this.#pool }, request, { signal });
  }

  async #useNew(request: HttpExchangeRequest, signal: AbortSignal): Promise<HttpExchangeOutcome> {
    const { url } = request;
    const { dialer, isHttp2Offered, isConnectionKept } = this.#options;
    const plain = await dialer.dial(url, { signal });
    const protocols = isHttp2Offered ? ['h2', 'http/1.1'] : ['http/1.1'];
    const { socket, isHttp2 } = url.isTls
      ? await secure(plain, url, protocols, signal)
      : { socket: plain, isHttp2: false };
    const isKept = isConnectionKept && !this.#isClosed;
    if (isHttp2) {
      const session = openSession(socket);
      if (isKept && this.#keepSession(session, socket, formatOrigin(url))) {
        return getHttp2(session, request, { isKept: false, signal });
      }
      try {
        return await getHttp2(session, request, { isKept: false, signal });
      } finally {
        await closeSession(session, socket);
      }
    }
    if (!isKept) return getHttp1({ kind: 'once', socket }, request, { signal });
    this.#poolOrigin = formatOrigin(url);
    this.#pool.offer(socket);
    return getHttp1({ kind: 'kept', pool: this.#pool }, request, { signal });
  }

  /** False when a probe at the same time has one already. */
  #keepSession(session: ClientHttp2Session, socket: Socket, origin: string): boolean {
    if (this.#sessions.has(origin)) return false;
    const kept: KeptSession = {
      session,
      socket,
      keepalive: new Keepalive(session, {
        intervalMs: keepaliveIntervalMs,
        timeoutMs: keepaliveTimeoutMs,
        onDead: () => void this.#dropSession(origin, kept),
      }),
    };
    this.#sessions.set(origin, kept);
    session.once('close', () => void this.#dropSession(origin, kept));
    return true;
  }

  async #dropSession(origin: string, kept: KeptSession): Promise<void> {
    if (this.#sessions.get(origin) === kept) this.#sessions.delete(origin);
    kept.keepalive.stop();
    await closeSession(kept.session, kept.socket);
  }
}

async function secure(
  plain: Socket,
  url: ProbeUrl,
  protocols: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly socket: Socket; readonly isHttp2: boolean }> {
  const socket = connectTls({
    socket: plain,
    // An address is no server name (RFC 6066 3).
    ...(isIP(url.host) === 0 ? { servername: url.host } : {}),
    ALPNProtocols: [...protocols],
    rejectUnauthorized: false,
  });
  const onAbort = (): void => void socket.destroy();
  const shaken = Promise.withResolvers<void>();
  const onClose = (): void => shaken.reject(new Error('the connection was closed'));
  signal.addEventListener('abort', onAbort, { once: true });
  socket.once('secureConnect', () => shaken.resolve());
  socket.once('close', onClose);
  socket.on('error', (error) => shaken.reject(error));
  if (signal.aborted) socket.destroy();
  try {
    await shaken.promise;
    return { socket, isHttp2: socket.alpnProtocol === 'h2' };
  } catch (error) {
    socket.destroy();
    plain.destroy();
    signal.throwIfAborted();
    const what = `TLS handshake with ${formatHostPort(url)} failed`;
    throw new ProbeError('tls', `${what}: ${describeError(error)}`, { cause: error });
  } finally {
    socket.off('close', onClose);
    signal.removeEventListener('abort', onAbort);
  }
}
