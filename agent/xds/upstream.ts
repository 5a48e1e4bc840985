import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import type { Socket } from 'node:net';
import { DialError } from './dial-error.ts';
import { readDirectly } from './direct-reading.ts';
import { encodeFrame } from './frames.ts';
import { GatheredBytes } from './gathered-bytes.ts';
import { grpcCode } from './grpc-status.ts';
import { Keepalive } from './keepalive.ts';
import { maxSessionMemoryMb, windowBytes } from './transport-settings.ts';
import { checkResponseHeaders, type Goaway, readGrpcStatus, type UpstreamEnd } from './upstream-end.ts';

/** What the owner of a call is told. `onEnd` comes exactly once and last, unless the owner cancels first. */
export interface UpstreamEvents {
  /** istiod's HTTP/2 settings have come: it is really there. */
  onReady(): void;
  /** The buffer is the owner's. */
  onData(chunk: Buffer): void;
  /** After a write returned false: there is room again. */
  onDrain(): void;
  onEnd(end: UpstreamEnd): void;
}

export interface UpstreamOptions {
  readonly headers: OutgoingHttpHeaders;
  /** `host:port` for messages. */
  readonly address: string;
  /** How long istiod may take to send its HTTP/2 settings. */
  readonly settingsTimeoutMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
}

/**
 * One ADS stream to istiod on a connection of its own. Requests may be written at once: Go servers send response
 * headers only with the first response, so nothing here waits for them.
 */
export class UpstreamCall {
  /** Resolves when the socket is gone. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #options: UpstreamOptions;
  readonly #events: UpstreamEvents;
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #gathered = new GatheredBytes();
  readonly #keepalive: Keepalive;
  readonly #settingsTimer: NodeJS.Timeout;
  #isReady = false;
  #isOver = false;
  #status: UpstreamEnd | undefined;
  #connectionError: Error | undefined;
  #goaway: Goaway | undefined;

  /** Takes over a connected socket. Throws what Node throws for headers it cannot send; the socket is destroyed then. */
  constructor(socket: Socket, options: UpstreamOptions, events: UpstreamEvents) {
    this.#socket = socket;
    this.#options = options;
    this.#events = events;
    this.closed = new Promise((resolve) => {
      socket.once('close', () => resolve());
    });
    socket.on('error', (error) => this.#noteConnectionError(error));
    // The address is not used: the socket is there, and the pseudo headers are given.
    this.#session = connect('http://istiod', {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: windowBytes },
      maxSessionMemory: maxSessionMemoryMb,
    });
    this.#session.on('error', (error) => this.#noteConnectionError(error));
    try {
      this.#stream = this.#session.request(options.headers, { endStream: false });
    } catch (error) {
      this.#disconnect();
      throw error;
    }
    this.#watchSession();
    this.#watchStream();
    this.#settingsTimer = setTimeout(() => this.#onSettingsTimeout(), options.settingsTimeoutMs);
    this.#keepalive = new Keepalive(this.#session, {
      intervalMs: options.keepaliveIntervalMs,
      timeoutMs: options.keepaliveTimeoutMs,
      onDead: () => this.#finish({ kind: 'silent', timeoutMs: options.keepaliveTimeoutMs }),
    });
  }

  /** Bytes written but not yet taken by the connection. */
  get queuedBytes(): number {
    return this.#stream.writableLength;
  }

  /** True after a write until `onDrain`: write no more than must be. */
  get isBlocked(): boolean {
    return this.#stream.writableNeedDrain;
  }

  /** Sends one whole message, behind what is relayed. The buffer must not be changed afterwards. */
  write(message: Uint8Array): void {
    this.endChunk();
    for (const part of encodeFrame(message)) if (this.#isOpen()) this.#stream.write(part);
  }

  /** Adds bytes of Envoy's, framing and all: whole messages, in any parts. They are sent with `endChunk`. */
  relay(part: Buffer): void {
    this.#gathered.add(part);
  }

  /** To be called after each chunk of Envoy's: sends all that was relayed of it at once. */
  endChunk(): void {
    this.#gathered.writeTo(this.#stream, this.#isOpen);
  }

  /** Stops `onData`; istiod may send up to one window more, which stays in memory. */
  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  /** Ends stream and connection from our side. No event comes any more. */
  cancel(): void {
    this.#finish(undefined);
  }

  readonly #isOpen = (): boolean => !this.#isOver && !this.#stream.closed && !this.#stream.destroyed;

  #watchSession(): void {
    const session = this.#session;
    session.once('connect', () => {
      if (!session.destroyed) session.setLocalWindowSize(windowBytes);
    });
    session.once('remoteSettings', () => {
      if (this.#isOver) return;
      this.#isReady = true;
      clearTimeout(this.#settingsTimer);
      this.#events.onReady();
    });
    session.on('goaway', (code, _lastStreamId, data) => {
      this.#goaway ??= {
        code,
        text: data === undefined ? '' : Buffer.from(data).toString('utf8').slice(0, 256),
      };
    });
    session.once('close', () => this.#finishLater());
  }

  #watchStream(): void {
    const stream = this.#stream;
    stream.on('response', (headers, flags) => this.#onResponse(headers, flags));
    stream.on('trailers', (headers) => {
      this.#status = this.#statusIn(headers);
    });
    readDirectly(stream);
    stream.on('data', (chunk: Buffer) => {
      this.#keepalive.noteActivity();
      if (!this.#isOver) this.#events.onData(chunk);
    });
    stream.on('drain', () => {
      if (!this.#isOver) this.#events.onDrain();
    });
    stream.once('end', () => this.#finishLater());
    stream.once('close', () => this.#finishLater());
    // What went wrong shows in the codes that `#endOfStream` reads; a stream error without a listener ends the process.
    stream.on('error', () => this.#finishLater());
  }

  #onResponse(headers: IncomingHttpHeaders & IncomingHttpStatusHeader, flags: number): void {
    const failure = checkResponseHeaders(headers[':status'], headers);
    if (failure !== undefined) {
      this.#finish({ kind: 'protocol', status: failure });
    } else if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) {
      this.#status = this.#statusIn(headers);
    }
  }

  #statusIn(headers: IncomingHttpHeaders): UpstreamEnd {
    const status = readGrpcStatus(headers);
    if (status !== undefined) return { kind: 'status', status };
    const message = 'istiod ended the stream with trailers that hold no grpc-status';
    return { kind: 'protocol', status: { code: grpcCode.internal, message } };
  }

  #noteConnectionError(error: Error): void {
    this.#connectionError ??= error;
  }

  #onSettingsTimeout(): void {
    const { address, settingsTimeoutMs } = this.#options;
    const message = `istiod at ${address} is connected, but sent no HTTP/2 settings within ${settingsTimeoutMs} ms: is the address that of istiod's gRPC port?`;
    this.#finish({ kind: 'dial-failed', error: new DialError('timeout', message) });
  }

  /** The events of stream, session and socket come in no fixed order: decide when this round of them is over. */
  #finishLater(): void {
    if (!this.#isOver) setImmediate(() => this.#finish(this.#endOfStream()));
  }

  #endOfStream(): UpstreamEnd {
    if (this.#status !== undefined) return this.#status;
    const isDisconnected =
      this.#connectionError !== undefined || this.#session.destroyed || this.#socket.destroyed;
    if (isDisconnected && !this.#isReady) {
      const message = `istiod at ${this.#options.address} closed the connection before any HTTP/2 settings: error reading server preface`;
      const cause = this.#connectionError ?? new Error('EOF');
      return { kind: 'dial-failed', error: new DialError('preface', message, { cause }) };
    }
    if (isDisconnected) {
      return { kind: 'disconnected', error: this.#connectionError, goaway: this.#goaway };
    }
    if (this.#stream.closed) return { kind: 'reset', code: this.#stream.rstCode };
    const message = 'istiod ended the stream without a status';
    return { kind: 'protocol', status: { code: grpcCode.internal, message } };
  }

  /** `end` is undefined when the owner cancels, who then hears no more. */
  #finish(end: UpstreamEnd | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#settingsTimer);
    this.#keepalive.stop();
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
    this.#disconnect();
    if (end !== undefined) this.#events.onEnd(end);
  }

  /** Not at once: Node throws from a session that is destroyed in the tick that made it (`core.js`, buffered data). */
  #disconnect(): void {
    setImmediate(() => {
      this.#session.destroy();
      // A session whose last frames cannot be written would keep the socket.
      setImmediate(() => this.#socket.destroy());
    });
  }
}
