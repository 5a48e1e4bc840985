import { MessageWriter, readFields, WireFormatError } from '../../proto/wire.ts';
import type { KeyProvider } from '../config/identity-config.ts';

/** `type_url` of every response and resource of SDS. */
export const secretTypeUrl = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

/** What Envoy is given under one resource name. All contents are PEM. */
export type Secret =
  /** `privateKey` is a secret. */
  | {
      readonly kind: 'key-pair';
      readonly name: string;
      readonly certificateChain: Buffer;
      readonly privateKey: Buffer;
    }
  | { readonly kind: 'roots'; readonly name: string; readonly certificates: Buffer };

/** What goes into a secret beside its contents. */
export interface SecretExtras {
  /** Revocation list that Envoy reads itself; undefined: none. */
  readonly crlPath: string | undefined;
  readonly keyProvider: KeyProvider | undefined;
}

/** The parts of a `DiscoveryRequest` that SDS looks at. */
export interface SecretRequest {
  /** Empty: the node, or its id, is missing. */
  readonly nodeId: string;
  /** As they came, repeated ones included. */
  readonly names: readonly string[];
  /** Empty: none. */
  readonly nonce: string;
  /** Envoy's NACK. */
  readonly rejection: { readonly code: number; readonly message: string } | undefined;
}

// Field numbers: Envoy API `envoy/service/discovery/v3/discovery.proto`, `envoy/config/core/v3/base.proto`,
// `google/rpc/status.proto`.
const requestFields = { node: 2, resourceNames: 3, nonce: 5, errorDetail: 6 };
const nodeId = 1;
const statusFields = { code: 1, message: 2 };

/** Longest part of Envoy's NACK text that is kept, in characters. */
const maxRejectionLength = 4096;

/** Reads a request; what is not named in SecretRequest is skipped. Throws WireFormatError. */
export function decodeSecretRequest(message: Buffer): SecretRequest {
  const names: string[] = [];
  let id = '';
  let nonce = '';
  let rejection: SecretRequest['rejection'];
  for (const field of readFields(message)) {
    if (field.kind !== 'bytes') continue;
    switch (field.number) {
      case requestFields.node:
        id = textIn(field.value, nodeId) ?? id;
        break;
      case requestFields.resourceNames:
        names.push(textOf(field.value));
        break;
      case requestFields.nonce:
        nonce = textOf(field.value);
        break;
      case requestFields.errorDetail:
        rejection = decodeStatus(field.value);
        break;
      default:
    }
  }
  return { nodeId: id, names, nonce, rejection };
}

function textIn(message: Buffer, wanted: number): string | undefined {
  let found: string | undefined;
  for (const field of readFields(message)) {
    if (field.kind === 'bytes' && field.number === wanted) found = textOf(field.value);
  }
  return found;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function textOf(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new WireFormatError('a text is not UTF-8', { cause });
  }
}

function decodeStatus(message: Buffer): { readonly code: number; readonly message: string } {
  let code = 0;
  let text = '';
  for (const field of readFields(message)) {
    if (field.kind === 'varint' && field.number === statusFields.code) code = field.value;
    // Envoy quotes what it was sent: not to be refused for a cut character.
    if (field.kind === 'bytes' && field.number === statusFields.message) text = field.value.toString('utf8');
  }
  return { code, message: text.slice(0, maxRejectionLength) };
}

/**
 * A `DiscoveryResponse`. Fields are written in the order of their numbers, as Go does, so that the bytes equal the
 * stock agent's.
 */
export function encodeSecretResponse(
  response: {
    readonly version: string;
    readonly nonce: string;
    readonly secrets: readonly Secret[];
  },
  extras: SecretExtras,
): Buffer {
  const writer = new MessageWriter().text(1, response.version);
  for (const secret of response.secrets) writer.message(2, any(secretTypeUrl, encodeSecret(secret, extras)));
  return writer.text(4, secretTypeUrl).text(5, response.nonce).finish();
}

/** Envoy API `envoy/extensions/transport_sockets/tls/v3/secret.proto` and `common.proto`. */
function encodeSecret(secret: Secret, extras: SecretExtras): MessageWriter {
  const writer = new MessageWriter().text(1, secret.name);
  switch (secret.kind) {
    case 'key-pair': {
      const pair = new MessageWriter().message(1, inlineBytes(secret.certificateChain));
      const { keyProvider } = extras;
      if (keyProvider === undefined) pair.message(2, inlineBytes(secret.privateKey));
      else pair.message(6, encodeKeyProvider(keyProvider, secret.privateKey));
      return writer.message(2, pair);
    }
    case 'roots': {
      const context = new MessageWriter().message(1, inlineBytes(secret.certificates));
      if (extras.crlPath !== undefined) context.message(7, new MessageWriter().text(1, extras.crlPath));
      return writer.message(4, context);
    }
    default:
      return secret satisfies never;
  }
}

const keyProviderTypeUrls = {
  cryptomb:
    'type.googleapis.com/envoy.extensions.private_key_providers.cryptomb.v3alpha.CryptoMbPrivateKeyMethodConfig',
  qat: 'type.googleapis.com/envoy.extensions.private_key_providers.qat.v3alpha.QatPrivateKeyMethodConfig',
};

/** Envoy API `contrib/envoy/extensions/private_key_providers/{cryptomb,qat}/v3alpha`: both have the same fields. */
function encodeKeyProvider(provider: KeyProvider, key: Buffer): MessageWriter {
  const delay = new MessageWriter();
  if (provider.pollDelayNanos > 0) delay.varint(2, provider.pollDelayNanos);
  const config = new MessageWriter().message(1, inlineBytes(key)).message(2, delay);
  const writer = new MessageWriter()
    .text(1, provider.name)
    .message(3, any(keyProviderTypeUrls[provider.name], config));
  if (provider.isFallbackAllowed) writer.varint(4, 1);
  return writer;
}

/** `DataSource.inline_bytes`. */
function inlineBytes(contents: Buffer): MessageWriter {
  return new MessageWriter().bytes(2, contents);
}

function any(typeUrl: string, value: MessageWriter): MessageWriter {
  return new MessageWriter().text(1, typeUrl).message(2, value);
}
