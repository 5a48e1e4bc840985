import type { ConversionResult } from '../../metrics/wasm-metrics.ts';
import * as codec from '../../proto/codec.ts';
import { typeUrls } from '../../proto/type-urls.ts';
import type { ModuleRequest } from '../fetch/types.ts';
import { describeError } from '../log.ts';
import { type FallbackAction, fallbackFilter } from './fallback-filter.ts';
import { readDirectives, stripAgentKeys } from './vm-environment.ts';

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

/** Decides what to do with one resource of an ECDS response. Pure; never throws for bad bytes. */
export function planExtensionConfig(resource: codec.Any): ExtensionPlan {
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
  let config: codec.TypedExtensionConfig;
  try {
    config = codec.decodeExtensionConfig(resource.value);
  } catch (error) {
    const reason = `extension config does not decode: ${describeError(error)}`;
    return refuse(nameAtStart(resource.value), reason);
  }
  const { name, typedConfig } = config;
  // Envoy refuses it too (extension.proto, min_len 1), but only after the module was fetched.
  if (name === '') return refuse('', 'extension config has no name');
  if (typedConfig === undefined) return refuse(name, 'extension config has no typed_config');
  const filter = readFilter(typedConfig);
  switch (filter.kind) {
    case 'other':
      return { kind: 'as-is', name, bytes: resource.value, holdsWasm: namesWasm(typedConfig) };
    case 'broken':
      return refuseWithFallback(config, filter.filterKind, 'deny', filter.reason, 'unmarshal_failure');
    case 'wasm':
      return planWasm(config, filter.filterKind, filter.filter, resource.value);
    default:
      return filter satisfies never;
  }
}

/** Part of the names of all messages that configure Wasm, of whatever kind of filter. */
const wasmTypePart = '.wasm.v3.';

/** Also in JSON and under type URLs of an unusual prefix: types are always named by their texts. */
function namesWasm({ typeUrl, value }: codec.Any): boolean {
  if (typeUrl.includes(wasmTypePart)) return true;
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).includes(wasmTypePart);
}

/** Tag of `TypedExtensionConfig.name`: field 1, length-delimited. */
const nameTag = 0x0a;

/**
 * The name of a config that does not decode, where it comes first, as every encoder writes it: whatever is broken
 * after it, it tells whose update this was. Empty when it is not there whole.
 */
function nameAtStart(bytes: Uint8Array): string {
  const [tag, low = 0, high = 0] = bytes;
  // A length of up to two bytes: no name has 16 KiB.
  const lengthBytes = low < 0x80 ? 1 : 2;
  if (tag !== nameTag || (lengthBytes === 2 && high >= 0x80)) return '';
  const start = 1 + lengthBytes;
  const end = start + (lengthBytes === 1 ? low : low - 0x80 + high * 0x80);
  if (end > bytes.byteLength) return '';
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(start, end));
  } catch {
    return '';
  }
}

type FilterReading =
  | { readonly kind: 'other' }
  | { readonly kind: 'broken'; readonly filterKind: codec.FilterKind; readonly reason: string }
  | { readonly kind: 'wasm'; readonly filterKind: codec.FilterKind; readonly filter: codec.WasmFilter };

const filterKindByTypeUrl: ReadonlyMap<string, codec.FilterKind> = new Map([
  [typeUrls.httpWasm, 'http'],
  [typeUrls.networkWasm, 'network'],
]);

function readFilter(typedConfig: codec.Any): FilterReading {
  const direct = filterKindByTypeUrl.get(typedConfig.typeUrl);
  if (direct !== undefined) {
    try {
      return { kind: 'wasm', filterKind: direct, filter: codec.decodeWasm(direct, typedConfig.value) };
    } catch (error) {
      return {
        kind: 'broken',
        filterKind: direct,
        reason: `${direct} Wasm config does not decode: ${describeError(error)}`,
      };
    }
  }
  const family = structFamily(typedConfig.typeUrl);
  if (family === undefined) return { kind: 'other' };
  let struct: ReturnType<typeof codec.decodeTypedStruct>;
  try {
    struct = codec.decodeTypedStruct(family, typedConfig.value);
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
    return { kind: 'wasm', filterKind, filter: codec.wasmFromJson(filterKind, struct.json) };
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

function planWasm(
  config: codec.TypedExtensionConfig,
  kind: codec.FilterKind,
  filter: codec.WasmFilter,
  original: Uint8Array,
): ExtensionPlan {
  const { name } = config;
  const plugin = filter.config;
  const action: FallbackAction = isFailOpen(plugin) ? 'allow' : 'deny';
  const vm = plugin?.vm.case === 'vmConfig' ? plugin.vm.value : undefined;
  const code = vm?.code?.specifier;
  if (vm === undefined || code === undefined || code.case === undefined) {
    const reason = 'Wasm config names neither remote nor local code (config.vm_config.code is empty)';
    return refuseWithFallback(config, kind, action, reason, 'unmarshal_failure');
  }
  if (code.case === 'local') {
    const local = localCode(code.value.specifier);
    return {
      kind: 'local',
      name,
      module: localModule(vm.runtime, local),
      code: local,
      bytes: stripAgentKeys(vm) ? encodeWith(config, kind, codec.encodeWasm(filter)) : original,
      fallbackAction: action,
      fallback: () => encodeFallback(config, kind, action),
    };
  }
  const directives = readDirectives(vm);
  stripAgentKeys(vm);
  if (directives.pullSecret.kind === 'missing') {
    const reason = `cannot fetch Wasm module ${plugin?.name ?? name}: missing image pulling secret (istiod does not know the secret, or may not give it to this proxy)`;
    return refuseWithFallback(config, kind, action, reason, 'fetch_failure');
  }
  const httpUri = code.value.httpUri;
  if (httpUri === undefined) {
    const reason = `wasm remote fetch does not have httpUri specified for config ${name}`;
    return refuseWithFallback(config, kind, action, reason, 'miss_remote_fetch_hint');
  }
  return {
    kind: 'fetch',
    name,
    request: {
      resourceName: name,
      url: httpUri.uri,
      sha256: code.value.sha256 === '' || code.value.sha256 === 'nil' ? undefined : code.value.sha256,
      timeoutMs: httpUri.timeout === undefined ? defaultTimeoutMs : durationMs(httpUri.timeout),
      pullPolicy: directives.pullPolicy,
      pullSecret: directives.pullSecret.kind === 'given' ? directives.pullSecret.text : undefined,
      pluginResourceVersion: directives.pluginResourceVersion,
    },
    fallbackAction: action,
    fallback: () => encodeFallback(config, kind, action),
    rewrite: (path) => {
      codec.setLocalCode(vm, path);
      return encodeWith(config, kind, codec.encodeWasm(filter));
    },
  };
}

/** Envoy takes the engine that it was built with when none is named, and Istio's is V8. */
const v8Runtimes: readonly string[] = ['', 'envoy.wasm.runtime.v8'];

type LocalSpecifier = Extract<
  NonNullable<codec.VmConfig['code']>['specifier'],
  { readonly case: 'local' }
>['value']['specifier'];

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

function localCode(specifier: LocalSpecifier): LocalCode {
  switch (specifier.case) {
    case 'filename':
      return { kind: 'local', path: specifier.value };
    case 'inlineBytes':
      return { kind: 'inline', bytes: specifier.value };
    case 'inlineString':
      return { kind: 'inline', bytes: Buffer.from(specifier.value, 'utf8') };
    // No variable can hold the zero byte that a module begins with: Envoy refuses it.
    case 'environmentVariable':
    case undefined:
      return { kind: 'inline', bytes: undefined };
    default:
      return specifier satisfies never;
  }
}

/** `failure_policy` wins; unspecified falls back to the deprecated `fail_open`, which is closed by default. */
function isFailOpen(plugin: codec.WasmFilter['config']): boolean {
  if (plugin === undefined) return false;
  if (plugin.failurePolicy !== codec.FailurePolicy.UNSPECIFIED) {
    return plugin.failurePolicy === codec.FailurePolicy.FAIL_OPEN;
  }
  return plugin.failOpen;
}

function durationMs(duration: { readonly seconds: bigint; readonly nanos: number }): number {
  return Math.max(0, Number(duration.seconds) * 1_000 + duration.nanos / 1e6);
}

const wasmTypeUrls = { http: typeUrls.httpWasm, network: typeUrls.networkWasm } as const;

function encodeWith(
  config: codec.TypedExtensionConfig,
  kind: codec.FilterKind,
  wasm: Uint8Array,
): Uint8Array {
  return codec.encodeExtensionConfig({ ...config, typedConfig: codec.makeAny(wasmTypeUrls[kind], wasm) });
}

function encodeFallback(
  config: codec.TypedExtensionConfig,
  kind: codec.FilterKind,
  action: FallbackAction,
): Uint8Array {
  const { typeUrl, value } = fallbackFilter(kind, action);
  return codec.encodeExtensionConfig({ ...config, typedConfig: codec.makeAny(typeUrl, value) });
}

function refuseWithFallback(
  config: codec.TypedExtensionConfig,
  kind: codec.FilterKind,
  fallbackAction: FallbackAction,
  reason: string,
  result: ConversionResult,
): ExtensionPlan {
  const fallback = (): Uint8Array => encodeFallback(config, kind, fallbackAction);
  return { kind: 'refused', name: config.name, reason, result, fallbackAction, fallback };
}
