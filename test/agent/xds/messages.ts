import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { loadSync } from '@grpc/proto-loader';

const deps = join(dirname(createRequire(import.meta.url).resolve('@grpc/grpc-js-xds/package.json')), 'deps');

const packageDefinition = loadSync('envoy/service/discovery/v3/ads.proto', {
  keepCase: true,
  includeDirs: ['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'].map((name) => join(deps, name)),
});

interface Codec {
  encode(value: object): Buffer;
  decode(bytes: Buffer): Record<string, unknown>;
}

const methods = packageDefinition[
  'envoy.service.discovery.v3.AggregatedDiscoveryService'
] as unknown as Record<
  string,
  Record<
    'requestSerialize' | 'responseSerialize' | 'requestDeserialize' | 'responseDeserialize',
    (value: never) => never
  >
>;

function codec(method: string, message: 'request' | 'response'): Codec {
  const definition = methods[method];
  if (definition === undefined) throw new Error(`no method ${method}`);
  return {
    encode: definition[`${message}Serialize`],
    decode: definition[`${message}Deserialize`],
  };
}

/** An encoder that is not ours: protobufjs, from the published `.proto` files. */
export const messages = {
  sotw: {
    request: codec('StreamAggregatedResources', 'request'),
    response: codec('StreamAggregatedResources', 'response'),
  },
  delta: {
    request: codec('DeltaAggregatedResources', 'request'),
    response: codec('DeltaAggregatedResources', 'response'),
  },
};

const prefix = 'type.googleapis.com/';
export const clusterType = `${prefix}envoy.config.cluster.v3.Cluster`;
export const listenerType = `${prefix}envoy.config.listener.v3.Listener`;
export const extensionType = `${prefix}envoy.config.core.v3.TypedExtensionConfig`;

export function deltaRequest(typeUrl: string, extra: object = {}): Buffer {
  return messages.delta.request.encode({ type_url: typeUrl, ...extra });
}

/** A response whose only resource has `sizeBytes` bytes of content. */
export function deltaResponse(typeUrl: string, sizeBytes = 8, nonce = 'n'): Buffer {
  return messages.delta.response.encode({
    system_version_info: 'v1',
    type_url: typeUrl,
    nonce,
    resources: [{ name: 'r', resource: { type_url: typeUrl, value: Buffer.alloc(sizeBytes, 'x') } }],
  });
}

export function sotwResponse(typeUrl: string, sizeBytes = 8): Buffer {
  return messages.sotw.response.encode({
    version_info: 'v1',
    type_url: typeUrl,
    resources: [{ type_url: typeUrl, value: Buffer.alloc(sizeBytes, 'x') }],
  });
}
