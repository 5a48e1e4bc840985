/**
 * Discovery requests and responses of both protocol variants in one form each.
 * Source: envoyproxy/envoy `api/envoy/service/discovery/v3/discovery.proto`.
 */
import { discoveryType } from './proto-definitions.ts';

/** State of the world (`StreamAggregatedResources`) or incremental (`DeltaAggregatedResources`). */
export type XdsMode = 'sotw' | 'delta';

/** Who asks; only the first request of a stream says so. */
export interface XdsNode {
  readonly id: string;
  readonly cluster: string;
  /** `node.metadata` as JSON. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** A DiscoveryRequest or DeltaDiscoveryRequest. */
export interface XdsRequest {
  readonly typeUrl: string;
  /** The nonce of the response this request is about; empty when it is about none. */
  readonly nonce: string;
  /** State of the world: the last accepted version. Delta: always empty. */
  readonly version: string;
  /** State of the world: all wanted names. Delta: the names to add. */
  readonly names: readonly string[];
  /** Delta: the names to drop. */
  readonly unsubscribe: readonly string[];
  /** Delta: what the client kept from an earlier stream, version by name. */
  readonly initialVersions: Readonly<Record<string, string>>;
  /** Present in a NACK, and in an unhealthy HealthInformation. */
  readonly error?: { readonly code: number; readonly message: string };
  readonly node?: XdsNode;
}

/** One resource: a name and the content of its `Any`. Its bytes must not change after it was made. */
export interface Resource {
  readonly name: string;
  readonly typeUrl: string;
  /** The encoded message inside the `Any`. */
  readonly value: Buffer;
}

/** A DiscoveryResponse or DeltaDiscoveryResponse. */
export interface XdsResponse {
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
  readonly resources: readonly Resource[];
  /** Delta only. */
  readonly removed: readonly string[];
}

interface WireStatus {
  readonly code: number;
  readonly message: string;
}
interface WireNode {
  readonly id: string;
  readonly cluster: string;
  readonly metadata: WireStruct | null;
}
interface WireAny {
  readonly type_url: string;
  readonly value: Buffer;
}
interface WireSotwRequest {
  readonly version_info: string;
  readonly node: WireNode | null;
  readonly resource_names: string[];
  readonly type_url: string;
  readonly response_nonce: string;
  readonly error_detail: WireStatus | null;
}
interface WireDeltaRequest {
  readonly node: WireNode | null;
  readonly type_url: string;
  readonly resource_names_subscribe: string[];
  readonly resource_names_unsubscribe: string[];
  readonly initial_resource_versions: Record<string, string>;
  readonly response_nonce: string;
  readonly error_detail: WireStatus | null;
}
interface WireSotwResponse {
  readonly version_info: string;
  readonly resources: WireAny[];
  readonly type_url: string;
  readonly nonce: string;
}
interface WireDeltaResponse {
  readonly system_version_info: string;
  readonly resources: { readonly name: string; readonly resource: WireAny | null }[];
  readonly type_url: string;
  readonly removed_resources: string[];
  readonly nonce: string;
}
interface WireStruct {
  readonly fields: Record<string, WireValue>;
}
/** A proto-loader object of `google.protobuf.Value`: only the member that is set is there. */
interface WireValue {
  readonly nullValue?: unknown;
  readonly numberValue?: number;
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  readonly structValue?: WireStruct;
  readonly listValue?: { readonly values: WireValue[] };
}

/** Throws when the bytes are not a request of this variant. */
export function decodeRequest(mode: XdsMode, bytes: Buffer): XdsRequest {
  if (mode === 'sotw') {
    const wire = requestType(mode).deserialize(bytes) as WireSotwRequest;
    return {
      typeUrl: wire.type_url,
      nonce: wire.response_nonce,
      version: wire.version_info,
      names: wire.resource_names,
      unsubscribe: [],
      initialVersions: {},
      ...commonParts(wire),
    };
  }
  const wire = requestType(mode).deserialize(bytes) as WireDeltaRequest;
  return {
    typeUrl: wire.type_url,
    nonce: wire.response_nonce,
    version: '',
    names: wire.resource_names_subscribe,
    unsubscribe: wire.resource_names_unsubscribe,
    initialVersions: wire.initial_resource_versions,
    ...commonParts(wire),
  };
}

/** Writes what istiod writes: no version of a resource, no control_plane. A state-of-the-world response has no names. */
export function encodeResponse(mode: XdsMode, response: XdsResponse): Buffer {
  const anyOf = (resource: Resource): object => ({
    type_url: resource.typeUrl,
    // An empty message has no value bytes in its Any.
    ...(resource.value.length === 0 ? {} : { value: resource.value }),
  });
  if (mode === 'sotw') {
    return responseType(mode).serialize({
      version_info: response.version,
      resources: response.resources.map(anyOf),
      type_url: response.typeUrl,
      nonce: response.nonce,
    });
  }
  return responseType(mode).serialize({
    system_version_info: response.version,
    resources: response.resources.map((resource) => ({
      ...(resource.name === '' ? {} : { name: resource.name }),
      resource: anyOf(resource),
    })),
    type_url: response.typeUrl,
    removed_resources: response.removed,
    nonce: response.nonce,
  });
}

/** For a client of the fixture. The names of state-of-the-world resources are unknown at this level: empty. */
export function decodeResponse(mode: XdsMode, bytes: Buffer): XdsResponse {
  if (mode === 'sotw') {
    const wire = responseType(mode).deserialize(bytes) as WireSotwResponse;
    return {
      typeUrl: wire.type_url,
      version: wire.version_info,
      nonce: wire.nonce,
      resources: wire.resources.map((any) => ({ name: '', typeUrl: any.type_url, value: any.value })),
      removed: [],
    };
  }
  const wire = responseType(mode).deserialize(bytes) as WireDeltaResponse;
  return {
    typeUrl: wire.type_url,
    version: wire.system_version_info,
    nonce: wire.nonce,
    resources: wire.resources.map(({ name, resource }) => ({
      name,
      typeUrl: resource?.type_url ?? '',
      value: resource?.value ?? Buffer.alloc(0),
    })),
    removed: wire.removed_resources,
  };
}

/** For a client of the fixture. */
export function encodeRequest(
  mode: XdsMode,
  request: Partial<XdsRequest> & Pick<XdsRequest, 'typeUrl'>,
): Buffer {
  const common = {
    type_url: request.typeUrl,
    ...(request.nonce === undefined ? {} : { response_nonce: request.nonce }),
    ...(request.error === undefined ? {} : { error_detail: request.error }),
    ...(request.node === undefined ? {} : { node: { id: request.node.id, cluster: request.node.cluster } }),
  };
  if (mode === 'sotw') {
    return requestType(mode).serialize({
      ...common,
      ...(request.version === undefined ? {} : { version_info: request.version }),
      resource_names: request.names ?? [],
    });
  }
  return requestType(mode).serialize({
    ...common,
    resource_names_subscribe: request.names ?? [],
    resource_names_unsubscribe: request.unsubscribe ?? [],
    initial_resource_versions: request.initialVersions ?? {},
  });
}

function requestType(mode: XdsMode): ReturnType<typeof discoveryType> {
  return discoveryType(`envoy.service.discovery.v3.${mode === 'sotw' ? '' : 'Delta'}DiscoveryRequest`);
}

function responseType(mode: XdsMode): ReturnType<typeof discoveryType> {
  return discoveryType(`envoy.service.discovery.v3.${mode === 'sotw' ? '' : 'Delta'}DiscoveryResponse`);
}

function commonParts(wire: {
  readonly node: WireNode | null;
  readonly error_detail: WireStatus | null;
}): Pick<XdsRequest, 'node' | 'error'> {
  return {
    ...(wire.error_detail === null
      ? {}
      : { error: { code: wire.error_detail.code, message: wire.error_detail.message } }),
    ...(wire.node === null
      ? {}
      : {
          node: {
            id: wire.node.id,
            cluster: wire.node.cluster,
            metadata: wire.node.metadata === null ? {} : structToJson(wire.node.metadata),
          },
        }),
  };
}

function structToJson(struct: WireStruct): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(struct.fields).map(([key, value]) => [key, structValueToJson(value)]),
  );
}

function structValueToJson(value: WireValue): unknown {
  if (value.structValue) return structToJson(value.structValue);
  if (value.listValue) return value.listValue.values.map(structValueToJson);
  return value.stringValue ?? value.numberValue ?? value.boolValue ?? null;
}
