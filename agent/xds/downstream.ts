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
import type { XdsConfig } from '../config/agent-config.ts';
import { describeError, type Logger } from '../log.ts';
import { rejectStream } from './downstream-writer.ts';
import { grpcCode } from './grpc-status.ts';
import type { StreamKind } from './interceptor.ts';
import { Keepalive } from './keepalive.ts';
import { methodPaths } from './request-metadata.ts';
import { maxSessionMemoryMb, windowBytes } from './transport-settings.ts';

/** Mode of the socket's folder when it has to be made (`pkg/uds/listener.go`). */
const folderMode = 0o750;
/** For `chown`: only the group changes. */
const keepOwner = -1;

/** The socket for Envoy could not be made: the agent cannot work. The message names path and step. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly code: 'remove' | 'listen' | 'permission';

  constructor(code: ListenError['code'], message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

export type ListenerConfig = Pick<
  XdsConfig,
  | 'socketPath'
  | 'socketMode'
  | 'socketGroupId'
  | 'maxConcurrentStreams'
  | 'keepaliveIntervalMs'
  | 'keepaliveTimeoutMs'
>;

/** The HTTP/2 server on the Unix socket: finds the ADS streams among what clients send. */
export class DownstreamListener {
  readonly #config: ListenerConfig;
  readonly #onStream: (kind: StreamKind, stream: ServerHttp2Stream) => void;
  readonly #log: Logger;
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** A session that is closed waits for its peer; only the socket can be cut. */
  readonly #sockets = new Set<Socket>();
  #isListening = false;

  constructor(
    config: ListenerConfig,
    options: {
      readonly onStream: (kind: StreamKind, stream: ServerHttp2Stream) => void;
      readonly log: Logger;
    },
  ) {
    this.#config = config;
    this.#onStream = options.onStream;
    this.#log = options.log;
    this.#server = createServer({
      settings: { initialWindowSize: windowBytes, maxConcurrentStreams: config.maxConcurrentStreams },
      maxSessionMemory: maxSessionMemoryMb,
    });
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#server.on('session', (session) => this.#onSession(session));
    this.#server.on('stream', (stream, headers) => this.#onNewStream(stream, headers));
    this.#server.on('sessionError', (error) => this.#logFailure('connection of Envoy failed', error));
    this.#server.on('error', (error) => this.#logFailure('XDS server failed', error));
  }

  /** Resolves when clients can connect. Throws ListenError. */
  async listen(): Promise<void> {
    const { socketPath, socketMode, socketGroupId } = this.#config;
    await this.#removeOldFile();
    await this.#prepareFolder();
    await this.#bind();
    try {
      if (socketGroupId !== undefined) await chown(socketPath, keepOwner, socketGroupId);
      await chmod(socketPath, socketMode);
    } catch (error) {
      await this.close({ graceMs: 0 });
      throw new ListenError(
        'permission',
        `failed to update "${socketPath}" permission: ${describeError(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  /** Closes the connections, at once when idle and after `graceMs` at the latest, and removes the socket file. */
  async close(options: { readonly graceMs: number }): Promise<void> {
    if (!this.#isListening) return;
    this.#isListening = false;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const session of this.#sessions) session.close();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, options.graceMs);
    await closed;
    clearTimeout(timer);
    await rm(this.#config.socketPath, { force: true });
  }

  async #removeOldFile(): Promise<void> {
    const { socketPath } = this.#config;
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
    const { socketPath, socketGroupId } = this.#config;
    const folder = dirname(socketPath);
    try {
      const firstMade = await mkdir(folder, { recursive: true, mode: folderMode });
      if (firstMade === undefined || socketGroupId === undefined) return;
      // Envoy must be able to pass through what was made here.
      for (let path = folder; path.length >= firstMade.length; path = dirname(path)) {
        await chown(path, keepOwner, socketGroupId);
      }
    } catch (error) {
      this.#log.warn('failed to create the folder of the XDS socket', {
        folder,
        reason: describeError(error),
      });
    }
  }

  async #bind(): Promise<void> {
    const { socketPath } = this.#config;
    await new Promise<void>((resolve, reject) => {
      const onError = (error: Error): void => {
        const message = `failed to listen on unix socket "${socketPath}": ${describeError(error)}`;
        reject(new ListenError('listen', message, { cause: error }));
      };
      this.#server.once('error', onError);
      this.#server.listen(socketPath, () => {
        this.#server.off('error', onError);
        resolve();
      });
    });
    this.#isListening = true;
  }

  #onSession(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.setLocalWindowSize(windowBytes);
    session.on('error', (error) => this.#logFailure('connection of Envoy failed', error));
    new Keepalive(session, {
      intervalMs: this.#config.keepaliveIntervalMs,
      timeoutMs: this.#config.keepaliveTimeoutMs,
      onDead: () => {
        this.#log.warn('Envoy did not answer a keepalive PING: its connection is closed', {
          timeoutMs: this.#config.keepaliveTimeoutMs,
        });
        session.destroy();
      },
    });
    session.once('close', () => this.#sessions.delete(session));
  }

  #onNewStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // A stream error without a listener ends the process. What it means shows in `close`.
    stream.on('error', (error) => this.#logFailure('stream of a client failed', error));
    const path = headers[':path'] ?? '';
    const contentType = headers['content-type'] ?? '';
    if (headers[':method'] !== 'POST') {
      stream.respond({ ':status': 405, allow: 'POST' }, { endStream: true });
    } else if (!/^application\/grpc($|[+;])/.test(contentType)) {
      stream.respond({ ':status': 415 }, { endStream: true });
    } else if (path === methodPaths.sotw) {
      this.#onStream('sotw', stream);
    } else if (path === methodPaths.delta) {
      this.#onStream('delta', stream);
    } else {
      this.#log.debug('a client called an unknown method', { path });
      rejectStream(stream, {
        code: grpcCode.unimplemented,
        message: `unknown method ${path}: the agent serves ${methodPaths.sotw} and ${methodPaths.delta}`,
      });
    }
  }

  #logFailure(message: string, error: Error): void {
    this.#log.debug(message, { reason: describeError(error) });
  }
}
