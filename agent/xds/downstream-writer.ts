import { constants, type ServerHttp2Stream } from 'node:http2';
import { encodeFrame } from './frames.ts';
import { GatheredBytes } from './gathered-bytes.ts';
import { encodeGrpcMessage } from './grpc-message.ts';
import type { GrpcStatus } from './grpc-status.ts';

/**
 * Relayed bytes that are gathered before they are written, in bytes. Envoy can use a message only when it is whole, so
 * the parts of a small one wait for its end and are written at once; eight DATA frames a write suffice for a large one.
 */
const gatherBytes = 128 * 1024;

/**
 * Written bytes that Envoy has not taken, from which on istiod is paused. More than one write of gathered bytes: to
 * pause and resume within a message costs turns of the loop.
 */
const pauseBytes = 256 * 1024;

const responseHeaders = { ':status': 200, 'content-type': 'application/grpc' };

/** The answer to a stream that gets no messages: headers that carry the status. */
export function rejectStream(stream: ServerHttp2Stream, status: GrpcStatus): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  stream.respond({ ...responseHeaders, ...statusHeaders(status) }, { endStream: true });
  // The client's half is still open; RST_STREAM with NO_ERROR after the answer closes it (RFC 9113 8.1).
  stream.close(constants.NGHTTP2_NO_ERROR);
}

function statusHeaders(status: GrpcStatus): Record<string, string> {
  const message = status.message === '' ? {} : { 'grpc-message': encodeGrpcMessage(status.message) };
  return { 'grpc-status': String(status.code), ...message };
}

/** Whether a message of istiod is partly written, so that nothing else may be written now. */
type Position = 'boundary' | 'inside-message';

/**
 * The only writer of one stream to Envoy. Relayed bytes go through as they came; messages made by the agent wait for
 * the end of the message that is being relayed.
 */
export class DownstreamWriter {
  readonly #stream: ServerHttp2Stream;
  readonly #maxQueuedBytes: number;
  #position: Position = 'boundary';
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  readonly #gathered = new GatheredBytes();
  /** The end of a message is among them: they must not wait for more. */
  #isEndGathered = false;
  #isFinished = false;

  /** `maxQueuedBytes` bounds what messages of the agent may keep in memory while Envoy does not read. */
  constructor(
    stream: ServerHttp2Stream,
    options: { readonly maxQueuedBytes: number; readonly onDrain: () => void },
  ) {
    this.#stream = stream;
    this.#maxQueuedBytes = options.maxQueuedBytes;
    stream.on('drain', options.onDrain);
  }

  /** True while Envoy takes no more: the source must be paused until `onDrain`. */
  get isBlocked(): boolean {
    return this.#stream.writableNeedDrain && this.#stream.writableLength >= pauseBytes;
  }

  /** Starts a relayed message with its framing. Parts follow with `relay`, then `endMessage`. */
  beginMessage(header: Buffer): void {
    this.#position = 'inside-message';
    this.relay(header);
  }

  /** Adds bytes of the message. Nothing is copied. */
  relay(part: Buffer): void {
    this.#gathered.add(part);
    if (this.#gathered.sizeBytes >= gatherBytes) this.#flush();
  }

  endMessage(): void {
    this.#position = 'boundary';
    this.#isEndGathered = true;
    if (this.#queue.length > 0) this.#writeQueue();
  }

  /** To be called after each chunk of the source: writes all messages that ended in it at once. */
  endChunk(): void {
    if (this.#isEndGathered) this.#flush();
  }

  /** Queues a whole message of the agent. False: it does not fit under the bound and was not queued. */
  enqueue(message: Uint8Array): boolean {
    if (this.#isFinished) return true;
    const queuedBytes = this.#queuedBytes + this.#stream.writableLength;
    if (queuedBytes + message.byteLength > this.#maxQueuedBytes) return false;
    this.#queue.push(message);
    this.#queuedBytes += message.byteLength;
    if (this.#position === 'boundary') this.#writeQueue();
    return true;
  }

  /** Sends the status after what was written; messages still queued are dropped. Only the first call counts. */
  finish(status: GrpcStatus): void {
    if (this.#isFinished) return;
    this.#flush();
    this.#isFinished = true;
    this.#queue = [];
    const stream = this.#stream;
    if (!stream.headersSent) {
      rejectStream(stream, status);
      return;
    }
    if (stream.destroyed || stream.closed) return;
    stream.once('wantTrailers', () => {
      if (stream.destroyed || stream.closed) return;
      stream.sendTrailers(statusHeaders(status));
      // Node submits the trailers in the next round; close the client's half after them.
      setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
    });
    stream.end();
  }

  #flush(): void {
    this.#isEndGathered = false;
    this.#gathered.writeTo(this.#stream, this.#open);
  }

  #writeQueue(): void {
    this.#flush();
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const message of queue) {
      for (const part of encodeFrame(message)) if (this.#open()) this.#stream.write(part);
    }
  }

  /** False when nothing may be written any more. The first time it sends the headers. */
  readonly #open = (): boolean => {
    const stream = this.#stream;
    if (this.#isFinished || stream.destroyed || stream.closed) return false;
    if (!stream.headersSent) stream.respond(responseHeaders, { waitForTrailers: true });
    return true;
  };
}
