import type { ConversionResult } from '../../metrics/wasm-metrics.ts';
import { type AnyMessage, readAny, writeAny } from '../../proto/any-message.ts';
import { typeUrls } from '../../proto/type-urls.ts';
import { alone, asBuffer, bytesTags, exchangeField, FieldCursor, joined } from '../../proto/wire.ts';
import type { ModuleRequest } from '../fetch/types.ts';
import { describeError } from '../log.ts';
import { type FallbackAction, fallbackFilter } from './fallback-filter.ts';
import {
  changedFilter,
  type DataSource,
  type FilterConfig,
  type FilterKind,
  readFilterConfig,
} from './filter-config.ts';
import { loadedJsonFilters } from './json-filters.ts';
import { isAgentKey, readDirectives } from './vm-environment.ts';

/**
 * What is to be done with one extension config. All bytes are encoded `TypedExtensionConfig` messages. A fallback is made
 * when it is asked for: it is hardly ever needed.
 */
export type ExtensionPlan =
  /** Not Wasm: passed on as it came. */
  | {
      readonly kind: 'as-is';
      readonly name: string;
      readonly bytes: Uint8Array;
      /** A type of Wasm is named somewhere inside: another filter may carry one. */
      readonly holdsWasm: boolean;
    }
  /** A module that needs no download: to be checked where it is, then passed on. */
  | {
      readonly kind: 'local';
      readonly name: string;
      /** What V8 is to run. */
      readonly module: LocalModule;
      /** Where the code is, whatever runs it. */
      readonly code: LocalCode;
      /** As it came, but for keys of the environment that Envoy must not see. */
      readonly bytes: Uint8Array;
      readonly fallbackAction: FallbackAction;
      readonly fallback: () => Uint8Array;
    }
  /** A remote module: fetch it, then `rewrite` gives the config to send. */
  | {
      readonly kind: 'fetch';
      readonly name: string;
      readonly request: ModuleRequest;
      readonly fallbackAction: FallbackAction;
      readonly fallback: () => Uint8Array;
      readonly rewrite: (path: string) => Uint8Array;
    }
  /** Cannot be used; `fallback` stands in where the kind of filter is known. */
  | {
      readonly kind: 'refused';
      /** Empty when not even the name could be read. */
      readonly name: string;
      readonly reason: string;
      readonly result: ConversionResult;
      readonly fallbackAction: FallbackAction | undefined;
      readonly fallback: (() => Uint8Array) | undefined;
    };

/** A module that Envoy reads itself. */
export type LocalModule =
  /** A file of the proxy's own container. */
  | { readonly kind: 'file'; readonly path: string }
  /** In the config itself. */
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  /** No module that V8 runs is there: it is built into Envoy, for another engine, or in a variable of the environment. */
  | { readonly kind: 'unseen' };

/** Code that needs no download. */
export type LocalCode =
  | { readonly kind: 'local'; readonly path: string }
  /** Undefined: it is in a variable of Envoy's environment. */
  | { readonly kind: 'inline'; readonly bytes: Uint8Array | undefined };

/** Deadline when the config gives none (istio/istio `pkg/wasm/cache.go`). */
const defaultTimeoutMs = 5_000;

/** One `TypedExtensionConfig`. */
interface ExtensionConfig {
  readonly name: string;
  readonly typedConfig: AnyMessage | undefined;
  /** The whole message. */
  readonly bytes: Buffer;
}

// Field numbers: Envoy API `envoy/config/core/v3/extension.proto`.
const configFields = { name: 1, typedConfig: 2 } as const;
const configTags = bytesTags(configFields);

/** Decides what to do with one resource of an ECDS response. Pure; never throws for bad bytes. */
export function planExtensionConfig(resource: AnyMessage): ExtensionPlan {
  const refuse = (name: string, reason: string): ExtensionPlan => ({
    kind: 'refused',
    name,
    reason,
    result: 'unmarshal_failure',
    fallbackAction: undefined,
    fallback: undefined,
  });
  if (resource.typeUrl !== typeUrls.extensionConfig) {
    return refuse('', `resource has type ${resource.typeUrl}, expected ${typeUrls.extensionConfig}`);
  }
  const bytes = asBuffer(resource.value);
  let config: ExtensionConfig;
  try {
    config = readExtensionConfig(bytes);
  } catch (error) {
    const reason = `extension config does not decode: ${describeError(error)}`;
    return refuse(nameAtStart(bytes), reason);
  }
  const { name, typedConfig } = config;
  // Envoy refuses it too (extension.proto, min_len 1), but only after the module was fetched.
  if (name === '') return refuse('', 'extension config has no name');
  if (typedConfig === undefined) return refuse(name, 'extension config has no typed_config');
  const filter = readFilter(typedConfig);
  switch (filter.kind) {
    case 'other':
      return { kind: 'as-is', name, bytes, holdsWasm: namesWasm(typedConfig) };
    case 'broken':
      return refuseWithFallback(config, filter.filterKind, 'deny', filter.reason, 'unmarshal_failure');
    case 'wasm':
      return planWasm(config, filter);
    default:
      return filter satisfies never;
  }
}

/** Throws WireFormatError. */
function readExtensionConfig(bytes: Buffer): ExtensionConfig {
  const cursor = new FieldCursor(bytes);
  let name = '';
  const typedConfig: Buffer[] = [];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === configTags.name) name = cursor.text();
    else if (tag === configTags.typedConfig) typedConfig.push(cursor.bytes());
  }
  const any = joined(typedConfig);
  return { name, typedConfig: any && readAny(any), bytes };
}

/** Part of the names of all messages that configure Wasm, of whatever kind of filter. */
const wasmTypePart = '.wasm.v3.';

/** Also in JSON and under type URLs of an unusual prefix: types are always named by their texts. */
function namesWasm({ typeUrl, value }: AnyMessage): boolean {
  return typeUrl.includes(wasmTypePart) || asBuffer(value).includes(wasmTypePart);
}

/** No name has 16 KiB. */
const maxNameBytes = 16 * 1024 - 1;

/**
 * The name of a config that does not decode, where it comes first, as every encoder writes it: whatever is broken
 * after it, it tells whose update this was. Empty when it is not there whole.
 */
function nameAtStart(bytes: Buffer): string {
  const cursor = new FieldCursor(bytes);
  try {
    const isName = cursor.next() === configTags.name && cursor.bytes().length <= maxNameBytes;
    return isName ? cursor.text() : '';
  } catch {
    return '';
  }
}

/** A Wasm filter as it came, in protobuf's binary form. */
interface WasmFilter {
  readonly filterKind: FilterKind;
  readonly bytes: Buffer;
  readonly config: FilterConfig;
}

type FilterReading =
  | { readonly kind: 'other' }
  | { readonly kind: 'broken'; readonly filterKind: FilterKind; readonly reason: string }
  | ({ readonly kind: 'wasm' } & WasmFilter);

const filterKindByTypeUrl: ReadonlyMap<string, FilterKind> = new Map([
  [typeUrls.httpWasm, 'http'],
  [typeUrls.networkWasm, 'network'],
]);

function readFilter(typedConfig: AnyMessage): FilterReading {
  const filterKind = filterKindByTypeUrl.get(typedConfig.typeUrl);
  if (filterKind === undefined) return readJsonFilter(typedConfig);
  const bytes = asBuffer(typedConfig.value);
  try {
    return { kind: 'wasm', filterKind, bytes, config: readFilterConfig(bytes) };
  } catch (error) {
    const reason = `${filterKind} Wasm config does not decode: ${describeError(error)}`;
    return { kind: 'broken', filterKind, reason };
  }
}

/** A filter in a TypedStruct. */
function readJsonFilter({ typeUrl, value }: AnyMessage): FilterReading {
  const family = structFamily(typeUrl);
  if (family === undefined) return { kind: 'other' };
  const json = loadedJsonFilters();
  let struct: ReturnType<typeof json.decodeTypedStruct>;
  try {
    struct = json.decodeTypedStruct(family, value);
  } catch {
    // Which filter it is for cannot be told; Envoy names the fault in its own NACK.
    return { kind: 'other' };
  }
  const filterKind = filterKindByTypeUrl.get(struct.typeUrl);
  if (filterKind === undefined) return { kind: 'other' };
  if (struct.json === undefined) {
    return {
      kind: 'broken',
      filterKind,
      reason: `TypedStruct for the ${filterKind} Wasm filter has no value`,
    };
  }
  try {
    const bytes = asBuffer(json.wasmFromJson(filterKind, struct.json));
    return { kind: 'wasm', filterKind, bytes, config: readFilterConfig(bytes) };
  } catch (error) {
    const reason = `TypedStruct does not convert to the ${filterKind} Wasm filter: ${describeError(error)}`;
    return { kind: 'broken', filterKind, reason };
  }
}

function structFamily(typeUrl: string): 'udpa' | 'xds' | undefined {
  if (typeUrl === typeUrls.udpaTypedStruct) return 'udpa';
  if (typeUrl === typeUrls.xdsTypedStruct) return 'xds';
  return undefined;
}

function planWasm(extension: ExtensionConfig, filter: WasmFilter): ExtensionPlan {
  const { name } = extension;
  const { filterKind, config } = filter;
  const action: FallbackAction = config.isFailOpen ? 'allow' : 'deny';
  const { vm } = config;
  if (vm?.code === undefined) {
    const reason = 'Wasm config names neither remote nor local code (config.vm_config.code is empty)';
    return refuseWithFallback(extension, filterKind, action, reason, 'unmarshal_failure');
  }
  const fallback = (): Uint8Array => encodeFallback(extension, filterKind, action);
  const { code, environment } = vm;
  if (code.kind === 'local') {
    const local = localCode(code.source);
    const hasAgentKeys = [...environment.keys()].some(isAgentKey);
    return {
      kind: 'local',
      name,
      module: localModule(vm.runtime, local),
      code: local,
      bytes: hasAgentKeys ? encodeChanged(extension, filter, {}) : extension.bytes,
      fallbackAction: action,
      fallback,
    };
  }
  const directives = readDirectives(environment);
  if (directives.pullSecret.kind === 'missing') {
    const reason = `cannot fetch Wasm module ${config.name === '' ? name : config.name}: missing image pulling secret (istiod does not know the secret, or may not give it to this proxy)`;
    return refuseWithFallback(extension, filterKind, action, reason, 'fetch_failure');
  }
  const { httpUri, sha256 } = code;
  if (httpUri === undefined) {
    const reason = `wasm remote fetch does not have httpUri specified for config ${name}`;
    return refuseWithFallback(extension, filterKind, action, reason, 'miss_remote_fetch_hint');
  }
  return {
    kind: 'fetch',
    name,
    request: {
      resourceName: name,
      url: httpUri.uri,
      sha256: sha256 === '' || sha256 === 'nil' ? undefined : sha256,
      timeoutMs: httpUri.timeoutMs ?? defaultTimeoutMs,
      pullPolicy: directives.pullPolicy,
      pullSecret: directives.pullSecret.kind === 'given' ? directives.pullSecret.text : undefined,
      pluginResourceVersion: directives.pluginResourceVersion,
    },
    fallbackAction: action,
    fallback,
    rewrite: (codePath) => encodeChanged(extension, filter, { codePath }),
  };
}

/** Envoy takes the engine that it was built with when none is named, and Istio's is V8. */
const v8Runtimes: readonly string[] = ['', 'envoy.wasm.runtime.v8'];

function localModule(runtime: string, code: LocalCode): LocalModule {
  if (!v8Runtimes.includes(runtime)) return { kind: 'unseen' };
  switch (code.kind) {
    case 'local':
      return { kind: 'file', path: code.path };
    case 'inline':
      return code.bytes === undefined ? { kind: 'unseen' } : { kind: 'inline', bytes: code.bytes };
    default:
      return code satisfies never;
  }
}

function localCode(source: DataSource | undefined): LocalCode {
  switch (source?.kind) {
    case 'filename':
      return { kind: 'local', path: source.text };
    case 'bytes':
      return { kind: 'inline', bytes: source.bytes };
    case 'string':
      return { kind: 'inline', bytes: Buffer.from(source.text, 'utf8') };
    // No variable can hold the zero byte that a module begins with: Envoy refuses it.
    case 'environment':
    case undefined:
      return { kind: 'inline', bytes: undefined };
    default:
      return source satisfies never;
  }
}

const wasmTypeUrls = { http: typeUrls.httpWasm, network: typeUrls.networkWasm } as const;

/** In binary form, whatever it came in, and without keys of the agent. */
function encodeChanged(
  extension: ExtensionConfig,
  { filterKind, bytes }: WasmFilter,
  change: { readonly codePath?: string },
): Uint8Array {
  const value = changedFilter(bytes, { ...change, isDropped: isAgentKey });
  return withTypedConfig(extension, { typeUrl: wasmTypeUrls[filterKind], value });
}

function encodeFallback(extension: ExtensionConfig, kind: FilterKind, action: FallbackAction): Uint8Array {
  return withTypedConfig(extension, fallbackFilter(kind, action));
}

function withTypedConfig({ bytes }: ExtensionConfig, typedConfig: AnyMessage): Buffer {
  // Kept for as long as Envoy runs it.
  return alone(exchangeField(bytes, configFields.typedConfig, () => writeAny(typedConfig).finish()));
}

function refuseWithFallback(
  config: ExtensionConfig,
  kind: FilterKind,
  fallbackAction: FallbackAction,
  reason: string,
  result: ConversionResult,
): ExtensionPlan {
  const fallback = (): Uint8Array => encodeFallback(config, kind, fallbackAction);
  return { kind: 'refused', name: config.name, reason, result, fallbackAction, fallback };
}
