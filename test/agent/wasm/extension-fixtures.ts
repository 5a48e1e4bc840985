/** Extension configs for tests, made by a protobuf runtime that shares nothing with the product's own readers. */
import { create } from '@bufbuild/protobuf';
import { type Any, anyPack, StringValueSchema, StructSchema } from '@bufbuild/protobuf/wkt';
import { TypedExtensionConfigSchema } from '../../../proto/gen/envoy/config/core/v3/extension_pb.js';
import { WasmSchema as HttpWasmSchema } from '../../../proto/gen/envoy/extensions/filters/http/wasm/v3/wasm_pb.js';
import { WasmSchema as NetworkWasmSchema } from '../../../proto/gen/envoy/extensions/filters/network/wasm/v3/wasm_pb.js';
import { TypedStructSchema as UdpaTypedStructSchema } from '../../../proto/gen/udpa/type/v1/typed_struct_pb.js';
import { TypedStructSchema as XdsTypedStructSchema } from '../../../proto/gen/xds/type/v3/typed_struct_pb.js';
import { typeUrls } from '../../../proto/type-urls.ts';

export interface PluginFixture {
  readonly name?: string;
  readonly kind?: 'http' | 'network';
  /** Undefined: no `http_uri`. */
  readonly url?: string | undefined;
  readonly sha256?: string;
  readonly timeoutSeconds?: number | undefined;
  readonly environment?: Record<string, string>;
  readonly hostEnvironmentKeys?: readonly string[];
  readonly failurePolicy?: number;
  readonly failOpen?: boolean;
  readonly code?: 'remote' | 'local' | 'inline' | 'none';
  /** Of `local` code. */
  readonly path?: string;
  /** Of `inline` code. */
  readonly bytes?: Uint8Array;
  /** Default: V8. */
  readonly runtime?: string;
  readonly configuration?: string;
}

/** A Wasm plugin as istiod sends it. */
export function pluginResource(fixture: PluginFixture = {}): Any {
  return extensionResource(fixture.name ?? 'plugin', packWasm(fixture));
}

/** The same plugin with its filter in JSON form. */
export function structResource(
  family: 'udpa' | 'xds',
  json: object,
  name = 'plugin',
  kind: 'http' | 'network' = 'http',
): Any {
  const schema = family === 'udpa' ? UdpaTypedStructSchema : XdsTypedStructSchema;
  const typeUrl = kind === 'http' ? typeUrls.httpWasm : typeUrls.networkWasm;
  // A Struct field is plain JSON in a message.
  return extensionResource(name, anyPack(schema, create(schema, { typeUrl, value: json as never })));
}

export function extensionResource(name: string, typedConfig: Any | undefined): Any {
  const config = create(
    TypedExtensionConfigSchema,
    typedConfig === undefined ? { name } : { name, typedConfig },
  );
  return anyPack(TypedExtensionConfigSchema, config);
}

/** Something that is not Wasm. */
export function otherResource(name: string): Any {
  return extensionResource(name, anyPack(StructSchema, create(StructSchema, { fields: {} })));
}

function packWasm(fixture: PluginFixture): Any {
  const { code = 'remote', sha256 = '', environment, hostEnvironmentKeys } = fixture;
  const timeoutSeconds = 'timeoutSeconds' in fixture ? fixture.timeoutSeconds : 30;
  const url = 'url' in fixture ? fixture.url : 'oci://registry.example/basic_auth:1.12.0';
  const httpUri =
    url === undefined
      ? {}
      : {
          httpUri: {
            uri: url,
            httpUpstreamType: { case: 'cluster' as const, value: '_' },
            ...(timeoutSeconds === undefined ? {} : { timeout: duration(timeoutSeconds) }),
          },
        };
  const specifiers = {
    remote: { case: 'remote' as const, value: { ...httpUri, sha256 } },
    local: {
      case: 'local' as const,
      value: { specifier: { case: 'filename' as const, value: fixture.path ?? '/plugin.wasm' } },
    },
    inline: {
      case: 'local' as const,
      value: {
        specifier: {
          case: 'inlineBytes' as const,
          value: fixture.bytes ?? new Uint8Array([0, 0x61, 0x73, 0x6d]),
        },
      },
    },
  };
  const vm = {
    runtime: fixture.runtime ?? 'envoy.wasm.runtime.v8',
    ...(code === 'none' ? {} : { code: { specifier: specifiers[code] } }),
    ...(environment === undefined && hostEnvironmentKeys === undefined
      ? {}
      : {
          environmentVariables: {
            keyValues: environment ?? {},
            hostEnvKeys: [...(hostEnvironmentKeys ?? [])],
          },
        }),
  };
  const message = {
    config: {
      name: 'default.plugin',
      vm: { case: 'vmConfig' as const, value: vm },
      failurePolicy: fixture.failurePolicy ?? 0,
      failOpen: fixture.failOpen ?? false,
      ...(fixture.configuration === undefined
        ? {}
        : {
            configuration: anyPack(
              StringValueSchema,
              create(StringValueSchema, { value: fixture.configuration }),
            ),
          }),
    },
  };
  return fixture.kind === 'network'
    ? anyPack(NetworkWasmSchema, create(NetworkWasmSchema, message))
    : anyPack(HttpWasmSchema, create(HttpWasmSchema, message));
}

function duration(seconds: number) {
  return { seconds: BigInt(Math.trunc(seconds)), nanos: Math.round((seconds % 1) * 1e9) };
}

/** A field that no schema of ours knows, as protobuf bytes: number 9999, text. */
export function unknownField(text: string): Uint8Array {
  return Buffer.concat([Buffer.from([0xfa, 0xf0, 0x04, text.length]), Buffer.from(text)]);
}

/** The same `Any` with bytes appended to its value. */
export function appended(any: Any, bytes: Uint8Array): Any {
  return { ...any, value: Buffer.concat([any.value, bytes]) };
}
