/**
 * An ADS pass-through as one writes it with @grpc/grpc-js: whole messages, raw buffers, 1 MB windows. It is what the
 * relay is compared with, so it does all that grpc-js offers and nothing more.
 *
 *   grpc-js-proxy <socket path> <host:port> [<CA file> <server name>]
 */
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import {
  type ChannelOptions,
  Client,
  credentials,
  type handleBidiStreamingCall,
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
} from '@grpc/grpc-js';
import { adsPath, type XdsMode } from './discovery-wire.ts';

const windowBytes = 1024 * 1024;
const unlimited = -1;

const options: ChannelOptions = {
  'grpc.max_receive_message_length': unlimited,
  'grpc.max_send_message_length': unlimited,
  'grpc-node.flow_control_window': windowBytes,
};

const identity = (bytes: Buffer): Buffer => bytes;

function methodOf(mode: XdsMode): MethodDefinition<Buffer, Buffer> {
  return {
    path: adsPath(mode),
    requestStream: true,
    responseStream: true,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

const service = { delta: methodOf('delta'), sotw: methodOf('sotw') } satisfies ServiceDefinition;

const [socketPath, upstreamAddress, authorityPath, serverName] = process.argv.slice(2);
if (socketPath === undefined || upstreamAddress === undefined) {
  throw new Error('Usage: grpc-js-proxy <socket path> <host:port> [<CA file> <server name>]');
}
const upstreamCredentials =
  authorityPath === undefined
    ? credentials.createInsecure()
    : credentials.createSsl(readFileSync(authorityPath));
const upstream = new Client(upstreamAddress, upstreamCredentials, {
  ...options,
  ...(serverName === undefined ? {} : { 'grpc.ssl_target_name_override': serverName }),
});

/** Passes messages on, and reads no further while the other side is full. */
function pump(from: Readable, to: Writable): void {
  from.on('data', (message: Buffer) => {
    if (!to.write(message)) from.pause();
  });
  to.on('drain', () => from.resume());
}

function relay(mode: XdsMode): handleBidiStreamingCall<Buffer, Buffer> {
  return (downstream) => {
    const call = upstream.makeBidiStreamRequest(adsPath(mode), identity, identity, new Metadata());
    pump(downstream, call);
    downstream.on('end', () => call.end());
    pump(call, downstream);
    call.on('error', () => undefined);
    call.on('status', (end) => {
      if (end.code === status.OK) downstream.end();
      else downstream.emit('error', end);
    });
    downstream.on('cancelled', () => call.cancel());
  };
}

const server = new Server(options);
server.addService(service, { delta: relay('delta'), sotw: relay('sotw') });
server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
});
