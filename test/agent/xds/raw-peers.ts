import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2';
import { type AddressInfo, connect as connectSocket, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { EventQueue } from './event-queue.ts';

export const service = '/envoy.service.discovery.v3.AggregatedDiscoveryService';
export const deltaPath = `${service}/DeltaAggregatedResources`;
export const sotwPath = `${service}/StreamAggregatedResources`;

/** gRPC framing, written anew here so that the tests do not rely on the code under test. */
export function frame(message: Uint8Array, flag = 0): Buffer {
  const header = Buffer.alloc(5);
  header[0] = flag;
  header.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([header, message]);
}

/** Collects whole messages of a stream. */
export class MessageReader {
  readonly messages = new EventQueue<Buffer>();
  #chunks: Buffer[] = [];
  #heldBytes = 0;
  #wantedBytes = 5;
  receivedBytes = 0;

  push(chunk: Buffer): void {
    this.receivedBytes += chunk.length;
    this.#heldBytes += chunk.length;
    this.#chunks.push(chunk);
    while (this.#heldBytes >= this.#wantedBytes) {
      const held = Buffer.concat(this.#chunks);
      const end = 5 + held.readUInt32BE(1);
      const isWhole = held.length >= end;
      if (isWhole) this.messages.push(Buffer.from(held.subarray(5, end)));
      const rest = isWhole ? held.subarray(end) : held;
      this.#chunks = [rest];
      this.#heldBytes = rest.length;
      this.#wantedBytes = isWhole ? 5 : end;
    }
  }
}

export interface IstiodStream {
  readonly stream: ServerHttp2Stream;
  readonly session: ServerHttp2Session;
  readonly headers: IncomingHttpHeaders;
  readonly requests: EventQueue<Buffer>;
  /** Resolves with the RST_STREAM code, 0 for a regular end. */
  readonly closed: Promise<number>;
  /** Sends whole messages. */
  send(...messages: Uint8Array[]): void;
  end(trailers: OutgoingHttpHeaders): void;
}

/** A raw HTTP/2 server in the place of istiod. */
export interface RawIstiod {
  readonly address: string;
  readonly server: Http2Server;
  readonly streams: EventQueue<IstiodStream>;
  readonly sockets: Set<Socket>;
}

export async function startRawIstiod(t: TestContext, options: ServerOptions = {}): Promise<RawIstiod> {
  const server = createServer({ settings: { initialWindowSize: 1024 * 1024 }, ...options });
  const streams = new EventQueue<IstiodStream>();
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('sessionError', () => undefined);
  server.on('session', (session) => session.on('error', () => undefined));
  server.on('stream', (stream, headers) => streams.push(istiodStream(stream, headers)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, server, streams, sockets };
}

function istiodStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): IstiodStream {
  const reader = new MessageReader();
  stream.on('error', () => undefined);
  stream.on('data', (chunk: Buffer) => reader.push(chunk));
  const respond = (): void => {
    if (stream.headersSent) return;
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  };
  const { session } = stream;
  if (session === undefined) throw new Error('stream without a session');
  return {
    stream,
    session: session as ServerHttp2Session,
    headers,
    requests: reader.messages,
    closed: new Promise((resolve) => {
      stream.once('close', () => resolve(stream.rstCode));
    }),
    send(...messages) {
      respond();
      for (const message of messages) stream.write(frame(message));
    },
    end(trailers) {
      respond();
      stream.once('wantTrailers', () => stream.sendTrailers(trailers));
      stream.end();
    },
  };
}

export interface EnvoyEnd {
  readonly httpStatus: number | undefined;
  /** From trailers or a trailers-only answer. */
  readonly grpcStatus: number | undefined;
  readonly grpcMessage: string | undefined;
  readonly rstCode: number;
}

/** A raw HTTP/2 client in the place of Envoy. */
export interface RawEnvoy {
  readonly session: ClientHttp2Session;
  readonly socket: Socket;
  readonly stream: ClientHttp2Stream;
  readonly responses: EventQueue<Buffer>;
  readonly reader: MessageReader;
  readonly ended: Promise<EnvoyEnd>;
  send(...messages: Uint8Array[]): void;
}

export function openRawEnvoy(
  t: TestContext,
  socketPath: string,
  options: {
    readonly headers?: OutgoingHttpHeaders;
    readonly isReading?: boolean;
    readonly windowBytes?: number;
  } = {},
): RawEnvoy {
  const socket = connectSocket(socketPath);
  socket.on('error', () => undefined);
  const session = connect('http://xds-grpc', {
    createConnection: () => socket,
    settings: { initialWindowSize: options.windowBytes ?? 1024 * 1024, enablePush: false },
  });
  session.on('error', () => undefined);
  t.after(() => {
    session.destroy();
    socket.destroy();
  });
  const stream = session.request(
    {
      ':method': 'POST',
      ':path': deltaPath,
      te: 'trailers',
      'content-type': 'application/grpc',
      ...options.headers,
    },
    { endStream: false },
  );
  const reader = new MessageReader();
  let answer: IncomingHttpHeaders & { ':status'?: number | undefined } = {};
  let trailers: IncomingHttpHeaders = {};
  stream.on('response', (headers) => {
    answer = headers;
  });
  stream.on('trailers', (headers) => {
    trailers = headers;
  });
  stream.on('error', () => undefined);
  if (options.isReading !== false) stream.on('data', (chunk: Buffer) => reader.push(chunk));
  return {
    session,
    socket,
    stream,
    responses: reader.messages,
    reader,
    ended: new Promise((resolve) => {
      stream.once('close', () => {
        const status = trailers['grpc-status'] ?? answer['grpc-status'];
        const message = trailers['grpc-message'] ?? answer['grpc-message'];
        resolve({
          httpStatus: answer[':status'],
          grpcStatus: status === undefined ? undefined : Number(status),
          grpcMessage: typeof message === 'string' ? decodeURIComponent(message) : undefined,
          rstCode: stream.rstCode,
        });
      });
    }),
    send(...messages) {
      for (const message of messages) stream.write(frame(message));
    },
  };
}
