import { type AnyMessage, readAny, writeAny } from '../../proto/any-message.ts';
import { typeUrls } from '../../proto/type-urls.ts';
import {
  alone,
  asBuffer,
  bytesTags,
  dropFields,
  exchangeField,
  FieldCursor,
  joined,
  MessageWriter,
  noBytes,
} from '../../proto/wire.ts';
import type { PushedResource } from '../wasm/pushed-resources.ts';
import type { Offer, ResourceShell, ResponseShell } from '../wasm/rollout.ts';
import { grpcCode } from './grpc-status.ts';
import type { StreamKind } from './interceptor.ts';

/** A response of istiod, the same for both forms of the protocol. */
export interface UpstreamPush {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: readonly PushedResource[];
  /** Delta only. */
  readonly removedNames: readonly string[];
  /** What each part of the response is sent in. */
  readonly response: ResponseShell;
}

/** A request of Envoy, the same for both forms. */
export type DownstreamRequest = {
  readonly nonce: string;
  /** Envoy's own text of a NACK. */
  readonly failure: string | undefined;
} & (
  | { readonly kind: 'sotw'; readonly version: string; readonly names: readonly string[] }
  | { readonly kind: 'delta'; readonly subscribe: readonly string[]; readonly unsubscribe: readonly string[] }
);

/** What istiod is answered for a push. */
export interface UpstreamVerdict {
  /** Of the response that is answered. Default: extension configs. */
  readonly typeUrl?: string;
  readonly nonce: string;
  /** State of the world: the version accepted last, which a NACK repeats. */
  readonly version: string;
  /** State of the world: all subscribed names; an ACK without them would unsubscribe. */
  readonly names: Iterable<string>;
  readonly failure: string | undefined;
}

/**
 * The two forms of the protocol, as far as ECDS needs them. Decoders throw WireFormatError on bytes that are not the
 * message. What is passed on is spliced, so that fields of newer peers go with it.
 */
export interface EcdsDialect {
  decodeResponse(bytes: Uint8Array): UpstreamPush;
  decodeRequest(bytes: Uint8Array): DownstreamRequest;
  encodeOffer(offer: Offer, nonce: string): Uint8Array;
  /** A response without resources; delta: with the names of removed ones. */
  encodeNotice(push: UpstreamPush, removedNames: readonly string[], nonce: string): Uint8Array;
  encodeVerdict(verdict: UpstreamVerdict): Uint8Array;
  /**
   * A request that only changes the subscription, as it goes to istiod: without Envoy's nonce, which is ours, and its
   * verdict. State of the world repeats istiod's own nonce and version there.
   */
  encodeSubscription(
    request: Uint8Array,
    latest: { readonly nonce: string; readonly version: string } | undefined,
  ): Uint8Array;
}

const ecdsTypeUrl = typeUrls.extensionConfig;

// Field numbers: Envoy API `envoy/service/discovery/v3/discovery.proto`, `google/rpc/status.proto`.
const responseFields = { version: 1, resources: 2, typeUrl: 4, nonce: 5, removed: 6 } as const;
const resourceFields = { config: 2, name: 3 } as const;
const sotwRequestFields = { version: 1, names: 3, typeUrl: 4, nonce: 5, failure: 6 } as const;
const deltaRequestFields = { typeUrl: 2, subscribe: 3, unsubscribe: 4, nonce: 6, failure: 7 } as const;
const statusFields = { code: 1, message: 2 } as const;
const responseTags = bytesTags(responseFields);
const resourceTags = bytesTags(resourceFields);
const sotwRequestTags = bytesTags(sotwRequestFields);
const deltaRequestTags = bytesTags(deltaRequestFields);
const statusTags = bytesTags(statusFields);

const sotw: EcdsDialect = {
  decodeResponse: (bytes) => decodeResponse('sotw', asBuffer(bytes)),
  decodeRequest(bytes) {
    const cursor = new FieldCursor(asBuffer(bytes));
    let version = '';
    let nonce = '';
    let failure: string | undefined;
    const names: string[] = [];
    for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
      if (tag === sotwRequestTags.names) names.push(cursor.text());
      else if (tag === sotwRequestTags.nonce) nonce = cursor.text();
      else if (tag === sotwRequestTags.version) version = cursor.text();
      else if (tag === sotwRequestTags.failure) failure = readFailure(cursor.bytes(), failure);
    }
    return { kind: 'sotw', nonce, failure, version, names };
  },
  encodeOffer({ config }, nonce) {
    return inShell('sotw', config.envelope.response, nonce)
      .message(responseFields.resources, writeAny({ typeUrl: ecdsTypeUrl, value: config.bytes }))
      .finish();
  },
  encodeNotice: (push, _removedNames, nonce) => inShell('sotw', push.response, nonce).finish(),
  encodeVerdict({ nonce, version, names, failure, typeUrl = ecdsTypeUrl }) {
    const fields = sotwRequestFields;
    const writer = new MessageWriter();
    if (version !== '') writer.text(fields.version, version);
    for (const name of names) writer.text(fields.names, name);
    return writeAnswer(writer, fields, { typeUrl, nonce, failure });
  },
  encodeSubscription(request, latest) {
    const fields = sotwRequestFields;
    const version = latest?.version;
    const message = asBuffer(request);
    const versioned =
      version === undefined ? message : exchangeField(message, fields.version, () => textContent(version));
    const unanswered = exchangeField(versioned, fields.failure, () => undefined);
    return exchangeField(unanswered, fields.nonce, () => textContent(latest?.nonce ?? ''));
  },
};

const delta: EcdsDialect = {
  decodeResponse: (bytes) => decodeResponse('delta', asBuffer(bytes)),
  decodeRequest(bytes) {
    const cursor = new FieldCursor(asBuffer(bytes));
    let nonce = '';
    let failure: string | undefined;
    const subscribe: string[] = [];
    const unsubscribe: string[] = [];
    for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
      if (tag === deltaRequestTags.nonce) nonce = cursor.text();
      else if (tag === deltaRequestTags.subscribe) subscribe.push(cursor.text());
      else if (tag === deltaRequestTags.unsubscribe) unsubscribe.push(cursor.text());
      else if (tag === deltaRequestTags.failure) failure = readFailure(cursor.bytes(), failure);
    }
    return { kind: 'delta', nonce, failure, subscribe, unsubscribe };
  },
  encodeOffer({ config }, nonce) {
    const { envelope, bytes } = config;
    const writer = inShell('delta', envelope.response, nonce);
    if (envelope.wrapper !== undefined) {
      const resource = new MessageWriter()
        .fields(envelope.wrapper.fields)
        .message(resourceFields.config, writeAny({ typeUrl: ecdsTypeUrl, value: bytes }));
      writer.message(responseFields.resources, resource);
    }
    return writer.finish();
  },
  encodeNotice(push, removedNames, nonce) {
    const writer = inShell('delta', push.response, nonce);
    for (const name of removedNames) writer.text(responseFields.removed, name);
    return writer.finish();
  },
  encodeVerdict: ({ nonce, failure, typeUrl = ecdsTypeUrl }) =>
    writeAnswer(new MessageWriter(), deltaRequestFields, { typeUrl, nonce, failure }),
  encodeSubscription(request) {
    const tags = deltaRequestTags;
    return dropFields(asBuffer(request), (tag) => tag === tags.failure || tag === tags.nonce);
  },
};

export function ecdsDialect(kind: StreamKind): EcdsDialect {
  return kind === 'sotw' ? sotw : delta;
}

function decodeResponse(kind: StreamKind, message: Buffer): UpstreamPush {
  let typeUrl = '';
  let version = '';
  let nonce = '';
  const contents: Buffer[] = [];
  const removedNames: string[] = [];
  const fields = dropFields(message, (tag, field) => {
    switch (tag) {
      case responseTags.resources:
        contents.push(field.bytes());
        return true;
      case responseTags.nonce:
        nonce = field.text();
        return true;
      case responseTags.removed:
        // State of the world has another field of this number.
        if (kind === 'sotw') return false;
        removedNames.push(field.text());
        return true;
      case responseTags.version:
        version = field.text();
        return false;
      case responseTags.typeUrl:
        typeUrl = field.text();
        return false;
      default:
        return false;
    }
  });
  const resources = contents.map((content, index) => ({
    ...(kind === 'sotw' ? { any: readAny(content), wrapper: undefined } : readResource(content)),
    place: `resource ${index} of version ${version}`,
  }));
  const response = { kind, version, fields: alone(fields) };
  return { typeUrl, nonce, resources, removedNames, response };
}

function readResource(content: Buffer): { readonly any: AnyMessage; readonly wrapper: ResourceShell } {
  let name = '';
  const configs: Buffer[] = [];
  const fields = dropFields(content, (tag, field) => {
    if (tag === resourceTags.name) name = field.text();
    if (tag === resourceTags.config) configs.push(field.bytes());
    return tag === resourceTags.config;
  });
  return { any: readAny(joined(configs) ?? noBytes), wrapper: { name, fields: alone(fields) } };
}

/** Undefined for no text: an absent field says the same. */
function textContent(text: string): Buffer | undefined {
  return text === '' ? undefined : Buffer.from(text);
}

/** Envoy keeps one form for its life, so a shell is always of the stream's own; of the other one its version is taken. */
function inShell(kind: StreamKind, shell: ResponseShell, nonce: string): MessageWriter {
  const writer = new MessageWriter();
  if (shell.kind === kind) writer.fields(shell.fields);
  else writer.text(responseFields.version, shell.version).text(responseFields.typeUrl, ecdsTypeUrl);
  return writer.text(responseFields.nonce, nonce);
}

/** What both forms of a verdict end with. */
function writeAnswer(
  writer: MessageWriter,
  fields: { readonly typeUrl: number; readonly nonce: number; readonly failure: number },
  answer: Pick<UpstreamVerdict, 'nonce' | 'failure'> & { readonly typeUrl: string },
): Buffer {
  writer.text(fields.typeUrl, answer.typeUrl);
  if (answer.nonce !== '') writer.text(fields.nonce, answer.nonce);
  if (answer.failure !== undefined) {
    // The code that Envoy and the stock agent send.
    const status = new MessageWriter()
      .varint(statusFields.code, grpcCode.internal)
      .text(statusFields.message, answer.failure);
    writer.message(fields.failure, status);
  }
  return writer.finish();
}

/** The text of an `error_detail`; of several the last text counts. */
function readFailure(status: Buffer, before: string | undefined): string {
  const cursor = new FieldCursor(status);
  let failure = before ?? '';
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === statusTags.message) failure = cursor.text();
  }
  return failure;
}
