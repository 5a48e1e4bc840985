import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { describeError } from '../log.ts';
import { frameMessage, MessageFrames } from './message-frames.ts';
import type { DnsListenerOptions } from './udp-listener.ts';

/** Local applications; each holds a socket and up to 64 KB. */
const maxConnectionCount = 256;
/** Queries of one connection that wait at once; more are not read. */
const maxRunningCount = 16;
/** A connection without a whole query for so long is closed (RFC 7766 6.2.3: a few seconds). */
const idleTimeoutMs = 10_000;

/** DNS over TCP on one address. Queries on one connection may be answered out of order (RFC 7766 6.2.1.1). */
export class TcpListener {
  readonly #options: DnsListenerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: DnsListenerOptions) {
    this.#options = options;
    // A client that has sent its last query still waits for answers.
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = maxConnectionCount;
  }

  /** The port that is open. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Throws what the system says. */
  async listen(): Promise<void> {
    const { endpoint, log } = this.#options;
    this.#server.listen({ host: endpoint.address, port: endpoint.port });
    await once(this.#server, 'listening');
    this.#server.on('error', (error) =>
      log.warn('DNS listener error', { protocol: 'tcp', error: describeError(error) }),
    );
  }

  /** Breaks open connections. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    const connection = new TcpConnection(socket, this.#options);
    socket.once('close', () => {
      connection.stop();
      this.#sockets.delete(socket);
    });
  }
}

/** One client. It is read only as fast as it takes its answers. */
class TcpConnection {
  readonly #socket: Socket;
  readonly #options: DnsListenerOptions;
  readonly #frames = new MessageFrames();
  readonly #waiting: Buffer[] = [];
  readonly #idle: NodeJS.Timeout;
  #runningCount = 0;
  #isEnded = false;

  constructor(socket: Socket, options: DnsListenerOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#idle = setTimeout(() => this.#onIdle(), idleTimeoutMs);
    // The close event that follows says it all.
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.#waiting.push(...this.#frames.push(chunk));
      this.#startWaiting();
    });
    socket.on('drain', () => this.#startWaiting());
    socket.once('end', () => {
      this.#isEnded = true;
      this.#endIfDone();
    });
  }

  stop(): void {
    clearTimeout(this.#idle);
    this.#waiting.length = 0;
  }

  /** A chunk may hold thousands of small queries: those that must wait hold back the reading of more. */
  #startWaiting(): void {
    while (this.#runningCount < maxRunningCount && !this.#socket.writableNeedDrain) {
      const message = this.#waiting.shift();
      if (message === undefined) break;
      this.#runningCount += 1;
      this.#idle.refresh();
      void this.#answer(message);
    }
    if (this.#waiting.length > 0) this.#socket.pause();
    else this.#socket.resume();
  }

  async #answer(message: Buffer): Promise<void> {
    const answer = await this.#options.handle(message, this.#socket.remotePort ?? 0);
    this.#runningCount -= 1;
    if (this.#socket.destroyed) return;
    this.#idle.refresh();
    if (answer !== undefined) this.#socket.write(frameMessage(answer));
    this.#startWaiting();
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (this.#isEnded && this.#runningCount === 0 && this.#waiting.length === 0) this.#socket.end();
  }

  #onIdle(): void {
    if (this.#runningCount > 0) this.#idle.refresh();
    else this.#socket.destroy();
  }
}
