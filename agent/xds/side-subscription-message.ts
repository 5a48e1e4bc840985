import { isUtf8 } from 'node:buffer';
import { MessageWriter, readFields, WireFormatError } from '../../proto/wire.ts';
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
const responseFields = {
  sotw: { version: 1, resource: 2, nonce: 5 },
  delta: { version: undefined, resource: 2, nonce: 5 },
} as const;

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
  const fields = responseFields[kind];
  let version = '';
  let nonce = '';
  let resource: SideResponse['resource'];
  for (const field of readFields(message)) {
    if (field.kind !== 'bytes') continue;
    if (field.number === fields.version) version = readText(field.value);
    else if (field.number === fields.nonce) nonce = readText(field.value);
    else if (field.number === fields.resource) resource ??= readResource(kind, field.value);
  }
  return { version, nonce, resource };
}

/** Delta wraps each resource with its name. */
function readResource(kind: StreamKind, bytes: Buffer): { typeUrl: string; value: Buffer } {
  if (kind === 'sotw') return readAny(bytes);
  let any: Buffer = Buffer.alloc(0);
  for (const field of readFields(bytes)) {
    if (field.number === 2 && field.kind === 'bytes') any = field.value;
  }
  return readAny(any);
}

function readAny(bytes: Buffer): { typeUrl: string; value: Buffer } {
  let typeUrl = '';
  let value: Buffer = Buffer.alloc(0);
  for (const field of readFields(bytes)) {
    if (field.kind !== 'bytes') continue;
    if (field.number === 1) typeUrl = readText(field.value);
    else if (field.number === 2) value = field.value;
  }
  return { typeUrl, value };
}

function readText(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new WireFormatError('a text of the message is not UTF-8');
  return bytes.toString('utf8');
}

function cut(text: string): string {
  return text.length > maxFailureCharacters ? `${text.slice(0, maxFailureCharacters)}...` : text;
}
