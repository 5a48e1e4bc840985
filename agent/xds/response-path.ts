import type { Logger } from '../log.ts';
import type { DownstreamWriter } from './downstream-writer.ts';
import { type FrameSink, FrameSplitter } from './frames.ts';
import { type GrpcStatus, grpcCode } from './grpc-status.ts';
import { HeldBytes } from './held-bytes.ts';
import type { StreamInterceptor, StreamKind } from './interceptor.ts';
import { type MessageType, MessageTypeScanner } from './message-type.ts';
import { ResponseName } from './response-name.ts';
import { isForwardedToEnvoy } from './type-urls.ts';
import { statusOfResponseFault } from './upstream-end.ts';

/** What gRPC libraries can receive at all, and what the stock agent takes from istiod. In bytes. */
const maxResponseBytes = 2 ** 31 - 1;

/**
 * The most of one message that is ever held: a whole message for an interceptor, or the start of one whose encoder
 * hides the type behind its content. 64 MiB is some hundred times a large real ECDS push.
 */
export const maxHeldResponseBytes = 64 * 1024 * 1024;

/**
 * So much of a response is held to learn its name, which istiod writes at the end. It costs no time: the writer gathers
 * as much before it writes.
 */
const maxLookAheadBytes = 64 * 1024;

/** Dropped responses of one stream that get a line in the log: a peer must not be able to fill the node's disk. */
const maxLoggedDropCount = 20;

/** Where one response stands. */
type MessageState =
  | { readonly kind: 'none' }
  /** Its bytes are held until its type is known: mostly none or one chunk. */
  | {
      readonly kind: 'classifying';
      readonly scanner: MessageTypeScanner;
      readonly name: ResponseName;
      readonly held: HeldBytes;
      readonly header: Buffer;
      readonly lengthBytes: number;
    }
  /** It is for Envoy by its first resource; a small one is held for its name, which may say that it is not. */
  | {
      readonly kind: 'holding';
      readonly typeUrl: string;
      readonly name: ResponseName;
      readonly held: HeldBytes;
      readonly header: Buffer;
      readonly lengthBytes: number;
    }
  /** Its bytes go to Envoy as they come, unless it takes the name of a type that is taken over. */
  | {
      readonly kind: 'passing';
      readonly typeUrl: string;
      readonly name: ResponseName;
      readonly lengthBytes: number;
    }
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
    const name = new ResponseName();
    this.#message = { kind: 'classifying', scanner, name, held: new HeldBytes(), header, lengthBytes };
  }

  onMessageData(part: Buffer): void {
    const message = this.#message;
    switch (message.kind) {
      case 'classifying':
        message.held.push(part);
        message.name.push(part);
        this.#decide(message, message.scanner.push(part));
        return;
      case 'holding':
        message.held.push(part);
        message.name.push(part);
        this.#passIfLarge(message);
        return;
      case 'passing':
        if (this.#interceptorOf(message.name.push(part)) === undefined) this.#options.writer.relay(part);
        else this.#failMixed(message);
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
    if (this.#message.kind === 'holding') this.#decideByName(this.#message);
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
    const interceptor = this.#interceptorOf(typeUrl);
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
      const { name, held, header, lengthBytes } = message;
      this.#message = { kind: 'holding', typeUrl, name, held, header, lengthBytes };
      this.#passIfLarge(this.#message);
    } else {
      this.#drop(message, typeUrl);
    }
  }

  /** Lets go of a message that is too large to be held to its end. */
  #passIfLarge(message: Extract<MessageState, { kind: 'holding' }>): void {
    if (message.held.sizeBytes < maxLookAheadBytes) return;
    if (this.#interceptorOf(message.name.typeUrl) === undefined) this.#pass(message);
    else this.#failMixed(message);
  }

  /** The message is whole: one that takes the name of a type that is taken over is its interceptor's to refuse. */
  #decideByName(message: Extract<MessageState, { kind: 'holding' }>): void {
    const interceptor = this.#interceptorOf(message.name.typeUrl);
    if (interceptor === undefined) this.#pass(message);
    else this.#message = { kind: 'collecting', held: message.held, interceptor };
  }

  #pass({ typeUrl, name, held, header, lengthBytes }: Extract<MessageState, { kind: 'holding' }>): void {
    const { writer } = this.#options;
    this.#message = { kind: 'passing', typeUrl, name, lengthBytes };
    writer.beginMessage(header);
    for (const part of held.take()) writer.relay(part);
  }

  #interceptorOf(typeUrl: string | undefined): StreamInterceptor | undefined {
    return typeUrl === undefined ? undefined : this.#options.interceptors.get(typeUrl);
  }

  /** Some of it may be written already, so only the stream's end keeps the rest from Envoy. */
  #failMixed(message: Extract<MessageState, { kind: 'holding' | 'passing' }>): void {
    this.#fail({
      code: grpcCode.internal,
      message: `istiod sent a response of ${message.lengthBytes} bytes that is named ${message.name.typeUrl} and begins with a resource of type ${message.typeUrl}`,
    });
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
