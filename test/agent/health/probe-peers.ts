import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';
import { Authority } from '../../support/certificate-authority/authority.ts';

/** A peer of probes, closed when the test ends. */
export interface Peer {
  readonly port: number;
  /** Addresses its connections came from, one for each connection. */
  readonly sources: readonly (string | undefined)[];
  /** Connections that are open now. */
  readonly sockets: ReadonlySet<Socket>;
}

type Handle = (request: IncomingMessage, response: ServerResponse) => unknown;

async function listen(t: TestContext, server: Server, host: string): Promise<Peer> {
  const sources: (string | undefined)[] = [];
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sources.push(socket.remoteAddress);
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, host);
  await once(server, 'listening');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  });
  return { port: (server.address() as AddressInfo).port, sources, sockets };
}

export async function startHttpPeer(t: TestContext, handle: Handle, host = '127.0.0.1'): Promise<Peer> {
  return listen(t, createServer(handle), host);
}

/** Serves HTTPS; `h2` too unless it is left out. */
export async function startTlsPeer(
  t: TestContext,
  handle: (request: Http2ServerRequest, response: Http2ServerResponse) => unknown,
  options: { readonly isHttp2?: boolean } = {},
): Promise<Peer> {
  // For another name, and expired: probes look at neither.
  const leaf = Authority.createRoot().issue(['other.example'], { notAfter: new Date(0) });
  const identity = { key: leaf.key, cert: leaf.certificate };
  if (options.isHttp2 === false) return listen(t, createHttpsServer(identity, handle as never), '127.0.0.1');
  const server = createSecureServer({ ...identity, allowHTTP1: true }, handle);
  server.on('sessionError', () => undefined);
  return listen(t, server, '127.0.0.1');
}

/** Accepts connections and hands them over. */
export async function startTcpPeer(
  t: TestContext,
  onSocket: (socket: Socket) => void = () => undefined,
  host = '127.0.0.1',
): Promise<Peer> {
  return listen(t, createTcpServer(onSocket), host);
}

/** The health service, described here anew from grpc-proto `grpc/health/v1/health.proto`. */
const healthPackage = fromJSON({
  nested: {
    grpc: {
      nested: {
        health: {
          nested: {
            v1: {
              nested: {
                HealthCheckRequest: { fields: { service: { type: 'string', id: 1 } } },
                HealthCheckResponse: { fields: { status: { type: 'int32', id: 1 } } },
                Health: {
                  methods: {
                    Check: { requestType: 'HealthCheckRequest', responseType: 'HealthCheckResponse' },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
} as never);

export interface HealthCall {
  readonly service: string;
  readonly userAgent: string;
  readonly hasDeadline: boolean;
}

/** A grpc-js server with the health service; `check` gives a status number, or an error with `code`, or never answers. */
export async function startGrpcPeer(
  t: TestContext,
  check: (service: string) => number | { readonly code: number; readonly details: string } | 'silent',
  options: { readonly isHealthServed?: boolean; readonly host?: string } = {},
): Promise<{ readonly port: number; readonly calls: readonly HealthCall[] }> {
  const calls: HealthCall[] = [];
  const server = new GrpcServer();
  if (options.isHealthServed !== false) {
    server.addService(healthPackage['grpc.health.v1.Health'] as never, {
      Check: (
        call: {
          request: { service: string };
          metadata: { get: (name: string) => unknown[] };
          getDeadline: () => Date | number;
        },
        callback: (error: object | null, value?: object) => void,
      ) => {
        calls.push({
          service: call.request.service,
          userAgent: String(call.metadata.get('user-agent')[0]),
          hasDeadline: Number.isFinite(Number(call.getDeadline())),
        });
        const answer = check(call.request.service);
        if (answer === 'silent') return;
        if (typeof answer === 'number') callback(null, { status: answer });
        else callback(answer);
      },
    });
  }
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(
      `${options.host ?? '127.0.0.1'}:0`,
      ServerCredentials.createInsecure(),
      (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      },
    );
  });
  t.after(() => server.forceShutdown());
  return { port, calls };
}

/** A port that nothing listens on: one that was free a moment ago. */
export async function findClosedPort(): Promise<number> {
  const server = createTcpServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}
