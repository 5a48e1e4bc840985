import { chmod, chown, mkdir, rm, unlink } from 'node:fs/promises';
import {
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { CodedError } from '../coded-error.ts';
import { describeError, type Logger } from '../log.ts';

/** Mode of the socket's folder when it has to be made (`pkg/uds/listener.go`). */
const folderMode = 0o750;
/** For `chown`: only the group changes. */
const keepOwner = -1;
/**
 * The most streams of one connection, whatever is configured. A stream costs some 8 KB here, so the stock agent's
 * 100,000 would let one client take 800 MB. A client with more to ask opens another connection.
 */
const maxStreamsOfConnection = 1_000;

/** The socket could not be made. The message names path and step; nothing is left open. */
export class ListenError extends CodedError<'remove' | 'listen' | 'permission'> {
  override readonly name = 'ListenError';
}

export interface GrpcListenerOptions {
  /** For log lines: `XDS`, `SDS`. */
  readonly name: string;
  /** Absolute. */
  readonly socketPath: string;
  /** Permission bits of the socket. */
  readonly socketMode: number;
  /** Group that the socket, and folders made for it, are given to; undefined: the process's own. */
  readonly socketGroupId?: number | undefined;
  /** On one connection; 1,000 at the most. */
  readonly maxConcurrentStreams: number;
  /** Connections at once; undefined: no bound. */
  readonly maxConnectionCount?: number;
  /**
   * Node counts what a session buffers, frames not yet taken by the socket included, and refuses streams over this
   * (default 10). The bounds of the callee are tighter; this only must not come first. In MB.
   */
  readonly maxSessionMemoryMb: number;
  /** Receive window of a connection and of each stream, in bytes; undefined: that of HTTP/2, 64 KiB. */
  readonly windowBytes?: number;
  /** A client has connected. */
  readonly onSession?: (session: ServerHttp2Session) => void;
  /** A gRPC call has come. The stream is the callee's; its errors are heard. */
  readonly onCall: (path: string, stream: ServerHttp2Stream) => void;
  readonly log: Logger;
}

/** A gRPC server on a Unix socket: connections, and the streams that are gRPC calls. */
export class GrpcListener {
  readonly #options: GrpcListenerOptions;
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** A session that is closed waits for its peer; only the socket can be cut. */
  readonly #sockets = new Set<Socket>();

  constructor(options: GrpcListenerOptions) {
    this.#options = options;
    const { maxConcurrentStreams, maxConnectionCount, maxSessionMemoryMb, windowBytes } = options;
    const window = windowBytes === undefined ? {} : { initialWindowSize: windowBytes };
    this.#server = createServer({
      settings: { ...window, maxConcurrentStreams: Math.min(maxConcurrentStreams, maxStreamsOfConnection) },
      maxSessionMemory: maxSessionMemoryMb,
    });
    if (maxConnectionCount !== undefined) this.#server.maxConnections = maxConnectionCount;
    this.#server.on('drop', () => {
      options.log.warn(`a connection to the ${options.name} socket was refused: too many are open`, {
        maxConnectionCount,
      });
    });
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#server.on('session', (session) => this.#onSession(session));
    this.#server.on('stream', (stream, headers) => this.#onStream(stream, headers));
    this.#server.on('sessionError', (error) => this.#logFailure('connection of a client failed', error));
    this.#server.on('error', (error) => this.#logFailure(`${options.name} server failed`, error));
  }

  /** Replaces whatever file is at the path. Resolves when clients can connect. Throws ListenError. */
  async listen(): Promise<void> {
    const { socketPath, socketMode, socketGroupId } = this.#options;
    await this.#removeOldFile();
    await this.#prepareFolder();
    await this.#bind();
    try {
      if (socketGroupId !== undefined) await chown(socketPath, keepOwner, socketGroupId);
      await chmod(socketPath, socketMode);
    } catch (error) {
      await this.close({ graceMs: 0 });
      const message = `failed to update "${socketPath}" permission: ${describeError(error)}`;
      throw new ListenError('permission', message, { cause: error });
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

  async #removeOldFile(): Promise<void> {
    const { socketPath } = this.#options;
    try {
      await unlink(socketPath);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw new ListenError('remove', `failed to remove unix://${socketPath}: ${describeError(error)}`, {
        cause: error,
      });
    }
  }

  async #prepareFolder(): Promise<void> {
    const { name, socketPath, socketGroupId, log } = this.#options;
    const folder = dirname(socketPath);
    try {
      const firstMade = await mkdir(folder, { recursive: true, mode: folderMode });
      if (firstMade === undefined || socketGroupId === undefined) return;
      // The clients must be able to pass through what was made here.
      for (let path = folder; path.length >= firstMade.length; path = dirname(path)) {
        await chown(path, keepOwner, socketGroupId);
      }
    } catch (error) {
      // What it means shows when the socket is bound.
      log.warn(`failed to create the folder of the ${name} socket`, { folder, reason: describeError(error) });
    }
  }

  async #bind(): Promise<void> {
    const { socketPath } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen(socketPath, () => resolve());
    try {
      await promise;
    } catch (error) {
      const message = `failed to listen on unix socket "${socketPath}": ${describeError(error)}`;
      throw new ListenError('listen', message, { cause: error });
    } finally {
      this.#server.off('error', reject);
    }
  }

  #onSession(session: ServerHttp2Session): void {
    const { windowBytes, onSession } = this.#options;
    this.#sessions.add(session);
    if (windowBytes !== undefined) session.setLocalWindowSize(windowBytes);
    session.on('error', (error) => this.#logFailure('connection of a client failed', error));
    session.once('close', () => this.#sessions.delete(session));
    onSession?.(session);
  }

  #onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // A stream error without a listener ends the process. What it means shows in `close`.
    stream.on('error', (error) => this.#logFailure('stream of a client failed', error));
    // Answered one turn of the loop later: until then it counts against the bound of its connection. One turn reads
    // megabytes from a socket, and streams that were over at once would pile up in it without a bound.
    setImmediate(() => {
      if (!stream.destroyed && !stream.closed) this.#answer(stream, headers);
    });
  }

  #answer(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
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
