/**
 * ECDS resources: WasmPlugins in the very bytes istiod sends, the RBAC filters that stand in for them, and any other.
 * Source: istio/istio `pilot/pkg/model/extensions.go`, `pilot/pkg/networking/core/extension/extensionfilter.go`.
 */
import type { Resource } from './discovery-messages.ts';
import { ControlPlaneError } from './error.ts';
import { anyOf, ProtoWriter, sortedEntries, structOf } from './proto-writer.ts';
import { typeUrls } from './type-urls.ts';

/** Which chain the filter stands in. */
export type FilterKind = 'http' | 'network';
/** What happens to requests while the module does not run; `FAIL_CLOSE` unless the plugin says otherwise. */
export type FailStrategy = 'FAIL_CLOSE' | 'FAIL_OPEN' | 'FAIL_RELOAD';
/** Where in the chain a plugin stands, first to last. */
export type PluginPhase = 'AUTHN' | 'AUTHZ' | 'STATS' | 'UNSPECIFIED';

/** A WasmPlugin as its user writes it. */
export interface WasmPluginOptions {
  readonly name: string;
  readonly namespace?: string;
  /** `oci://`, `http(s)://` or `file://`; without a scheme it is taken as `oci://`. */
  readonly url: string;
  /** As the user gave it; default none. */
  readonly sha256?: string;
  /** Becomes JSON text with sorted keys inside a StringValue. Without members the configuration is an empty Any. */
  readonly pluginConfig?: Readonly<Record<string, unknown>>;
  /** `root_id` of the Wasm context. */
  readonly pluginName?: string;
  readonly failStrategy?: FailStrategy;
  /** Unset is `UNSPECIFIED_POLICY`, which istiod does not send. */
  readonly imagePullPolicy?: 'IfNotPresent' | 'Always';
  /** Docker configuration JSON; empty as for a secret that istiod does not know; unset for a plugin without one. */
  readonly imagePullSecret?: string;
  /** Variables of the VM with a value. */
  readonly env?: Readonly<Record<string, string>>;
  /** Variables of the VM whose value comes from Envoy's environment. */
  readonly hostEnv?: readonly string[];
  /** The plugin's version in the Kubernetes API. */
  readonly resourceVersion?: string;
  /** Where the filter stands in the chain; the resource itself does not have it. */
  readonly phase?: PluginPhase;
  /** Higher first within a phase. */
  readonly priority?: number;
  readonly kind?: FilterKind;
  /** How the filter is packed: plainly, as istiod does for a plugin, or as an EnvoyFilter may, in a TypedStruct. */
  readonly typedStruct?: 'none' | 'udpa' | 'xds';
  /** A TrafficExtension has no suffix in its names. */
  readonly source?: 'WasmPlugin' | 'TrafficExtension';
}

/** An ECDS resource together with the place of its filter. */
export interface WasmPlugin {
  /** The resource name, which is the filter's name in the listener too. */
  readonly name: string;
  readonly kind: FilterKind;
  readonly phase: PluginPhase;
  readonly priority: number | undefined;
  readonly resource: Resource;
}

/** Types of the filters that istiod lets an ECDS filter have. */
export const filterTypeUrls = {
  httpWasm: 'type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm',
  networkWasm: 'type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm',
  httpRbac: 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC',
  networkRbac: 'type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC',
} as const;

const typedStructUrls = {
  udpa: 'type.googleapis.com/udpa.type.v1.TypedStruct',
  xds: 'type.googleapis.com/xds.type.v3.TypedStruct',
} as const;

const resourceNamePrefix = 'extensions.istio.io/trafficextension/';
const failurePolicies = {
  FAIL_RELOAD: { number: 1, name: 'FAIL_RELOAD' },
  FAIL_CLOSE: { number: 2, name: 'FAIL_CLOSED' },
  FAIL_OPEN: { number: 3, name: 'FAIL_OPEN' },
} as const satisfies Record<FailStrategy, unknown>;
const fetchTimeoutSeconds = 30;
const rbacStatPrefixField = { http: 6, network: 3 } as const;
const phaseOrder: readonly PluginPhase[] = ['AUTHN', 'AUTHZ', 'STATS', 'UNSPECIFIED'];
/** The priority of a plugin that has none: Go's math.MinInt32. */
const lowestPriority = -(2 ** 31);

/** The name of a plugin's ECDS resource and filter. */
export function wasmPluginResourceName(
  namespace: string,
  name: string,
  source: WasmPluginOptions['source'] = 'WasmPlugin',
): string {
  return `${resourceNamePrefix}${pluginFullName(namespace, name, source)}`;
}

/** The ECDS resource of a WasmPlugin, as istiod makes it. Throws ControlPlaneError `bad_resource`. */
export function wasmPlugin(options: WasmPluginOptions): WasmPlugin {
  const { namespace = 'istio-system', name, source = 'WasmPlugin', kind = 'http' } = options;
  if (name === '' || options.url === '') {
    throw new ControlPlaneError('bad_resource', 'a WasmPlugin needs a name and a url');
  }
  const resourceName = wasmPluginResourceName(namespace, name, source);
  const filterType = kind === 'http' ? filterTypeUrls.httpWasm : filterTypeUrls.networkWasm;
  const fullName = pluginFullName(namespace, name, source);
  const resource =
    options.typedStruct === undefined || options.typedStruct === 'none'
      ? extensionConfig(resourceName, filterType, encodeWasm(fullName, options))
      : extensionConfig(
          resourceName,
          typedStructUrls[options.typedStruct],
          new ProtoWriter()
            .text(1, filterType)
            .message(2, structOf(wasmJson(fullName, options)))
            .finish(),
        );
  return {
    name: resourceName,
    kind,
    phase: options.phase ?? 'UNSPECIFIED',
    priority: options.priority,
    resource,
  };
}

/** Any ECDS resource: `value` is the encoded message of the type `filterTypeUrl`. */
export function extensionConfig(name: string, filterTypeUrl: string, value: Uint8Array): Resource {
  return {
    name,
    typeUrl: typeUrls.ecds,
    value: new ProtoWriter().text(1, name).message(2, anyOf(filterTypeUrl, value)).finish(),
  };
}

/**
 * The RBAC filter with which the stock agent replaces a module it cannot fetch.
 * Source: istio/istio `pkg/wasm/convert.go`; allow is the absence of rules, deny is rules that admit nobody.
 */
export function rbacFilter(options: {
  readonly name: string;
  readonly action: 'allow' | 'deny';
  readonly kind?: FilterKind;
}): Resource {
  const { name, action, kind = 'http' } = options;
  const rbac = new ProtoWriter();
  if (action === 'deny') rbac.message(1, new ProtoWriter());
  rbac.text(rbacStatPrefixField[kind], `wasm-default-${action}`);
  return extensionConfig(
    name,
    kind === 'http' ? filterTypeUrls.httpRbac : filterTypeUrls.networkRbac,
    rbac.finish(),
  );
}

/** In the order in which requests pass the filters: by phase, then by priority. Plugins of equal rank keep their order. */
export function inFilterOrder(plugins: readonly WasmPlugin[]): WasmPlugin[] {
  return [...plugins].sort(
    (a, b) =>
      phaseOrder.indexOf(a.phase) - phaseOrder.indexOf(b.phase) ||
      (b.priority ?? lowestPriority) - (a.priority ?? lowestPriority),
  );
}

function pluginFullName(namespace: string, name: string, source: WasmPluginOptions['source']): string {
  return `${namespace}.${name}${source === 'TrafficExtension' ? '' : '~istio-translated-wasmplugin'}`;
}

/** `Wasm{config: PluginConfig}`, the same for both kinds of filter. `failure_policy` is 7, `vm_config` a oneof: last. */
function encodeWasm(fullName: string, options: WasmPluginOptions): Buffer {
  const config = new ProtoWriter().text(1, fullName);
  if (options.pluginName !== undefined) config.text(2, options.pluginName);
  const json = pluginConfigJson(options);
  config.message(
    4,
    json === undefined
      ? new ProtoWriter()
      : anyOf('type.googleapis.com/google.protobuf.StringValue', new ProtoWriter().text(1, json).finish()),
  );
  config.varint(7, failurePolicies[options.failStrategy ?? 'FAIL_CLOSE'].number);
  const vm = new ProtoWriter().text(2, 'envoy.wasm.runtime.v8').message(3, encodeCode(options));
  const environment = new ProtoWriter();
  for (const key of options.hostEnv ?? []) environment.text(1, key);
  for (const [key, value] of sortedEntries(vmEnvironment(options))) {
    environment.message(2, new ProtoWriter().text(1, key).text(2, String(value)));
  }
  config.message(3, vm.message(7, environment));
  return new ProtoWriter().message(1, config).finish();
}

/** `AsyncDataSource`: a file is local, everything else remote with istiod's constant cluster and timeout. */
function encodeCode(options: WasmPluginOptions): ProtoWriter {
  const source = codeSource(options.url);
  if (source.kind === 'file') return new ProtoWriter().message(1, new ProtoWriter().text(1, source.path));
  const httpUri = new ProtoWriter()
    .text(1, source.uri)
    .message(3, new ProtoWriter().varint(1, fetchTimeoutSeconds))
    .text(2, '_');
  const remote = new ProtoWriter().message(1, httpUri);
  if (options.sha256 !== undefined && options.sha256 !== '') remote.text(2, options.sha256);
  return new ProtoWriter().message(2, remote);
}

/** The same filter in protobuf's JSON form, for a TypedStruct. */
function wasmJson(fullName: string, options: WasmPluginOptions): Record<string, unknown> {
  const source = codeSource(options.url);
  const json = pluginConfigJson(options);
  return {
    config: {
      name: fullName,
      root_id: options.pluginName,
      configuration:
        json === undefined
          ? undefined
          : { '@type': 'type.googleapis.com/google.protobuf.StringValue', value: json },
      failure_policy: failurePolicies[options.failStrategy ?? 'FAIL_CLOSE'].name,
      vm_config: {
        runtime: 'envoy.wasm.runtime.v8',
        code:
          source.kind === 'file'
            ? { local: { filename: source.path } }
            : {
                remote: {
                  http_uri: { uri: source.uri, cluster: '_', timeout: `${fetchTimeoutSeconds}s` },
                  sha256: options.sha256,
                },
              },
        environment_variables: { host_env_keys: options.hostEnv, key_values: vmEnvironment(options) },
      },
    },
  };
}

function vmEnvironment(options: WasmPluginOptions): Record<string, string> {
  return {
    ...(options.imagePullSecret === undefined
      ? {}
      : { ISTIO_META_WASM_IMAGE_PULL_SECRET: options.imagePullSecret }),
    ...(options.imagePullPolicy === undefined
      ? {}
      : { ISTIO_META_WASM_IMAGE_PULL_POLICY: options.imagePullPolicy }),
    ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION: options.resourceVersion ?? '',
    ...options.env,
  };
}

type CodeSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'remote'; readonly uri: string };

function codeSource(url: string): CodeSource {
  if (url.startsWith('file://')) return { kind: 'file', path: url.slice('file://'.length) };
  return { kind: 'remote', uri: /^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? url : `oci://${url}` };
}

function pluginConfigJson(options: WasmPluginOptions): string | undefined {
  const { pluginConfig } = options;
  return pluginConfig === undefined || Object.keys(pluginConfig).length === 0
    ? undefined
    : goJson(pluginConfig);
}

/** JSON as Go's encoder writes a Struct: sorted keys, no white space, `<`, `>`, `&` and line separators escaped. */
function goJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    return `{${sortedEntries(value)
      .map(([key, item]) => `${goJson(key)}:${goJson(item)}`)
      .join(',')}}`;
  }
  return JSON.stringify(value).replaceAll(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
