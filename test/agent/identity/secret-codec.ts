import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';
import type { Secret } from '../../../agent/identity/secret-messages.ts';
import { discoveryType } from '../../support/control-plane/proto-definitions.ts';

/** SDS messages read by a codec that shares nothing with ours. */

const depsFolder = join(
  dirname(createRequire(import.meta.url).resolve('@grpc/grpc-js-xds/package.json')),
  'deps',
);
let definitions: PackageDefinition | undefined;

/** `envoy.extensions.transport_sockets.tls.v3.Secret`. */
function secretType(): MessageTypeDefinition<object, object> {
  definitions ??= loadSync(['envoy/extensions/transport_sockets/tls/v3/secret.proto'], {
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
    arrays: true,
    oneofs: true,
    includeDirs: ['envoy-api', 'googleapis', 'protoc-gen-validate', 'xds'].map((name) =>
      join(depsFolder, name),
    ),
  });
  return definitions['envoy.extensions.transport_sockets.tls.v3.Secret'] as MessageTypeDefinition<
    object,
    object
  >;
}

interface DataSource {
  readonly inline_bytes?: Buffer;
  readonly filename?: string;
}

/** The parts of a secret that tests look at. */
interface RawSecret {
  readonly name: string;
  readonly tls_certificate?: {
    readonly certificate_chain: DataSource | null;
    readonly private_key: DataSource | null;
    readonly private_key_provider: {
      readonly provider_name: string;
      readonly typed_config: { readonly type_url: string; readonly value: Buffer };
      readonly fallback: boolean;
    } | null;
  } | null;
  readonly validation_context?: {
    readonly trusted_ca: DataSource | null;
    readonly crl: DataSource | null;
  } | null;
}

interface ReadResponse {
  readonly version: string;
  readonly typeUrl: string;
  readonly nonce: string;
  readonly raw: readonly RawSecret[];
  readonly secrets: readonly Secret[];
}

export function decodeSecretResponse(bytes: Buffer): ReadResponse {
  const response = discoveryType('envoy.service.discovery.v3.DiscoveryResponse').deserialize(bytes) as {
    readonly version_info: string;
    readonly type_url: string;
    readonly nonce: string;
    readonly resources: readonly { readonly type_url: string; readonly value: Buffer }[];
  };
  const raw = response.resources.map(({ value }) => secretType().deserialize(value) as unknown as RawSecret);
  return {
    version: response.version_info,
    typeUrl: response.type_url,
    nonce: response.nonce,
    raw,
    secrets: raw.map(secretOf),
  };
}

export function encodeSecretRequest(request: {
  readonly nodeId?: string;
  readonly names: readonly string[];
  readonly nonce?: string;
  readonly version?: string;
  readonly rejection?: string;
}): Buffer {
  const { nodeId, names, nonce, version, rejection } = request;
  return discoveryType('envoy.service.discovery.v3.DiscoveryRequest').serialize({
    ...(nodeId === undefined ? {} : { node: { id: nodeId } }),
    version_info: version ?? '',
    resource_names: names,
    type_url: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
    response_nonce: nonce ?? '',
    ...(rejection === undefined ? {} : { error_detail: { code: 13, message: rejection } }),
  });
}

function secretOf(raw: RawSecret): Secret {
  const { name, tls_certificate: pair, validation_context: context } = raw;
  if (pair) {
    return {
      kind: 'key-pair',
      name,
      certificateChain: pair.certificate_chain?.inline_bytes ?? Buffer.alloc(0),
      privateKey: pair.private_key?.inline_bytes ?? Buffer.alloc(0),
    };
  }
  return { kind: 'roots', name, certificates: context?.trusted_ca?.inline_bytes ?? Buffer.alloc(0) };
}
