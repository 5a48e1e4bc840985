/**
 * The outgoing half of one gRPC call: a bounded queue that is written one message after the other.
 */
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js';

/** The server's end of a stream: whole messages as bytes, so that a test can send and see any. */
export type AdsCall = ServerDuplexStream<Buffer, Buffer>;

/** Messages that wait for a client that does not read. More means that a test went wrong. */
export const maxQueuedMessageCount = 5000;

/** Writes one message at a time: the next when the one before has gone to the socket. */
export class MessageWriter {
  readonly #call: AdsCall;
  readonly #queue: Buffer[] = [];
  readonly #closed = Promise.withResolvers<void>();
  #flushed = Promise.resolve();
  #markFlushed: (() => void) | undefined;
  #isHeaderSent = false;

  constructor(call: AdsCall) {
    this.#call = call;
  }

  /** False when the queue is full; the message is then not taken. */
  enqueue(message: Buffer): boolean {
    if (this.#queue.length >= maxQueuedMessageCount) return false;
    this.#queue.push(message);
    if (this.#markFlushed === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#flushed = promise;
      this.#markFlushed = resolve;
      this.#writeNext();
    }
    return true;
  }

  /** Resolves when all that was queued by now has gone to the socket, or the writer was closed. */
  async flushed(): Promise<void> {
    await Promise.race([this.#flushed, this.#closed.promise]);
  }

  /** Drops what waits. */
  close(): void {
    this.#queue.length = 0;
    this.#closed.resolve();
  }

  #writeNext(): void {
    const message = this.#queue.shift();
    if (message === undefined) {
      this.#markFlushed?.();
      this.#markFlushed = undefined;
      return;
    }
    if (!this.#isHeaderSent) {
      // As Go does: headers come with the first message, never before. grpc-js adds its encoding headers to them.
      this.#isHeaderSent = true;
      const headers = new Metadata();
      headers.set('content-type', 'application/grpc');
      this.#call.sendMetadata(headers);
    }
    this.#call.write(message, () => this.#writeNext());
  }
}
