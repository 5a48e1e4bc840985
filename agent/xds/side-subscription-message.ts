import { readAny } from '../../proto/any-message.ts';
import { bytesTag, FieldCursor, MessageWriter, messageIn, noBytes } from '../../proto/wire.ts';
import { grpcCode } from './grpc-status.ts';
import type { StreamKind } from './interceptor.ts';

/**
 * The discovery messages of subscriptions that are the agent's own (Envoy API
 * `envoy/service/discovery/v3/discovery.proto`). By hand: the protobuf runtime would cost every pod with DNS capture
 * its memory.
 */

/** What matters in a response of a type that has one resource. */
export interface SideResponse {
  /** State of the world only. */
  readonly version: string;
  readonly nonce: string;
  /** The first resource; undefined when there is none. */
  readonly resource: { readonly typeUrl: string; readonly value: Buffer } | undefined;
}

/** What istiod is told about a response, or, with neither nonce nor version, asked for. */
export interface SideRequest {
  readonly typeUrl: string;
  /** State of the world only: the version accepted last. */
  readonly version?: string;
  readonly nonce?: string;
  /** Makes it a NACK, or the report of an unhealthy workload. */
  readonly failure?: string;
}

/** A cause in a NACK; the whole table must not come back in it. */
const maxFailureCharacters = 1024;

// Field numbers of the two forms of the protocol.
const requestFields = {
  sotw: { version: 1, typeUrl: 4, nonce: 5, failure: 6 },
  delta: { version: undefined, typeUrl: 2, nonce: 6, failure: 7 },
} as const;
const responseTags = {
  sotw: { version: bytesTag(1), resource: bytesTag(2), nonce: bytesTag(5) },
  delta: { version: undefined, resource: bytesTag(2), nonce: bytesTag(5) },
} as const;
const wrappedResourceField = 2;

/** Without node and names, as the stock agent sends it: istiod takes that for everything of the type. */
export function encodeSideRequest(kind: StreamKind, request: SideRequest): Buffer {
  const fields = requestFields[kind];
  const { typeUrl, version = '', nonce = '', failure } = request;
  const writer = new MessageWriter();
  if (version !== '' && fields.version !== undefined) writer.text(fields.version, version);
  writer.text(fields.typeUrl, typeUrl);
  if (nonce !== '') writer.text(fields.nonce, nonce);
  if (failure !== undefined) {
    const status = new MessageWriter().varint(1, grpcCode.internal).text(2, cut(failure));
    writer.message(fields.failure, status);
  }
  return writer.finish();
}

/** The parts of a response. Throws WireFormatError. Its `value` is a part of `message`. */
export function decodeSideResponse(kind: StreamKind, message: Buffer): SideResponse {
  const tags = responseTags[kind];
  const cursor = new FieldCursor(message);
  let version = '';
  let nonce = '';
  let resource: SideResponse['resource'];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === tags.version) version = cursor.text();
    else if (tag === tags.nonce) nonce = cursor.text();
    else if (tag === tags.resource) resource ??= readResource(kind, cursor.bytes());
  }
  return { version, nonce, resource };
}

/** Delta wraps each resource with its name. */
function readResource(kind: StreamKind, bytes: Buffer): SideResponse['resource'] {
  return readAny(kind === 'sotw' ? bytes : (messageIn(bytes, wrappedResourceField) ?? noBytes));
}

function cut(text: string): string {
  return text.length > maxFailureCharacters ? `${text.slice(0, maxFailureCharacters)}...` : text;
}
