/**
 * The gRPC server on its port. It owns the sockets, so that it can go away as a killed istiod does: without a GOAWAY.
 */
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { XdsMode } from './discovery-messages.ts';
import { ControlPlaneError } from './error.ts';
import type { AdsCall } from './message-writer.ts';

/** Server side TLS; all in PEM. */
export interface TlsOptions {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** Roots for client certificates. */
  readonly clientCa?: string | Buffer;
  /** A connection without a certificate from `clientCa` is refused. Default false. */
  readonly requiresClientCert?: boolean;
}

const serviceName = 'envoy.service.discovery.v3.AggregatedDiscoveryService';
const methods = { sotw: 'StreamAggregatedResources', delta: 'DeltaAggregatedResources' } as const;
const host = '127.0.0.1';

/** Serves AggregatedDiscoveryService on 127.0.0.1, and hands each stream on. */
export class AdsServer {
  readonly #listener: NetServer;
  readonly #grpc: Server;
  readonly #sockets: Set<Socket>;

  private constructor(listener: NetServer, grpc: Server, sockets: Set<Socket>) {
    this.#listener = listener;
    this.#grpc = grpc;
    this.#sockets = sockets;
  }

  /** Port 0 takes a free one. Throws ControlPlaneError `listen` when the port is taken or the key pair unusable. */
  static async start(options: {
    readonly port: number;
    readonly tls: TlsOptions | undefined;
    readonly accept: (mode: XdsMode, call: AdsCall) => void;
  }): Promise<AdsServer> {
    const { port, tls, accept } = options;
    // No limit on messages, as many streams as istiod allows.
    const grpc = new Server({
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': 100_000,
    });
    grpc.addService(
      Object.fromEntries(
        Object.values(methods).map((method) => [
          method,
          {
            path: `/${serviceName}/${method}`,
            requestStream: true,
            responseStream: true,
            requestDeserialize: asIs,
            requestSerialize: asIs,
            responseDeserialize: asIs,
            responseSerialize: asIs,
          },
        ]),
      ),
      {
        [methods.sotw]: (call: AdsCall) => accept('sotw', call),
        [methods.delta]: (call: AdsCall) => accept('delta', call),
      },
    );
    const sockets = new Set<Socket>();
    let listener: NetServer;
    try {
      const injector = grpc.createConnectionInjector(credentialsOf(tls));
      listener = createServer({ noDelay: true }, (socket) => {
        sockets.add(socket);
        socket.once('close', () => sockets.delete(socket));
        // A reset by the peer ends the streams of the connection; there is nobody else to tell.
        socket.on('error', () => undefined);
        injector.injectConnection(socket);
      });
    } catch (cause) {
      throw new ControlPlaneError(
        'listen',
        'cannot serve TLS with this key pair; check that both are PEM and belong together',
        {
          cause,
        },
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    listener.once('error', (cause) => {
      grpc.forceShutdown();
      reject(
        new ControlPlaneError('listen', `cannot listen on ${host}:${port}; give a free port`, { cause }),
      );
    });
    listener.listen(port, host, resolve);
    await promise;
    return new AdsServer(listener, grpc, sockets);
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  /** TCP connections that are open. */
  get connectionCount(): number {
    return this.#sockets.size;
  }

  /** Drops every connection without a word, and frees the port. */
  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#listener.close(() => resolve());
    for (const socket of this.#sockets) socket.destroy();
    await promise;
    this.#grpc.forceShutdown();
  }
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

function credentialsOf(tls: TlsOptions | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const { cert, key, clientCa, requiresClientCert = false } = tls;
  return ServerCredentials.createSsl(
    clientCa === undefined ? null : Buffer.from(clientCa),
    [{ cert_chain: Buffer.from(cert), private_key: Buffer.from(key) }],
    requiresClientCert,
  );
}
