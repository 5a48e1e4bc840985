/** The messages of ECDS by a codec that shares nothing with the product's own readers and writers. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt';
import { DataSourceSchema } from '../../proto/gen/envoy/config/core/v3/base_pb.js';
import {
  type TypedExtensionConfig,
  TypedExtensionConfigSchema,
} from '../../proto/gen/envoy/config/core/v3/extension_pb.js';
import {
  type Wasm as HttpWasm,
  WasmSchema as HttpWasmSchema,
} from '../../proto/gen/envoy/extensions/filters/http/wasm/v3/wasm_pb.js';
import {
  type Wasm as NetworkWasm,
  WasmSchema as NetworkWasmSchema,
} from '../../proto/gen/envoy/extensions/filters/network/wasm/v3/wasm_pb.js';
import {
  PluginConfig_FailurePolicy as FailurePolicy,
  type VmConfig,
} from '../../proto/gen/envoy/extensions/wasm/v3/wasm_pb.js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from '../../proto/gen/envoy/service/discovery/v3/discovery_pb.js';
import { StatusSchema } from '../../proto/gen/google/rpc/status_pb.js';

export type {
  Any,
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
  DiscoveryRequest,
  DiscoveryResponse,
  HttpWasm,
  NetworkWasm,
  TypedExtensionConfig,
  VmConfig,
};
export { FailurePolicy };

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

export function setLocalCode(vm: VmConfig, path: string): void {
  if (vm.code === undefined) return;
  vm.code.specifier = {
    case: 'local',
    value: create(DataSourceSchema, { specifier: { case: 'filename', value: path } }),
  };
}
