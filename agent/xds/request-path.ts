import { type FrameFault, type FrameSink, FrameSplitter } from './frames.ts';
import { type GrpcStatus, grpcCode } from './grpc-status.ts';
import { HeldBytes } from './held-bytes.ts';
import type { StreamInterceptor, StreamKind } from './interceptor.ts';
import { findRequestType } from './message-type.ts';
import { listenerTypeUrl } from './type-urls.ts';

export interface RequestPathOptions {
  readonly kind: StreamKind;
  /** Largest request, in bytes. */
  readonly maxRequestBytes: number;
  /** By type URL. */
  readonly interceptors: ReadonlyMap<string, StreamInterceptor>;
  /** Sends a whole request to istiod as it came, with its framing. The buffers are the callee's. */
  readonly forward: (header: Buffer, message: Buffer) => void;
  /** A whole request has come. */
  readonly onMessage: (sizeBytes: number) => void;
  /** The stream cannot go on; `stop` is called in answer. */
  readonly onFault: (status: GrpcStatus) => void;
}

/** Carries the requests of Envoy: each is read whole, then forwarded byte for byte or given to its interceptor. */
export class RequestPath implements FrameSink {
  readonly #options: RequestPathOptions;
  readonly #splitter: FrameSplitter;
  readonly #held = new HeldBytes();
  #header: Buffer | undefined;
  #isListenerRequested = false;
  #isStopped = false;

  constructor(options: RequestPathOptions) {
    this.#options = options;
    this.#splitter = new FrameSplitter({ maxMessageBytes: options.maxRequestBytes, sink: this });
  }

  /** Takes the next bytes from Envoy. The chunk is ours. */
  push(chunk: Buffer): void {
    if (this.#isStopped) return;
    const fault = this.#splitter.push(chunk);
    if (fault !== undefined) this.#fail(statusOfRequestFault(fault));
  }

  /** Later calls do nothing. */
  stop(): void {
    this.#isStopped = true;
    this.#held.take();
  }

  onMessageStart(_lengthBytes: number, header: Buffer): void {
    this.#header = header;
  }

  onMessageData(part: Buffer): void {
    if (!this.#isStopped) this.#held.push(part);
  }

  onMessageEnd(): void {
    const header = this.#header;
    if (this.#isStopped || header === undefined) return;
    const { kind, interceptors, forward, onMessage } = this.#options;
    const message = this.#held.takeJoined();
    onMessage(message.length);
    const type = findRequestType(message, kind);
    if (type.state === 'malformed') {
      this.#fail({
        code: grpcCode.internal,
        message: `request of ${message.length} bytes is no discovery request: ${type.reason} (at byte ${type.offset})`,
      });
      return;
    }
    const typeUrl = type.state === 'known' ? type.typeUrl : '';
    const interceptor = interceptors.get(typeUrl);
    if (interceptor === undefined) forward(header, message);
    else interceptor.onRequest(message);
    if (typeUrl === listenerTypeUrl) this.#afterListenerRequest(message);
  }

  #afterListenerRequest(message: Uint8Array): void {
    const isFirst = !this.#isListenerRequested;
    this.#isListenerRequested = true;
    for (const interceptor of this.#options.interceptors.values()) {
      if (isFirst) interceptor.onLdsRequested?.();
      interceptor.onListenerRequest?.(message);
    }
  }

  #fail(status: GrpcStatus): void {
    if (this.#isStopped) return;
    this.stop();
    this.#options.onFault(status);
  }
}

/** The status for framing of Envoy that cannot be read. */
function statusOfRequestFault(fault: FrameFault): GrpcStatus {
  switch (fault.code) {
    case 'compressed':
      return {
        code: grpcCode.internal,
        message: `request has compressed flag ${fault.flag}, but the agent offers no compression: send it uncompressed`,
      };
    case 'too-large':
      return {
        code: grpcCode.resourceExhausted,
        message: `request of ${fault.lengthBytes} bytes is larger than the bound of ${fault.maxBytes} bytes: raise ISTIO_GPRC_MAXRECVMSGSIZE on the proxy`,
      };
    default:
      return fault satisfies never;
  }
}
