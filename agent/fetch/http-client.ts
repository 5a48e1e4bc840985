import type { LookupFunction } from 'node:net';
import { LRUCache } from 'lru-cache';
import type { Dispatcher, Pool } from 'undici';
import { basicAuthorization } from './basic-authorization.ts';
import type { EgressGuard } from './egress-guard.ts';
import { type FetchSettings, permissiveSettings } from './fetch-settings.ts';
import { type HostTls, HostTlsFiles } from './host-tls.ts';
import { type HttpLibrary, loadHttpLibrary, loadProxyLibrary, type ProxyLibrary } from './http-library.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import { displayUrl, hostTextOf } from './module-url.ts';
import { abortFailure, networkFailure } from './network-failure.ts';
import { chooseProxy, type OutboundProxy } from './proxy-choice.ts';
import { decideRedirect, type RedirectRule } from './redirect.ts';
import { FetchError } from './types.ts';

/** One request; its redirects are followed. */
export interface HttpRequest {
  /** Absolute http or https URL. User info in it is ignored. */
  readonly url: string;
  readonly method: 'GET' | 'HEAD' | 'POST';
  /** Lower-case names, without `authorization`. */
  readonly headers: Readonly<Record<string, string>>;
  /** Value of the `authorization` header: sent to the URL's own origin only. A secret. */
  readonly authorization?: string | undefined;
  /** Sent once: a request with a body follows no redirect. May be a secret. */
  readonly body?: string | undefined;
  readonly redirects: RedirectRule;
}

/** The last answer after redirects. The body must be read to its end, or `discard` called. */
export interface HttpResponse {
  readonly status: number;
  /** First value of a header by lower-case name. */
  readonly header: (name: string) => string | undefined;
  /** All values of a header by lower-case name. */
  readonly headers: (name: string) => readonly string[];
  /** Bytes as they come, never gathered; a chunk belongs to the reader. Throws FetchError as `send` does. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Frees the connection without using the body. Never throws. */
  readonly discard: () => Promise<void>;
}

export interface HttpClientOptions {
  readonly guard: EgressGuard;
  readonly insecureHosts: InsecureHosts;
  readonly proxies: OutboundProxy;
  /** Default: sets nothing. */
  readonly settings?: FetchSettings;
}

/** Time to connect, TLS included (the stock agent's dialer). */
const connectTimeoutMs = 30_000;
/** A peer that sends nothing for this long is gone, whatever the deadline of the whole fetch. */
const silenceTimeoutMs = 60_000;
/**
 * Connections to one origin when the settings give no number. Fetches beyond it wait their turn: more at once end no
 * sooner, each holds a megabyte or two, and a registry has all pods to serve.
 */
const defaultConnectionCount = 8;
/** Ways to connect that are kept open: one a host with TLS files of its own, and some for all others. */
const maxDispatcherCount = 64;
/** What is held of a body before it is asked for: one piece, as the socket gives it. Two would be copied together. */
const heldBodyBytes = 1;
/** What is read of an unwanted body so that its connection can be used again. */
const maxDiscardedBytes = 16 * 1024;

const userAgent = 'ferry-agent';

/**
 * The one HTTP client of module fetching: every address it dials passes the egress guard, certificates are verified
 * per origin, credentials stay at their origin, bodies are streams. Loads its library with the first request.
 */
export class HttpClient {
  readonly #options: HttpClientOptions;
  readonly #settings: FetchSettings;
  readonly #hostTls: HostTlsFiles;
  /** One that is pushed out, by others or by a change of its files, ends when its requests have. */
  readonly #dispatchers = new LRUCache<string, Dispatcher>({
    max: maxDispatcherCount,
    dispose: (dispatcher, _key, reason) => {
      if (reason !== 'delete') this.#retire(dispatcher);
    },
  });
  readonly #retired = new Set<Dispatcher>();
  readonly #closing = new AbortController();
  #library: Promise<HttpLibrary> | undefined;
  #proxyLibrary: Promise<ProxyLibrary> | undefined;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#settings = options.settings ?? permissiveSettings;
    const { insecureHosts } = options;
    this.#hostTls = new HostTlsFiles({ settings: this.#settings, insecureHosts });
  }

  /** Loads the library before it is needed. Never throws: the first request tells what is wrong. */
  async warm(): Promise<void> {
    await this.#load().catch(() => undefined);
  }

  /** Throws FetchError `network`, `tls`, `timeout`, `aborted`, `blocked_address`, `redirect`; a status is no error. */
  async send(request: HttpRequest, options: { readonly signal: AbortSignal }): Promise<HttpResponse> {
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    let url = new URL(request.url);
    const firstHost = url.hostname;
    let hostText = hostTextOf(request.url);
    let authorization = request.authorization;
    for (let redirectCount = 0; ; redirectCount += 1) {
      const response = await this.#dial(url, hostText, authorization, request, signal).catch(
        (error: unknown) => {
          throw redirectCount === 0 ? error : afterRedirect(error, url);
        },
      );
      const location = response.header('location');
      const isRedirect = [301, 302, 303, 307, 308].includes(response.status) && location !== undefined;
      if (!isRedirect || request.body !== undefined) return response;
      await response.discard();
      const decision = decideRedirect({
        from: url,
        firstHost,
        location,
        redirectCount,
        rule: request.redirects,
      });
      if (decision.kind === 'refuse') {
        throw new FetchError('redirect', `redirect from ${displayUrl(url.href)} refused: ${decision.reason}`);
      }
      ({ url, hostText } = decision);
      if (!decision.keepsAuthorization) authorization = undefined;
    }
  }

  /** Breaks off what is running and resolves when all connections are gone. */
  async close(): Promise<void> {
    this.#closing.abort();
    const dispatchers = [...this.#dispatchers.values(), ...this.#retired];
    for (const key of this.#dispatchers.keys()) this.#dispatchers.delete(key);
    await Promise.all(dispatchers.map(async (dispatcher) => dispatcher.destroy()));
  }

  async #dial(
    url: URL,
    hostText: string,
    authorization: string | undefined,
    request: HttpRequest,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const tried = `${request.method} ${displayUrl(url.href)}`;
    try {
      if (signal.aborted) throw abortFailure(signal, tried);
      const route = await this.#route(url, hostText);
      const headers: Record<string, string> = {
        'user-agent': userAgent,
        // Bytes are verified as they are served: no coding that a hop could add or take away.
        'accept-encoding': 'identity',
        ...request.headers,
        ...route.headers,
      };
      if (authorization !== undefined) headers['authorization'] = authorization;
      const { request: send } = await this.#load();
      const answer = await send(route.dispatcher, {
        origin: route.origin,
        path: route.path,
        method: request.method,
        headers,
        body: request.body ?? null,
        signal,
        headersTimeout: silenceTimeoutMs,
        bodyTimeout: silenceTimeoutMs,
        highWaterMark: heldBodyBytes,
      });
      return toResponse(answer, tried, signal);
    } catch (error) {
      throw networkFailure(error, { tried, signal });
    }
  }

  async #route(url: URL, hostText: string): Promise<Route> {
    const proxy = chooseProxy(url, this.#options.proxies);
    const direct = { origin: url.origin, path: `${url.pathname}${url.search}`, headers: {} };
    const isTls = url.protocol === 'https:';
    const tls = isTls ? await this.#hostTls.tlsFor(hostText) : undefined;
    if (proxy === undefined) return { dispatcher: await this.#agent(tls), ...direct };
    const refusal = await this.#options.guard.proxiedRefusal(url.hostname);
    if (refusal !== undefined) throw refusal;
    if (tls !== undefined) return { dispatcher: await this.#tunnel(proxy, tls), ...direct };
    const proxyAuthorization = basicAuthorization(proxy);
    const proxyTls =
      proxy.protocol === 'https:' ? await this.#hostTls.tlsFor(proxy.host, 'proxy') : undefined;
    return {
      dispatcher: await this.#agent(proxyTls),
      origin: proxy.origin,
      // A plain http target is named whole to the proxy (RFC 9112 section 3.2.2); many refuse tunnels to it.
      path: `${url.origin}${url.pathname}${url.search}`,
      headers: {
        host: url.host,
        ...(proxyAuthorization === undefined ? {} : { 'proxy-authorization': proxyAuthorization }),
      },
    };
  }

  /** `tls` undefined: it is not used. */
  async #agent(tls: HostTls | undefined): Promise<Dispatcher> {
    const library = await this.#load();
    return this.#dispatcher(`direct ${tls?.key ?? 'plain'}`, (connections) => {
      const connect = this.#connector(library, tls);
      return new library.Agent({ connect, connections });
    });
  }

  async #tunnel(proxy: URL, tls: HostTls): Promise<Dispatcher> {
    const library = await this.#load();
    this.#proxyLibrary ??= loadProxyLibrary();
    const { Pool, ProxyAgent } = await this.#proxyLibrary;
    const proxyTls =
      proxy.protocol === 'https:' ? await this.#hostTls.tlsFor(proxy.host, 'proxy') : undefined;
    const key = `tunnel ${proxyTls?.key ?? 'plain'} ${tls.key} ${proxy.href}`;
    return this.#dispatcher(key, (connections) => {
      const proxyAuthorization = basicAuthorization(proxy);
      return new ProxyAgent({
        uri: proxy.origin,
        ...(proxyAuthorization === undefined ? {} : { token: proxyAuthorization }),
        requestTls: tls.options,
        connections,
        // The connection to the proxy is the one that is dialled: it passes the guard.
        clientFactory: (origin: URL, options: object) => {
          const connect = this.#connector(library, proxyTls);
          return new Pool(origin, { ...(options as Pool.Options), connect });
        },
      });
    });
  }

  #connector(library: HttpLibrary, tls: HostTls | undefined): NonNullable<Pool.Options['connect']> {
    const { guard } = this.#options;
    const lookup: LookupFunction = guard.lookup;
    const connect = library.buildConnector({ timeout: connectTimeoutMs, ...tls?.options, lookup });
    return (target, callback) => {
      // Literal addresses are never looked up.
      const refusal = guard.refusal(target.hostname);
      if (refusal === undefined) connect(target, callback);
      else callback(refusal, null);
    };
  }

  #dispatcher(key: string, make: (connections: number) => Dispatcher): Dispatcher {
    if (this.#closing.signal.aborted) throw abortFailure(this.#closing.signal, 'opening a connection');
    const known = this.#dispatchers.get(key);
    if (known !== undefined) return known;
    const made = make(this.#settings.connectionsPerHost() ?? defaultConnectionCount);
    this.#dispatchers.set(key, made);
    return made;
  }

  #retire(dispatcher: Dispatcher): void {
    this.#retired.add(dispatcher);
    dispatcher
      .close()
      .catch(() => undefined)
      .finally(() => this.#retired.delete(dispatcher));
  }

  async #load(): Promise<HttpLibrary> {
    this.#library ??= loadHttpLibrary();
    return this.#library;
  }
}

/** A refusal of the address does not say whose it is: the URL that was asked for leads elsewhere. */
function afterRedirect(error: unknown, to: URL): unknown {
  if (!(error instanceof FetchError) || error.code !== 'blocked_address') return error;
  return new FetchError(error.code, `redirected to ${displayUrl(to.href)}: ${error.message}`, {
    cause: error,
  });
}

interface Route {
  readonly dispatcher: Dispatcher;
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

function toResponse(answer: Dispatcher.ResponseData, tried: string, signal: AbortSignal): HttpResponse {
  const { body } = answer;
  const headers = (name: string): readonly string[] => {
    const value = answer.headers[name];
    if (value === undefined) return [];
    return typeof value === 'string' ? [value] : value;
  };
  async function* read(): AsyncGenerator<Uint8Array> {
    try {
      yield* body as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw networkFailure(error, { tried: `${tried}: reading the answer`, signal });
    }
  }
  return {
    status: answer.statusCode,
    header: (name) => headers(name)[0],
    headers,
    body: read(),
    discard: async () => {
      await body.dump({ limit: maxDiscardedBytes, signal }).catch(() => undefined);
    },
  };
}
