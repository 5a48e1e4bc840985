/**
 * Decodes and encodes the few messages that the agent changes. The only importer of the protobuf runtime, loaded
 * with the first ECDS message (docs/decisions/protobuf-runtime.md). Unknown fields are kept, so whatever a newer
 * istiod or Envoy adds passes through.
 */
import { create, createRegistry, fromBinary, fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf';
import {
  type Any,
  AnySchema,
  BoolValueSchema,
  BytesValueSchema,
  DoubleValueSchema,
  DurationSchema,
  Int64ValueSchema,
  ListValueSchema,
  StringValueSchema,
  StructSchema,
  UInt64ValueSchema,
  ValueSchema,
} from '@bufbuild/protobuf/wkt';
import { DataSourceSchema } from './gen/envoy/config/core/v3/base_pb.js';
import {
  type TypedExtensionConfig,
  TypedExtensionConfigSchema,
} from './gen/envoy/config/core/v3/extension_pb.js';
import {
  type Wasm as HttpWasm,
  WasmSchema as HttpWasmSchema,
} from './gen/envoy/extensions/filters/http/wasm/v3/wasm_pb.js';
import {
  type Wasm as NetworkWasm,
  WasmSchema as NetworkWasmSchema,
} from './gen/envoy/extensions/filters/network/wasm/v3/wasm_pb.js';
import {
  PluginConfig_FailurePolicy as FailurePolicy,
  type VmConfig,
} from './gen/envoy/extensions/wasm/v3/wasm_pb.js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
  type Resource,
} from './gen/envoy/service/discovery/v3/discovery_pb.js';
import { StatusSchema } from './gen/google/rpc/status_pb.js';
import { TypedStructSchema as UdpaTypedStructSchema } from './gen/udpa/type/v1/typed_struct_pb.js';
import { TypedStructSchema as XdsTypedStructSchema } from './gen/xds/type/v3/typed_struct_pb.js';

export type {
  Any,
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
  DiscoveryRequest,
  DiscoveryResponse,
  HttpWasm,
  NetworkWasm,
  Resource,
  TypedExtensionConfig,
  VmConfig,
};
export { FailurePolicy };

/** What an `Any` inside a JSON-form config may name: all that Istio writes for a plugin's configuration. */
const jsonRegistry = createRegistry(
  AnySchema,
  BoolValueSchema,
  BytesValueSchema,
  DoubleValueSchema,
  DurationSchema,
  Int64ValueSchema,
  ListValueSchema,
  StringValueSchema,
  StructSchema,
  UInt64ValueSchema,
  ValueSchema,
);

export const decodeRequest = (bytes: Uint8Array): DiscoveryRequest =>
  fromBinary(DiscoveryRequestSchema, bytes);
export const encodeRequest = (request: DiscoveryRequest): Uint8Array =>
  toBinary(DiscoveryRequestSchema, request);
export const decodeResponse = (bytes: Uint8Array): DiscoveryResponse =>
  fromBinary(DiscoveryResponseSchema, bytes);
export const encodeResponse = (response: DiscoveryResponse): Uint8Array =>
  toBinary(DiscoveryResponseSchema, response);
export const decodeDeltaRequest = (bytes: Uint8Array): DeltaDiscoveryRequest =>
  fromBinary(DeltaDiscoveryRequestSchema, bytes);
export const encodeDeltaRequest = (request: DeltaDiscoveryRequest): Uint8Array =>
  toBinary(DeltaDiscoveryRequestSchema, request);
export const decodeDeltaResponse = (bytes: Uint8Array): DeltaDiscoveryResponse =>
  fromBinary(DeltaDiscoveryResponseSchema, bytes);
export const encodeDeltaResponse = (response: DeltaDiscoveryResponse): Uint8Array =>
  toBinary(DeltaDiscoveryResponseSchema, response);
export const decodeExtensionConfig = (bytes: Uint8Array): TypedExtensionConfig =>
  fromBinary(TypedExtensionConfigSchema, bytes);
export const encodeExtensionConfig = (config: TypedExtensionConfig): Uint8Array =>
  toBinary(TypedExtensionConfigSchema, config);

type Fields<Message> = Partial<Omit<Message, '$typeName' | '$unknown'>>;

/** Messages the agent makes itself. */
export const makeRequest = (fields: Fields<DiscoveryRequest>): DiscoveryRequest =>
  create(DiscoveryRequestSchema, fields);
export const makeDeltaRequest = (fields: Fields<DeltaDiscoveryRequest>): DeltaDiscoveryRequest =>
  create(DeltaDiscoveryRequestSchema, fields);
export const makeResponse = (fields: Fields<DiscoveryResponse>): DiscoveryResponse =>
  create(DiscoveryResponseSchema, fields);
export const makeDeltaResponse = (fields: Fields<DeltaDiscoveryResponse>): DeltaDiscoveryResponse =>
  create(DeltaDiscoveryResponseSchema, fields);
export const makeAny = (typeUrl: string, value: Uint8Array): Any => create(AnySchema, { typeUrl, value });

/** The `error_detail` of a NACK; code 13 is what Envoy and the stock agent send. */
export const makeErrorDetail = (message: string) => create(StatusSchema, { code: 13, message });

/** Which filter a Wasm config is for; the two messages have the same shape. */
export type FilterKind = 'http' | 'network';
export type WasmFilter = HttpWasm | NetworkWasm;

export function decodeWasm(kind: FilterKind, bytes: Uint8Array): WasmFilter {
  return kind === 'http' ? fromBinary(HttpWasmSchema, bytes) : fromBinary(NetworkWasmSchema, bytes);
}

export function encodeWasm(filter: WasmFilter): Uint8Array {
  return filter.$typeName === 'envoy.extensions.filters.http.wasm.v3.Wasm'
    ? toBinary(HttpWasmSchema, filter)
    : toBinary(NetworkWasmSchema, filter);
}

/** A `TypedStruct` of either family: the type it stands for, and its value as JSON (undefined when absent). */
export function decodeTypedStruct(
  family: 'udpa' | 'xds',
  bytes: Uint8Array,
): { readonly typeUrl: string; readonly json: JsonValue | undefined } {
  const struct =
    family === 'udpa' ? fromBinary(UdpaTypedStructSchema, bytes) : fromBinary(XdsTypedStructSchema, bytes);
  return { typeUrl: struct.typeUrl, json: struct.value };
}

/** Reads a Wasm config in protobuf's JSON mapping. Throws on fields it does not know, as the stock agent does. */
export function wasmFromJson(kind: FilterKind, json: JsonValue): WasmFilter {
  const options = { registry: jsonRegistry, ignoreUnknownFields: false };
  return kind === 'http'
    ? fromJson(HttpWasmSchema, json, options)
    : fromJson(NetworkWasmSchema, json, options);
}

/** Points a VM at a file, in place of where its code came from. */
export function setLocalCode(vm: VmConfig, path: string): void {
  if (vm.code === undefined) return;
  vm.code.specifier = {
    case: 'local',
    value: create(DataSourceSchema, { specifier: { case: 'filename', value: path } }),
  };
}
