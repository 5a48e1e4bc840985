import type { TestContext } from 'node:test';
import {
  Client,
  type ClientDuplexStream,
  credentials,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  type StatusObject,
} from '@grpc/grpc-js';
import { EventQueue } from './event-queue.ts';
import { deltaPath, sotwPath } from './raw-peers.ts';

const asIs = (bytes: Buffer): Buffer => bytes;

function method(path: string) {
  return {
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

/** The ADS service with its messages left as bytes. */
const service: ServiceDefinition = { sotw: method(sotwPath), delta: method(deltaPath) };

type Bytes = ServerDuplexStream<Buffer, Buffer>;

export interface GrpcIstiodStream {
  readonly kind: 'sotw' | 'delta';
  readonly call: Bytes;
  readonly metadata: Metadata;
  readonly requests: EventQueue<Buffer>;
}

/** A grpc-js server in the place of istiod. */
export async function startGrpcIstiod(t: TestContext) {
  const streams = new EventQueue<GrpcIstiodStream>();
  const server = new Server();
  const handle = (kind: 'sotw' | 'delta') => (call: Bytes) => {
    const requests = new EventQueue<Buffer>();
    call.on('data', (bytes: Buffer) => requests.push(bytes));
    call.on('error', () => undefined);
    streams.push({ kind, call, metadata: call.metadata, requests });
  };
  server.addService(service, { sotw: handle('sotw'), delta: handle('delta') });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  t.after(() => server.forceShutdown());
  return { address: `127.0.0.1:${port}`, streams };
}

export interface GrpcEnvoy {
  readonly call: ClientDuplexStream<Buffer, Buffer>;
  readonly responses: EventQueue<Buffer>;
  readonly status: Promise<StatusObject>;
}

/** A grpc-js client in the place of Envoy. */
export function openGrpcEnvoy(t: TestContext, socketPath: string, kind: 'sotw' | 'delta'): GrpcEnvoy {
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure());
  t.after(() => client.close());
  const call = client.makeBidiStreamRequest(kind === 'sotw' ? sotwPath : deltaPath, asIs, asIs);
  const responses = new EventQueue<Buffer>();
  call.on('data', (bytes: Buffer) => responses.push(bytes));
  call.on('error', () => undefined);
  const status = new Promise<StatusObject>((resolve) => {
    call.once('status', resolve);
  });
  return { call, responses, status };
}
