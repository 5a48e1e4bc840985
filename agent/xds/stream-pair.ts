import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { XdsMetrics } from '../../metrics/xds-metrics.ts';
import type { XdsConfig } from '../config/agent-config.ts';
import { describeError, type Logger } from '../log.ts';
import { dial } from './dial.ts';
import { readDirectly } from './direct-reading.ts';
import { DownstreamWriter } from './downstream-writer.ts';
import { type GrpcStatus, grpcCode } from './grpc-status.ts';
import { openInterceptors } from './guarded-interceptor.ts';
import type { InterceptedStream, InterceptorFactory, StreamInterceptor, StreamKind } from './interceptor.ts';
import type { RedialBackoff } from './redial-backoff.ts';
import { buildRequestHeaders, readToken } from './request-metadata.ts';
import { RequestPath } from './request-path.ts';
import { maxHeldResponseBytes, ResponsePath } from './response-path.ts';
import type { StreamEnd } from './stream-end.ts';
import { UpstreamCall } from './upstream.ts';
import { classOfUpstreamEnd, statusOfUpstreamEnd, type UpstreamEnd } from './upstream-end.ts';

/** What messages of the agent may keep in memory for an Envoy that does not read: two of the largest held responses. */
export const maxQueuedDownstreamBytes = 2 * maxHeldResponseBytes;
/** The same towards istiod, where messages of the agent are subscriptions, ACKs and NACKs. */
export const maxQueuedUpstreamBytes = 16 * 1024 * 1024;
/** How long an ended stream may take to give Envoy what was written and the status, before it is cut. */
const endGraceMs = 10_000;
/** A relay that was blocked by Envoy for longer is worth a line (the stock agent warns about sends of 10 s). */
const blockedWarningMs = 10_000;

export interface StreamPairOptions {
  readonly id: number;
  readonly kind: StreamKind;
  readonly downstream: ServerHttp2Stream;
  readonly config: XdsConfig;
  /** Bound for reaching istiod: look-up, TCP, TLS, HTTP/2 settings. */
  readonly connectTimeoutMs: number;
  readonly interceptors: readonly InterceptorFactory[];
  readonly backoff: RedialBackoff;
  readonly metrics: XdsMetrics;
  readonly log: Logger;
  /** Called once, when the exchange is over; Envoy may still be reading its rest. */
  readonly onEnd: (end: StreamEnd) => void;
}

/** Where an exchange stands. */
type PairState =
  /** Waiting for its turn to dial, or dialling. Nothing is read from Envoy yet. */
  | { readonly kind: 'connecting' }
  /** Relaying. */
  | {
      readonly kind: 'open';
      readonly call: UpstreamCall;
      readonly requests: RequestPath;
      readonly responses: ResponsePath;
      readonly interceptors: ReadonlyMap<string, StreamInterceptor>;
      readonly remoteAddress: string;
    }
  | { readonly kind: 'ended'; readonly end: StreamEnd };

/** For the debug page. */
export interface StreamPairSnapshot {
  readonly id: number;
  readonly kind: StreamKind;
  /** `open` says that istiod is connected and has answered. */
  readonly state: PairState['kind'];
  /** Address and port that were really dialled; undefined until connected. */
  readonly upstreamAddress: string | undefined;
  /** Epoch ms at which Envoy opened the stream. */
  readonly sinceMs: number;
  readonly requestCount: number;
  readonly responseCount: number;
}

/** One stream of Envoy and the stream to istiod that belongs to it. Neither outlives the other. */
export class StreamPair {
  /** Resolves when both sides' streams are gone. */
  readonly closed: Promise<void>;
  readonly #options: StreamPairOptions;
  readonly #downstream: ServerHttp2Stream;
  readonly #writer: DownstreamWriter;
  readonly #dialAbort = new AbortController();
  readonly #sinceMs = Date.now();
  #state: PairState = { kind: 'connecting' };
  #isUpstreamReady = false;
  #requestCount = 0;
  #responseCount = 0;
  #blockedSinceMs: number | undefined;

  /** Starts at once. */
  constructor(options: StreamPairOptions) {
    this.#options = options;
    this.#downstream = options.downstream;
    this.#writer = new DownstreamWriter(options.downstream, {
      maxQueuedBytes: maxQueuedDownstreamBytes,
      onDrain: () => this.#onDownstreamDrain(),
    });
    this.#watchDownstream();
    const downstreamClosed = new Promise<void>((resolve) => {
      options.downstream.once('close', () => resolve());
    });
    this.closed = Promise.all([this.#connect(), downstreamClosed]).then(() => undefined);
  }

  get id(): number {
    return this.#options.id;
  }

  get snapshot(): StreamPairSnapshot {
    const state = this.#state;
    return {
      id: this.#options.id,
      kind: this.#options.kind,
      state: state.kind === 'open' && !this.#isUpstreamReady ? 'connecting' : state.kind,
      upstreamAddress: state.kind === 'open' ? state.remoteAddress : undefined,
      sinceMs: this.#sinceMs,
      requestCount: this.#requestCount,
      responseCount: this.#responseCount,
    };
  }

  /** Ends both sides. Does nothing when the exchange is over. */
  end(end: StreamEnd): void {
    const state = this.#state;
    if (state.kind === 'ended') return;
    this.#state = { kind: 'ended', end };
    this.#dialAbort.abort();
    if (state.kind === 'open') {
      state.requests.stop();
      state.responses.stop();
      state.call.cancel();
      for (const interceptor of state.interceptors.values()) interceptor.close();
    }
    this.#endDownstream(end.status);
    this.#options.onEnd(end);
  }

  #watchDownstream(): void {
    const stream = this.#downstream;
    const onGone = (): void => {
      const status = { code: grpcCode.cancelled, message: 'Envoy closed the stream' };
      this.end({ side: 'envoy', class: 'expected', status });
    };
    stream.once('aborted', onGone);
    stream.once('close', onGone);
  }

  #endDownstream(status: GrpcStatus): void {
    const stream = this.#downstream;
    if (stream.destroyed || stream.closed) return;
    this.#writer.finish(status);
    // Envoy's remaining requests are of no interest, but must be taken for the stream to close.
    stream.removeAllListeners('data');
    stream.resume();
    const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), endGraceMs);
    stream.once('close', () => clearTimeout(timer));
  }

  /** Resolves when the upstream connection, if there ever was one, is gone. Never rejects. */
  async #connect(): Promise<void> {
    const { config, backoff, connectTimeoutMs, log } = this.#options;
    const { signal } = this.#dialAbort;
    let socket: Socket | undefined;
    try {
      const delayMs = backoff.pendingDelayMs;
      if (delayMs > 0)
        log.debug('waiting before the next dial to istiod', { id: this.id, delayMs: Math.round(delayMs) });
      await backoff.wait({ signal });
      const token = await readToken(config.tokenPath, log);
      const startMs = performance.now();
      socket = await dial(config, log, { timeoutMs: connectTimeoutMs, signal });
      signal.throwIfAborted();
      const { remoteAddress, remotePort } = socket;
      const headers = buildRequestHeaders(config, { kind: this.#options.kind, token, remoteAddress }, log);
      // Nothing is awaited from here on: what istiod sends must find the HTTP/2 session in place.
      const call = new UpstreamCall(
        socket,
        {
          headers,
          address: config.discoveryAddress,
          settingsTimeoutMs: Math.max(1, Math.ceil(connectTimeoutMs - (performance.now() - startMs))),
          keepaliveIntervalMs: config.keepaliveIntervalMs,
          keepaliveTimeoutMs: config.keepaliveTimeoutMs,
        },
        {
          onReady: () => {
            this.#isUpstreamReady = true;
            const dialect = this.#options.kind === 'delta' ? 'delta ' : '';
            // The words of the stock agent, which people search logs for.
            log.info(`connected to ${dialect}upstream XDS server: ${config.discoveryAddress}`);
            backoff.recordSuccess();
          },
          onData: (chunk) => this.#onResponseData(chunk),
          onDrain: () => this.#downstream.resume(),
          onEnd: (end) => this.#onUpstreamEnd(end),
        },
      );
      this.#open(call, `${remoteAddress}:${remotePort}`);
      await call.closed;
    } catch (error) {
      socket?.destroy();
      if (signal.aborted) return;
      this.#onUpstreamEnd({
        kind: 'dial-failed',
        error: error instanceof Error ? error : new Error(String(error)),
      });
    }
  }

  #open(call: UpstreamCall, remoteAddress: string): void {
    const { id, kind, config, metrics, log } = this.#options;
    log.debug('connected to istiod', { id, kind, address: config.discoveryAddress, remoteAddress });
    const interceptors = openInterceptors(
      this.#options.interceptors,
      this.#interceptedStream(call),
      (error) => {
        log.error('interceptor failed', { id, reason: describeError(error) });
        this.#endByAgent({
          code: grpcCode.internal,
          message: 'the agent failed to handle a message; see its log',
        });
      },
    );
    if (this.#state.kind === 'ended') {
      call.cancel();
      for (const interceptor of interceptors.values()) interceptor.close();
      return;
    }
    const requests = new RequestPath({
      kind,
      maxRequestBytes: config.maxRequestBytes,
      interceptors,
      forward: (header, message) => {
        call.relay(header);
        call.relay(message);
        this.#countRequest();
      },
      onMessage: (sizeBytes) => metrics.largestRequestBytes(sizeBytes),
      onFault: (status) => this.end({ side: 'envoy', class: 'unexpected', status }),
    });
    const responses = new ResponsePath({
      kind,
      interceptors,
      writer: this.#writer,
      log,
      onMessage: () => {
        this.#responseCount += 1;
        metrics.responseReceived();
      },
      onFault: (status) => this.#onUpstreamEnd({ kind: 'protocol', status }),
    });
    this.#state = { kind: 'open', call, requests, responses, interceptors, remoteAddress };
    readDirectly(this.#downstream);
    this.#downstream.on('data', (chunk: Buffer) => {
      requests.push(chunk);
      call.endChunk();
      if (call.isBlocked) this.#downstream.pause();
    });
    this.#downstream.once('end', () => {
      this.end({ side: 'envoy', class: 'graceful', status: { code: grpcCode.ok, message: '' } });
    });
  }

  #interceptedStream(call: UpstreamCall): InterceptedStream {
    return {
      id: this.#options.id,
      kind: this.#options.kind,
      sendDownstream: (message) => {
        if (this.#state.kind === 'ended') return;
        if (!this.#writer.enqueue(message)) {
          this.#endByAgent(overflow('Envoy', message.byteLength, maxQueuedDownstreamBytes));
        }
        this.#pauseResponsesIfBlocked();
      },
      sendUpstream: (message) => {
        if (this.#state.kind === 'ended') return;
        if (call.queuedBytes + message.byteLength > maxQueuedUpstreamBytes) {
          this.#endByAgent(overflow('istiod', message.byteLength, maxQueuedUpstreamBytes));
          return;
        }
        call.write(message);
        this.#countRequest();
        if (call.isBlocked) this.#downstream.pause();
      },
      end: (status) => this.#endByAgent(status),
    };
  }

  #countRequest(): void {
    this.#requestCount += 1;
    this.#options.metrics.requestSent();
  }

  #onResponseData(chunk: Buffer): void {
    if (this.#state.kind !== 'open') return;
    this.#state.responses.push(chunk);
    this.#pauseResponsesIfBlocked();
  }

  #pauseResponsesIfBlocked(): void {
    if (this.#state.kind !== 'open' || !this.#writer.isBlocked) return;
    this.#blockedSinceMs ??= performance.now();
    this.#state.call.pause();
  }

  #onDownstreamDrain(): void {
    const blockedMs = this.#blockedSinceMs === undefined ? 0 : performance.now() - this.#blockedSinceMs;
    this.#blockedSinceMs = undefined;
    if (blockedMs > blockedWarningMs) {
      this.#options.log.warn('Envoy was slow to take a response', {
        id: this.id,
        durationMs: Math.round(blockedMs),
      });
    }
    if (this.#state.kind === 'open') this.#state.call.resume();
  }

  #onUpstreamEnd(end: UpstreamEnd): void {
    if (this.#state.kind === 'ended') return;
    // A connection that ends before istiod's settings were seen never was one.
    if (end.kind === 'dial-failed' && !this.#isUpstreamReady) {
      this.#options.backoff.recordFailure();
      this.#options.metrics.istiodConnectionFailed();
    }
    const isCut = this.#state.kind === 'open' && !this.#state.responses.isAtBoundary;
    if (end.kind === 'status' && end.status.code === grpcCode.ok && isCut) {
      const message = 'istiod ended the stream with OK in the middle of a message';
      this.#onUpstreamEnd({ kind: 'protocol', status: { code: grpcCode.internal, message } });
      return;
    }
    this.end({ side: 'istiod', class: classOfUpstreamEnd(end), status: statusOfUpstreamEnd(end) });
  }

  #endByAgent(status: GrpcStatus): void {
    const isGraceful = status.code === grpcCode.ok;
    this.end({ side: 'agent', class: isGraceful ? 'graceful' : 'unexpected', status });
  }
}

function overflow(to: string, sizeBytes: number, maxBytes: number): GrpcStatus {
  return {
    code: grpcCode.resourceExhausted,
    message: `a message of ${sizeBytes} bytes does not fit into the agent's queue to ${to}, bounded at ${maxBytes} bytes: the peer does not read`,
  };
}
