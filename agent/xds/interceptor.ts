import type { GrpcStatus } from './grpc-status.ts';

/** Which of the two ADS methods a stream uses; Envoy chooses, the agent mirrors it upstream. */
export type StreamKind = 'sotw' | 'delta';

/**
 * What an interceptor may do to the stream it sits on. Messages are whole protobuf messages without gRPC framing;
 * a buffer given away here must not be changed afterwards. Calls after the stream ended do nothing.
 */
export interface InterceptedStream {
  /** Counter from 1 over the life of the process; log field `id`. */
  readonly id: number;
  readonly kind: StreamKind;
  /** Queued, and written at the next message boundary towards Envoy. Over its bound the stream ends. */
  sendDownstream(message: Uint8Array): void;
  /** Queued in order with Envoy's own requests. Over its bound the stream ends. */
  sendUpstream(message: Uint8Array): void;
  /** Ends both sides; Envoy sees `status` and reconnects. */
  end(status: GrpcStatus): void;
}

/**
 * Takes over one type on one stream: its messages are given to this object instead of being relayed.
 * Calls come in wire order and never overlap. It must not throw for bad bytes of a peer: it ends the stream.
 */
export interface StreamInterceptor {
  /** A whole response of the type. The buffer is the interceptor's. */
  onResponse(message: Uint8Array): void;
  /** A whole request of the type. The buffer is the interceptor's. */
  onRequest(message: Uint8Array): void;
  /**
   * Envoy's first request for listeners on this stream was just queued for istiod: the moment at which the agent sends
   * subscriptions of its own (`pkg/istio-agent/xds_proxy.go`).
   */
  onLdsRequested?(): void;
  /** A request of Envoy for listeners was relayed: an ACK, a NACK or a subscription. The buffer must not be changed. */
  onListenerRequest?(message: Uint8Array): void;
  /** The stream has ended (either side): stop work that only this stream needs. Called once. */
  close(): void;
}

/** Makes the interceptor of one type for each new stream. */
export interface InterceptorFactory {
  readonly typeUrl: string;
  open(stream: InterceptedStream): StreamInterceptor;
}
