import { WireFormatError } from '../../proto/wire.ts';
import { formatHostPort } from '../config/host-port.ts';
import { callUnary } from '../identity/unary-call.ts';
import { type GrpcStatus, grpcCode } from '../xds/grpc-status.ts';
import { decodeHealthResponse, encodeHealthRequest, healthCheckPath } from './grpc-health-message.ts';
import type { ProbeDestination, ProbeDialer } from './probe-dialer.ts';
import { ProbeError } from './probe-error.ts';

/** One question to the health service of a gRPC server, without TLS. */
export interface GrpcProbeRequest {
  readonly destination: ProbeDestination;
  /** Empty: the server as a whole. */
  readonly service: string;
  readonly userAgent: string;
  /** Told to the server; the caller's signal ends the probe. */
  readonly timeoutMs: number;
}

/** A health answer has a few bytes. */
const maxAnswerBytes = 64 * 1024;
/** Longer than any probe: the deadline finds a dead connection first. */
const keepaliveMs = 30 * 60_000;

/**
 * Succeeds when the server answers SERVING. Throws ProbeError `connect`, `protocol` or `unhealthy`, or the signal's
 * reason. Texts: istio/istio `pkg/istio-agent/health/health_probers.go`.
 */
export async function probeGrpc(
  dialer: ProbeDialer,
  request: GrpcProbeRequest,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const { destination, service, userAgent, timeoutMs } = request;
  const socket = await dialer.dial(destination, options);
  const outcome = await callUnary(socket, {
    headers: {
      ':method': 'POST',
      ':scheme': 'http',
      ':authority': formatHostPort(destination),
      ':path': healthCheckPath,
      te: 'trailers',
      'content-type': 'application/grpc',
      'user-agent': userAgent,
      'grpc-timeout': `${Math.min(Math.ceil(timeoutMs), 99_999_999)}m`,
    },
    message: encodeHealthRequest(service),
    maxAnswerBytes,
    // The signal comes first; this one is the second lock.
    timeoutMs: timeoutMs + 1_000,
    keepaliveIntervalMs: keepaliveMs,
    keepaliveTimeoutMs: keepaliveMs,
    signal: options.signal,
  });
  switch (outcome.kind) {
    case 'failed':
      throw failureOf(outcome.status, destination.port);
    case 'answer': {
      const status = readAnswer(outcome.message, destination.port);
      if (status !== 'SERVING') throw new ProbeError('unhealthy', `health status is ${status}, not SERVING`);
      return;
    }
    default:
      outcome satisfies never;
  }
}

function failureOf({ code, message }: GrpcStatus, port: number): ProbeError {
  if (code === grpcCode.unimplemented) {
    return new ProbeError(
      'protocol',
      `the server on port ${port} does not implement the gRPC health protocol (grpc.health.v1.Health): ${message}`,
    );
  }
  return new ProbeError('protocol', `the health call on port ${port} failed with status ${code}: ${message}`);
}

function readAnswer(message: Buffer, port: number): string {
  try {
    return decodeHealthResponse(message);
  } catch (error) {
    if (!(error instanceof WireFormatError)) throw error;
    throw new ProbeError(
      'protocol',
      `the answer to the health call on port ${port} is no protobuf: ${error.message}`,
      {
        cause: error,
      },
    );
  }
}
