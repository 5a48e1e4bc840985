/**
 * Reads Wasm filters in protobuf's JSON form, as an EnvoyFilter may give them in a TypedStruct. The only importer of
 * the protobuf runtime, loaded with the first such filter (docs/decisions/protobuf-runtime.md).
 */
import { createRegistry, fromBinary, fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf';
import {
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
import { WasmSchema as HttpWasmSchema } from './gen/envoy/extensions/filters/http/wasm/v3/wasm_pb.js';
import { WasmSchema as NetworkWasmSchema } from './gen/envoy/extensions/filters/network/wasm/v3/wasm_pb.js';
import { TypedStructSchema as UdpaTypedStructSchema } from './gen/udpa/type/v1/typed_struct_pb.js';
import { TypedStructSchema as XdsTypedStructSchema } from './gen/xds/type/v3/typed_struct_pb.js';

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

/** A `TypedStruct` of either family: the type it stands for, and its value as JSON (undefined when absent). */
export function decodeTypedStruct(
  family: 'udpa' | 'xds',
  bytes: Uint8Array,
): { readonly typeUrl: string; readonly json: JsonValue | undefined } {
  const struct =
    family === 'udpa' ? fromBinary(UdpaTypedStructSchema, bytes) : fromBinary(XdsTypedStructSchema, bytes);
  return { typeUrl: struct.typeUrl, json: struct.value };
}

/**
 * A Wasm config in protobuf's JSON form as the binary message. Throws on fields it does not know, as the stock agent
 * does.
 */
export function wasmFromJson(kind: 'http' | 'network', json: JsonValue): Uint8Array {
  const options = { registry: jsonRegistry, ignoreUnknownFields: false };
  return kind === 'http'
    ? toBinary(HttpWasmSchema, fromJson(HttpWasmSchema, json, options))
    : toBinary(NetworkWasmSchema, fromJson(NetworkWasmSchema, json, options));
}
