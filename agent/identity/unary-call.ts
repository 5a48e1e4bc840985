import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import type { Socket } from 'node:net';
import { encodeFrame, FrameSplitter } from '../xds/frames.ts';
import { type GrpcStatus, grpcCode } from '../xds/grpc-status.ts';
import { Keepalive } from '../xds/keepalive.ts';
import {
  checkResponseHeaders,
  readGrpcStatus,
  statusOfResponseFault,
  statusOfUpstreamEnd,
} from '../xds/upstream-end.ts';

export interface UnaryCallOptions {
  readonly headers: OutgoingHttpHeaders;
  /** The one request message, without framing. */
  readonly message: Buffer;
  readonly maxAnswerBytes: number;
  /** From here to the end of the answer. */
  readonly timeoutMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** What came of a call: the one answer message, or the status it failed with. */
export type UnaryOutcome =
  | { readonly kind: 'answer'; readonly message: Buffer }
  | { readonly kind: 'failed'; readonly status: GrpcStatus };

/**
 * One gRPC call on a connected socket, which it takes over and closes at the end. A failure of transport or server is
 * an outcome; only an abort rejects, with the signal's reason.
 */
export async function callUnary(socket: Socket, options: UnaryCallOptions): Promise<UnaryOutcome> {
  const closed = new Promise<void>((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once('close', () => resolve());
  });
  const call = new UnaryCall(socket, options);
  try {
    return await call.outcome;
  } finally {
    call.disconnect();
    await closed;
  }
}

class UnaryCall {
  readonly outcome: Promise<UnaryOutcome>;
  readonly #socket: Socket;
  readonly #options: UnaryCallOptions;
  readonly #session: ClientHttp2Session;
  readonly #keepalive: Keepalive;
  readonly #timer: NodeJS.Timeout;
  readonly #settle: PromiseWithResolvers<UnaryOutcome>;
  readonly #onAbort: () => void;
  #parts: Buffer[] = [];
  #answer: Buffer | undefined;
  #status: GrpcStatus | undefined;
  #connectionError: Error | undefined;

  constructor(socket: Socket, options: UnaryCallOptions) {
    const { signal, timeoutMs } = options;
    this.#socket = socket;
    this.#options = options;
    this.#settle = Promise.withResolvers<UnaryOutcome>();
    this.outcome = this.#settle.promise;
    this.#onAbort = () => this.#settle.reject(signal.reason);
    signal.addEventListener('abort', this.#onAbort, { once: true });
    socket.on('error', (error) => this.#noteConnectionError(error));
    // The address is not used: the socket is there, and the pseudo headers are given.
    this.#session = connect('http://ca', {
      createConnection: () => socket,
      settings: { enablePush: false },
    });
    this.#session.on('error', (error) => this.#noteConnectionError(error));
    this.#session.once('close', () => this.#endLater());
    this.#keepalive = new Keepalive(this.#session, {
      intervalMs: options.keepaliveIntervalMs,
      timeoutMs: options.keepaliveTimeoutMs,
      onDead: () =>
        this.#fail(statusOfUpstreamEnd({ kind: 'silent', timeoutMs: options.keepaliveTimeoutMs })),
    });
    this.#timer = setTimeout(() => {
      this.#fail({
        code: grpcCode.deadlineExceeded,
        message: `no complete answer within ${timeoutMs} ms`,
      });
    }, timeoutMs);
    if (signal.aborted) this.#onAbort();
    else this.#send();
  }

  /** Not at once: Node throws from a session that is destroyed in the tick that made it (`core.js`, buffered data). */
  disconnect(): void {
    clearTimeout(this.#timer);
    this.#keepalive.stop();
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    setImmediate(() => {
      this.#session.destroy();
      // A session whose last frames cannot be written would keep the socket.
      setImmediate(() => this.#socket.destroy());
    });
  }

  #send(): void {
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(this.#options.headers, { endStream: false });
    } catch (error) {
      this.#noteConnectionError(error as Error);
      this.#endLater();
      return;
    }
    stream.on('response', (headers, flags) => {
      const failure = checkResponseHeaders(headers[':status'], headers);
      if (failure !== undefined) this.#fail(failure);
      else if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) this.#status = readGrpcStatus(headers);
    });
    stream.on('trailers', (headers) => {
      this.#status = readGrpcStatus(headers);
    });
    const splitter = this.#makeSplitter();
    stream.on('data', (chunk: Buffer) => {
      this.#keepalive.noteActivity();
      const fault = splitter.push(chunk);
      if (fault !== undefined) this.#fail(statusOfResponseFault(fault));
    });
    stream.once('end', () => this.#endLater(stream));
    stream.once('close', () => this.#endLater(stream));
    // What went wrong shows in the codes that `#end` reads; a stream error without a listener ends the process.
    stream.on('error', () => this.#endLater(stream));
    for (const part of encodeFrame(this.#options.message)) stream.write(part);
    stream.end();
  }

  #makeSplitter(): FrameSplitter {
    return new FrameSplitter({
      maxMessageBytes: this.#options.maxAnswerBytes,
      sink: {
        onMessageStart: () => {
          if (this.#answer !== undefined) this.#failInternal('more than one answer to one request');
        },
        onMessageData: (part) => this.#parts.push(part),
        onMessageEnd: () => {
          this.#answer = Buffer.concat(this.#parts);
          this.#parts = [];
        },
      },
    });
  }

  #noteConnectionError(error: Error): void {
    this.#connectionError ??= error;
  }

  /** The events of stream, session and socket come in no fixed order: decide when this round of them is over. */
  #endLater(stream?: ClientHttp2Stream): void {
    setImmediate(() => this.#end(stream));
  }

  #end(stream: ClientHttp2Stream | undefined): void {
    if (this.#status !== undefined) {
      if (this.#status.code !== grpcCode.ok) this.#fail(this.#status);
      else if (this.#answer === undefined) this.#failInternal('status OK without an answer');
      else this.#settle.resolve({ kind: 'answer', message: this.#answer });
    } else if (this.#connectionError !== undefined || this.#session.destroyed || this.#socket.destroyed) {
      this.#fail(
        statusOfUpstreamEnd({ kind: 'disconnected', error: this.#connectionError, goaway: undefined }),
      );
    } else if (stream?.closed === true && stream.rstCode !== constants.NGHTTP2_NO_ERROR) {
      this.#fail(statusOfUpstreamEnd({ kind: 'reset', code: stream.rstCode }));
    } else {
      this.#failInternal('the stream ended without a status');
    }
  }

  #failInternal(message: string): void {
    this.#fail({ code: grpcCode.internal, message });
  }

  #fail(status: GrpcStatus): void {
    this.#settle.resolve({ kind: 'failed', status });
  }
}
