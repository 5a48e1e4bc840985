import { constants, type IncomingHttpHeaders } from 'node:http2';
import { describeError } from '../log.ts';
import type { FrameFault } from './frames.ts';
import { decodeGrpcMessage } from './grpc-message.ts';
import { type GrpcStatus, grpcCode } from './grpc-status.ts';

/** What a GOAWAY said before a connection ended. */
export interface Goaway {
  readonly code: number;
  /** Debug text of the peer, for example `max_age`. */
  readonly text: string;
}

/** How an upstream stream ended, as it was seen on the wire. */
export type UpstreamEnd =
  /** No usable connection came about: name look-up, TCP, TLS, or no HTTP/2 settings in time. */
  | { readonly kind: 'dial-failed'; readonly error: Error }
  /** The regular end: the server sent a status. */
  | { readonly kind: 'status'; readonly status: GrpcStatus }
  /** RST_STREAM. */
  | { readonly kind: 'reset'; readonly code: number }
  /** The connection was closed or broke; `error` is undefined for an orderly TCP end. */
  | { readonly kind: 'disconnected'; readonly error: Error | undefined; readonly goaway: Goaway | undefined }
  /** A keepalive PING got no answer: the connection was half-open. */
  | { readonly kind: 'silent'; readonly timeoutMs: number }
  /** The peer does not speak gRPC as it should. */
  | { readonly kind: 'protocol'; readonly status: GrpcStatus };

/** How bad an end is: it sets the log level and the counter label (`pkg/istio-agent/xds_proxy.go`, `IsExpectedGRPCError`). */
export type EndClass = 'graceful' | 'expected' | 'unexpected';

/** The status that Envoy sees for an upstream end. Texts follow grpc-go's, which operators search logs for. */
export function statusOfUpstreamEnd(end: UpstreamEnd): GrpcStatus {
  switch (end.kind) {
    case 'dial-failed':
      return { code: grpcCode.unavailable, message: describeError(end.error) };
    case 'status':
    case 'protocol':
      return end.status;
    case 'reset':
      return {
        code: codeOfReset(end.code),
        message: `stream terminated by RST_STREAM with error code: ${nameOfReset(end.code)}`,
      };
    case 'disconnected': {
      const cause = end.error === undefined ? 'EOF' : describeError(end.error);
      return {
        code: grpcCode.unavailable,
        message: `error reading from server: ${cause}${goawayText(end.goaway)}`,
      };
    }
    case 'silent':
      return {
        code: grpcCode.unavailable,
        message: `istiod did not answer a keepalive PING within ${end.timeoutMs} ms: connection is taken as dead`,
      };
    default:
      return end satisfies never;
  }
}

export function classOfUpstreamEnd(end: UpstreamEnd): EndClass {
  switch (end.kind) {
    case 'status':
      return classOfStatus(end.status);
    case 'reset':
      if (end.code === constants.NGHTTP2_NO_ERROR) return 'expected';
      return classOfStatus(statusOfUpstreamEnd(end));
    case 'disconnected': {
      const isOrderly = end.error === undefined && (end.goaway?.code ?? 0) === constants.NGHTTP2_NO_ERROR;
      return isOrderly ? 'expected' : 'unexpected';
    }
    case 'dial-failed':
    case 'silent':
    case 'protocol':
      return 'unexpected';
    default:
      return end satisfies never;
  }
}

function classOfStatus(status: GrpcStatus): EndClass {
  if (status.code === grpcCode.ok) return 'graceful';
  const isExpected = status.code === grpcCode.cancelled || status.code === grpcCode.deadlineExceeded;
  return isExpected ? 'expected' : 'unexpected';
}

/** The status in trailers or in a trailers-only answer; undefined when there is none. */
export function readGrpcStatus(headers: IncomingHttpHeaders): GrpcStatus | undefined {
  const text = headers['grpc-status'];
  if (text === undefined) return undefined;
  const message = headers['grpc-message'];
  const decoded = decodeGrpcMessage(typeof message === 'string' ? message : '');
  if (typeof text === 'string' && /^\d{1,9}$/.test(text)) return { code: Number(text), message: decoded };
  return { code: grpcCode.unknown, message: `istiod sent a malformed grpc-status; its message: ${decoded}` };
}

/** Undefined when these are the headers of a gRPC answer; else how the stream ends. */
export function checkResponseHeaders(
  httpStatus: number | undefined,
  headers: IncomingHttpHeaders,
): GrpcStatus | undefined {
  const contentType = headers['content-type'] ?? '';
  if (httpStatus !== 200) {
    const status = readGrpcStatus(headers);
    if (status !== undefined) return status;
    return {
      code: codeOfHttpStatus(httpStatus ?? 0),
      message: `unexpected HTTP status ${httpStatus ?? 'none'} from istiod (content-type "${contentType}"): is the address that of istiod's gRPC port?`,
    };
  }
  if (!/^application\/grpc($|[+;])/.test(contentType)) {
    return {
      code: grpcCode.unknown,
      message: `istiod answered with content-type "${contentType}" instead of application/grpc: is the address that of istiod's gRPC port?`,
    };
  }
  return undefined;
}

/** The status for framing of istiod that cannot be read. */
export function statusOfResponseFault(fault: FrameFault): GrpcStatus {
  switch (fault.code) {
    case 'compressed':
      return {
        code: grpcCode.internal,
        message: `istiod sent a message with compressed flag ${fault.flag} although no compression was offered`,
      };
    case 'too-large':
      return {
        code: grpcCode.resourceExhausted,
        message: `istiod announced a message of ${fault.lengthBytes} bytes, the bound is ${fault.maxBytes} bytes`,
      };
    default:
      return fault satisfies never;
  }
}

/** grpc `doc/http-grpc-status-mapping.md`. */
function codeOfHttpStatus(httpStatus: number): number {
  switch (httpStatus) {
    case 400:
      return grpcCode.internal;
    case 401:
      return grpcCode.unauthenticated;
    case 403:
      return grpcCode.permissionDenied;
    case 404:
      return grpcCode.unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return grpcCode.unavailable;
    default:
      return grpcCode.unknown;
  }
}

/** grpc `PROTOCOL-HTTP2.md`, section Errors. */
function codeOfReset(code: number): number {
  switch (code) {
    case constants.NGHTTP2_REFUSED_STREAM:
      return grpcCode.unavailable;
    case constants.NGHTTP2_CANCEL:
      return grpcCode.cancelled;
    case constants.NGHTTP2_ENHANCE_YOUR_CALM:
      return grpcCode.resourceExhausted;
    case constants.NGHTTP2_INADEQUATE_SECURITY:
      return grpcCode.permissionDenied;
    default:
      return grpcCode.internal;
  }
}

/** Index is the code: RFC 9113 section 7. */
const resetNames = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
];

function nameOfReset(code: number): string {
  return resetNames[code] ?? `code ${code}`;
}

function goawayText(goaway: Goaway | undefined): string {
  if (goaway === undefined) return '';
  const debug = goaway.text === '' ? '' : `, debug data: "${goaway.text}"`;
  return `, received prior goaway: code: ${nameOfReset(goaway.code)}${debug}`;
}
