import type { Logger } from '../log.ts';
import type { DownstreamWriter } from './downstream-writer.ts';
import { type FrameSink, FrameSplitter } from './frames.ts';
import { type GrpcStatus, grpcCode } from './grpc-status.ts';
import { HeldBytes } from './held-bytes.ts';
import type { StreamInterceptor, StreamKind } from './interceptor.ts';
import { type MessageType, MessageTypeScanner } from './message-type.ts';
import { isForwardedToEnvoy } from './type-urls.ts';
import { statusOfResponseFault } from './upstream-end.ts';

/** What gRPC libraries can receive at all, and what the stock agent takes from istiod. In bytes. */
const maxResponseBytes = 2 ** 31 - 1;

/**
 * The most of one message that is ever held: a whole message for an interceptor, or the start of one whose encoder
 * hides the type behind its content. 64 MiB is some hundred times a large real ECDS push.
 */
export const maxHeldResponseBytes = 64 * 1024 * 1024;

/** Dropped responses of one stream that get a line in the log: a peer must not be able to fill the node's disk. */
const maxLoggedDropCount = 20;

/** Where one response stands. */
type MessageState =
  | { readonly kind: 'none' }
  /** Its bytes are held until its type is known: mostly none or one chunk. */
  | {
      readonly kind: 'classifying';
      readonly scanner: MessageTypeScanner;
      readonly held: HeldBytes;
      readonly header: Buffer;
      readonly lengthBytes: number;
    }
  /** Its bytes go to Envoy as they come. */
  | { readonly kind: 'passing' }
  /** It is held whole for the interceptor of its type. */
  | { readonly kind: 'collecting'; readonly held: HeldBytes; readonly interceptor: StreamInterceptor }
  /** It is not for Envoy. */
  | { readonly kind: 'dropping' };

export interface ResponsePathOptions {
  readonly kind: StreamKind;
  /** By type URL. */
  readonly interceptors: ReadonlyMap<string, StreamInterceptor>;
  readonly writer: DownstreamWriter;
  readonly log: Logger;
  /** A whole message has come. */
  readonly onMessage: () => void;
  /** The stream cannot go on; `stop` is called in answer. */
  readonly onFault: (status: GrpcStatus) => void;
}

/** Carries the responses of istiod: each is passed, given to its interceptor, or dropped. */
export class ResponsePath implements FrameSink {
  readonly #options: ResponsePathOptions;
  readonly #splitter: FrameSplitter;
  #message: MessageState = { kind: 'none' };
  #isStopped = false;
  #dropCount = 0;

  constructor(options: ResponsePathOptions) {
    this.#options = options;
    this.#splitter = new FrameSplitter({ maxMessageBytes: maxResponseBytes, sink: this });
  }

  /** False while a message is incomplete: istiod may not end the stream here. */
  get isAtBoundary(): boolean {
    return this.#splitter.isAtBoundary;
  }

  /** Takes the next bytes from istiod. The chunk is ours: parts of it are written on as they are. */
  push(chunk: Buffer): void {
    if (this.#isStopped) return;
    const fault = this.#splitter.push(chunk);
    if (fault !== undefined) this.#fail(statusOfResponseFault(fault));
    this.#options.writer.endChunk();
  }

  /** Lets go of what is held. Later calls do nothing. */
  stop(): void {
    this.#isStopped = true;
    this.#message = { kind: 'none' };
  }

  onMessageStart(lengthBytes: number, header: Buffer): void {
    if (this.#isStopped) return;
    const scanner = new MessageTypeScanner('response', this.#options.kind, lengthBytes);
    this.#message = { kind: 'classifying', scanner, held: new HeldBytes(), header, lengthBytes };
  }

  onMessageData(part: Buffer): void {
    const message = this.#message;
    switch (message.kind) {
      case 'classifying':
        message.held.push(part);
        this.#decide(message, message.scanner.push(part));
        return;
      case 'passing':
        this.#options.writer.relay(part);
        return;
      case 'collecting':
        message.held.push(part);
        return;
      case 'dropping':
      case 'none':
        return;
      default:
        message satisfies never;
    }
  }

  onMessageEnd(): void {
    if (this.#isStopped) return;
    this.#options.onMessage();
    if (this.#message.kind === 'classifying') this.#decide(this.#message, this.#message.scanner.finish());
    const message = this.#message;
    this.#message = { kind: 'none' };
    if (message.kind === 'passing') this.#options.writer.endMessage();
    if (message.kind === 'collecting') message.interceptor.onResponse(message.held.takeJoined());
  }

  #decide(message: Extract<MessageState, { kind: 'classifying' }>, found: MessageType): void {
    switch (found.state) {
      case 'known':
        this.#route(message, found.typeUrl);
        return;
      case 'need-more':
        if (message.held.sizeBytes > maxHeldResponseBytes) {
          this.#fail({
            code: grpcCode.resourceExhausted,
            message: `istiod sent a response of ${message.lengthBytes} bytes that names no type in its first ${maxHeldResponseBytes} bytes`,
          });
        }
        return;
      case 'absent':
        this.#drop(message, '');
        return;
      case 'malformed':
        this.#fail({
          code: grpcCode.internal,
          message: `istiod sent a response of ${message.lengthBytes} bytes that is no discovery response: ${found.reason} (at byte ${found.offset})`,
        });
        return;
      default:
        found satisfies never;
    }
  }

  #route(message: Extract<MessageState, { kind: 'classifying' }>, typeUrl: string): void {
    const { interceptors, writer } = this.#options;
    const interceptor = interceptors.get(typeUrl);
    if (interceptor !== undefined) {
      if (message.lengthBytes > maxHeldResponseBytes) {
        this.#fail({
          code: grpcCode.resourceExhausted,
          message: `istiod sent a response of ${message.lengthBytes} bytes for ${typeUrl}, the bound for this type is ${maxHeldResponseBytes} bytes`,
        });
        return;
      }
      this.#message = { kind: 'collecting', held: message.held, interceptor };
    } else if (isForwardedToEnvoy(typeUrl)) {
      this.#message = { kind: 'passing' };
      writer.beginMessage(message.header);
      for (const part of message.held.take()) writer.relay(part);
    } else {
      this.#drop(message, typeUrl);
    }
  }

  #drop(message: Extract<MessageState, { kind: 'classifying' }>, typeUrl: string): void {
    this.#message = { kind: 'dropping' };
    this.#dropCount += 1;
    if (this.#dropCount > maxLoggedDropCount) return;
    const isLast = this.#dropCount === maxLoggedDropCount;
    this.#options.log.error(
      'Skipping forwarding of a response to Envoy as its type is not a valid Envoy type',
      {
        typeUrl,
        sizeBytes: message.lengthBytes,
        ...(isLast ? { note: 'further ones on this stream are not logged' } : {}),
      },
    );
  }

  #fail(status: GrpcStatus): void {
    if (this.#isStopped) return;
    this.stop();
    this.#options.onFault(status);
  }
}
