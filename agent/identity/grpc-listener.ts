import { chmod, mkdir, rm, unlink } from 'node:fs/promises';
import {
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { describeError, type Logger } from '../log.ts';
import { IdentityError } from './identity-error.ts';

/** Mode of the socket's folder when it has to be made (`pkg/uds/listener.go`). */
const folderMode = 0o750;
/** Envoy, or an application that takes its certificate here, may run as another user. */
const socketMode = 0o666;
/** As the stock agent (`security/pkg/nodeagent/sds/server.go`). */
const maxConcurrentStreams = 100_000;
/** Node refuses streams of a session that buffers more (default 10). Our own bounds are tighter. In MB. */
const maxSessionMemoryMb = 128;
/** Envoy has one or two connections; what a client beyond this has in mind is nothing good. */
const maxConnectionCount = 1000;

export interface GrpcListenerOptions {
  /** Absolute. */
  readonly socketPath: string;
  /** A gRPC call has come. The stream is the callee's; its errors are heard. */
  readonly onCall: (path: string, stream: ServerHttp2Stream) => void;
  readonly log: Logger;
}

/** A gRPC server on a Unix socket: connections, and streams that are gRPC calls. */
export class GrpcListener {
  readonly #options: GrpcListenerOptions;
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** A session that is closed waits for its peer; only the socket can be cut. */
  readonly #sockets = new Set<Socket>();

  constructor(options: GrpcListenerOptions) {
    this.#options = options;
    const server = createServer({
      settings: { maxConcurrentStreams },
      maxSessionMemory: maxSessionMemoryMb,
    });
    this.#server = server;
    server.maxConnections = maxConnectionCount;
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('error', (error) => this.#logFailure('connection of a client failed', error));
      session.once('close', () => this.#sessions.delete(session));
    });
    server.on('stream', (stream, headers) => this.#onStream(stream, headers));
    server.on('sessionError', (error) => this.#logFailure('connection of a client failed', error));
    server.on('error', (error) => this.#logFailure('SDS server failed', error));
  }

  /**
   * Replaces whatever file is at the path. Resolves when clients can connect. Throws IdentityError `socket`; nothing
   * is left open then.
   */
  async listen(): Promise<void> {
    const { socketPath, log } = this.#options;
    try {
      await unlink(socketPath).catch(ignoreAbsence);
      await mkdir(dirname(socketPath), { recursive: true, mode: folderMode }).catch((error: unknown) => {
        // What it means shows when the socket is bound.
        log.warn('failed to create the folder of the SDS socket', {
          path: socketPath,
          reason: describeError(error),
        });
      });
      await this.#bind();
      await chmod(socketPath, socketMode);
    } catch (error) {
      await this.close({ graceMs: 0 });
      const message = `failed to set up the SDS socket ${socketPath}: ${describeError(error)}; its folder must be writable`;
      throw new IdentityError('socket', message, { cause: error });
    }
  }

  /** Closes the connections, at once when idle and after `graceMs` at the latest, and removes the socket. Safe twice. */
  async close(options: { readonly graceMs: number }): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const session of this.#sessions) session.close();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, options.graceMs);
    await closed;
    clearTimeout(timer);
    await rm(this.#options.socketPath, { force: true });
  }

  async #bind(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen(this.#options.socketPath, () => resolve());
    try {
      await promise;
    } finally {
      this.#server.off('error', reject);
    }
  }

  #onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // A stream error without a listener ends the process. What it means shows in `close`.
    stream.on('error', (error) => this.#logFailure('stream of a client failed', error));
    if (headers[':method'] !== 'POST') {
      stream.respond({ ':status': 405, allow: 'POST' }, { endStream: true });
    } else if (!/^application\/grpc($|[+;])/.test(headers['content-type'] ?? '')) {
      stream.respond({ ':status': 415 }, { endStream: true });
    } else {
      this.#options.onCall(headers[':path'] ?? '', stream);
    }
  }

  #logFailure(message: string, error: Error): void {
    this.#options.log.debug(message, { reason: describeError(error) });
  }
}

function ignoreAbsence(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}
