import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { XdsConfig } from '../config/agent-config.ts';
import { GrpcListener } from '../grpc/listener.ts';
import type { Logger } from '../log.ts';
import { rejectStream } from './downstream-writer.ts';
import { grpcCode } from './grpc-status.ts';
import type { StreamKind } from './interceptor.ts';
import { Keepalive } from './keepalive.ts';
import { methodPaths } from './request-metadata.ts';
import { maxSessionMemoryMb, windowBytes } from './transport-settings.ts';

/** Envoy has one connection, a hot restart two, each proxyless gRPC process one: more is a leak of files. */
const maxConnectionCount = 256;

export interface DownstreamOptions {
  readonly onStream: (kind: StreamKind, stream: ServerHttp2Stream) => void;
  readonly log: Logger;
}

/** The gRPC server that Envoy connects to: finds the ADS streams among what clients send. */
export function downstreamListener(config: XdsConfig, options: DownstreamOptions): GrpcListener {
  const { socketPath, socketMode, socketGroupId, maxConcurrentStreams } = config;
  return new GrpcListener({
    name: 'XDS',
    socketPath,
    socketMode,
    socketGroupId,
    maxConcurrentStreams,
    maxConnectionCount,
    maxSessionMemoryMb,
    windowBytes,
    onSession: (session) => watchConnection(session, config, options.log),
    onCall: (path, stream) => acceptCall(path, stream, options),
    log: options.log,
  });
}

/** Ends a connection whose other end is silent. */
function watchConnection(session: ServerHttp2Session, config: XdsConfig, log: Logger): void {
  const { keepaliveIntervalMs, keepaliveTimeoutMs } = config;
  new Keepalive(session, {
    intervalMs: keepaliveIntervalMs,
    timeoutMs: keepaliveTimeoutMs,
    onDead: () => {
      log.warn('Envoy did not answer a keepalive PING: its connection is closed', {
        timeoutMs: keepaliveTimeoutMs,
      });
      session.destroy();
    },
  });
}

function acceptCall(path: string, stream: ServerHttp2Stream, { onStream, log }: DownstreamOptions): void {
  if (path === methodPaths.sotw) {
    onStream('sotw', stream);
  } else if (path === methodPaths.delta) {
    onStream('delta', stream);
  } else {
    log.debug('a client called an unknown method', { path });
    rejectStream(stream, {
      code: grpcCode.unimplemented,
      message: `unknown method ${path}: the agent serves ${methodPaths.sotw} and ${methodPaths.delta}`,
    });
  }
}
