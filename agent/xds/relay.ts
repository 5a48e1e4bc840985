import type { ServerHttp2Stream } from 'node:http2';
import type { XdsMetrics } from '../../metrics/xds-metrics.ts';
import type { XdsConfig } from '../config/agent-config.ts';
import type { GrpcListener } from '../grpc/listener.ts';
import type { Logger } from '../log.ts';
import { downstreamListener } from './downstream.ts';
import { rejectStream } from './downstream-writer.ts';
import { grpcCode } from './grpc-status.ts';
import type { InterceptorFactory, StreamKind } from './interceptor.ts';
import { RedialBackoff } from './redial-backoff.ts';
import type { StreamEnd } from './stream-end.ts';
import { StreamPair, type StreamPairSnapshot } from './stream-pair.ts';

/** Bound for reaching istiod on one stream. The stock agent's 20 s per try leave Envoy in the dark for too long. */
const defaultConnectTimeoutMs = 10_000;
/** How long Envoy may take to read its last status when the agent stops. */
const shutdownGraceMs = 1_000;

export interface AdsRelayOptions {
  readonly config: XdsConfig;
  readonly interceptors: readonly InterceptorFactory[];
  readonly metrics: XdsMetrics;
  /** Scope `xdsproxy`. */
  readonly log: Logger;
  /** Bound over look-up, TCP, TLS and HTTP/2 settings, in ms. */
  readonly connectTimeoutMs?: number;
  readonly backoff?: RedialBackoff;
}

/** What the relay does now; for the debug page. */
export interface RelaySnapshot {
  /** As configured. */
  readonly discoveryAddress: string;
  /** Envoy's stream; undefined while there is none. */
  readonly stream: StreamPairSnapshot | undefined;
  /** Dials that failed since the last success. */
  readonly failedDialCount: number;
  /** How the last stream ended. */
  readonly lastEnd: (StreamEnd & { readonly id: number; readonly atMs: number }) | undefined;
}

/**
 * The ADS relay between Envoy and istiod: every stream of Envoy gets one of its own to istiod, and responses and
 * requests go through as they are, but for the types that an interceptor takes over. One stream counts at a time.
 */
export class AdsRelay {
  readonly #options: AdsRelayOptions;
  readonly #backoff: RedialBackoff;
  readonly #listener: GrpcListener;
  readonly #pairs = new Set<StreamPair>();
  #current: StreamPair | undefined;
  #streamCount = 0;
  #lastEnd: RelaySnapshot['lastEnd'];
  #closing: Promise<void> | undefined;

  constructor(options: AdsRelayOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? new RedialBackoff();
    this.#listener = downstreamListener(options.config, {
      onStream: (kind, stream) => this.#accept(kind, stream),
      log: options.log,
    });
  }

  /** Resolves when Envoy can connect. Throws ListenError. */
  async listen(): Promise<void> {
    await this.#listener.listen();
  }

  /** Ends all streams with UNAVAILABLE and resolves when sockets, timers and the socket file are gone. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  get snapshot(): RelaySnapshot {
    return {
      discoveryAddress: this.#options.config.discoveryAddress,
      stream: this.#current?.snapshot,
      failedDialCount: this.#backoff.failureCount,
      lastEnd: this.#lastEnd,
    };
  }

  async #close(): Promise<void> {
    const status = { code: grpcCode.unavailable, message: 'the agent is stopping' };
    for (const pair of this.#pairs) pair.end({ side: 'agent', class: 'expected', status });
    await this.#listener.close({ graceMs: shutdownGraceMs });
    await Promise.all([...this.#pairs].map((pair) => pair.closed));
  }

  #accept(kind: StreamKind, downstream: ServerHttp2Stream): void {
    if (this.#closing !== undefined) {
      rejectStream(downstream, { code: grpcCode.unavailable, message: 'the agent is stopping' });
      return;
    }
    const { config, interceptors, metrics, log } = this.#options;
    const previous = this.#current;
    if (previous !== undefined) {
      log.warn('registered overlapping stream; closing previous', { id: previous.id });
      previous.end({ side: 'envoy', class: 'graceful', status: { code: grpcCode.ok, message: '' } });
    }
    this.#streamCount += 1;
    const id = this.#streamCount;
    log.debug('accepted XDS stream from Envoy', { id, kind });
    const pair = new StreamPair({
      id,
      kind,
      downstream,
      config,
      connectTimeoutMs: this.#options.connectTimeoutMs ?? defaultConnectTimeoutMs,
      interceptors,
      backoff: this.#backoff,
      metrics,
      log,
      onEnd: (end) => this.#onEnd(pair, end),
    });
    this.#current = pair;
    this.#pairs.add(pair);
    void pair.closed.then(() => this.#pairs.delete(pair));
  }

  #onEnd(pair: StreamPair, end: StreamEnd): void {
    if (this.#current === pair) this.#current = undefined;
    this.#lastEnd = { ...end, id: pair.id, atMs: Date.now() };
    const { metrics, log } = this.#options;
    const type = end.class === 'unexpected' ? 'error' : 'cancelled';
    switch (end.side) {
      case 'istiod':
        metrics.istiodConnectionTerminated(type);
        break;
      case 'envoy':
        metrics.envoyConnectionTerminated(type);
        break;
      case 'agent':
        break;
      default:
        end.side satisfies never;
    }
    const fields = { id: pair.id, side: end.side, code: end.status.code, reason: end.status.message };
    if (end.class === 'unexpected') log.warn('XDS stream ended', fields);
    else log.debug('XDS stream ended', fields);
  }
}
