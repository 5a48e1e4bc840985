import { wasmPlugin, wasmPluginResourceName } from '../support/control-plane/extension-configs.ts';
import { anyOf, ProtoWriter } from '../support/control-plane/proto-writer.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { pushVersion, responseFields, type XdsMode } from './discovery-wire.ts';
import { wireField, wireFields, wireText } from './wire-fields.ts';

/** One plugin of an extension push. */
export interface PluginPush {
  readonly name: string;
  readonly url: string;
  /** Part of the plugin's configuration: makes each push different, as a change by the user would be. */
  readonly revision: number;
}

const namespace = 'bench';
const httpWasmTypeUrl = 'type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm';

/** Fields of `Resource` in an incremental response. */
const deltaResourceFields = { resource: 2, name: 3 } as const;
const anyFields = { typeUrl: 1, value: 2 } as const;
/** Fields of `TypedExtensionConfig`. */
const extensionFields = { name: 1, config: 2 } as const;
/** From a Wasm filter: config, vm_config, code, local, filename. */
const localFilePath = [1, 3, 3, 1, 1] as const;
/** From a Wasm filter: config, configuration (Any), value, value of the StringValue. */
const configurationPath = [1, 4, 2, 1] as const;

/** Name of the plugin's ECDS resource. */
export function pluginResourceName(name: string): string {
  return wasmPluginResourceName(namespace, name);
}

/** An ECDS response in istiod's bytes. */
export function encodePluginPush(mode: XdsMode, plugins: readonly PluginPush[], nonce: string): Buffer {
  const writer = new ProtoWriter().text(responseFields.version, pushVersion);
  for (const { name, url, revision } of plugins) {
    const { resource } = wasmPlugin({ name, namespace, url, pluginConfig: { revision } });
    const any = anyOf(resource.typeUrl, resource.value);
    writer.message(
      responseFields.resources,
      mode === 'sotw'
        ? any
        : new ProtoWriter()
            .message(deltaResourceFields.resource, any)
            .text(deltaResourceFields.name, resource.name),
    );
  }
  return writer.text(responseFields.typeUrl, typeUrls.ecds).text(responseFields.nonce, nonce).finish();
}

/** A plugin that came to the fake Envoy. */
export interface RewrittenPlugin {
  readonly resourceName: string;
  /** File of the module, as Envoy would open it. */
  readonly modulePath: string;
}

/**
 * The plugins of a response. Throws Error when one of them is not rewritten to a local file (a failed download gives
 * an RBAC filter) or is not of this revision: then there is nothing to measure.
 */
export function readRewrittenPlugins(
  mode: XdsMode,
  response: Buffer,
  revision: number,
): readonly RewrittenPlugin[] {
  return wireFields(response, responseFields.resources).map((resource) => {
    const anyPath = mode === 'sotw' ? [anyFields.value] : [deltaResourceFields.resource, anyFields.value];
    const extension = wireField(resource, ...anyPath) ?? Buffer.alloc(0);
    const resourceName = wireText(extension, extensionFields.name);
    const typedConfig = wireField(extension, extensionFields.config) ?? Buffer.alloc(0);
    const typeUrl = wireText(typedConfig, anyFields.typeUrl);
    if (typeUrl !== httpWasmTypeUrl)
      throw new Error(`${resourceName} came as ${typeUrl}, not as a Wasm filter.`);
    const filter = wireField(typedConfig, anyFields.value) ?? Buffer.alloc(0);
    const configuration = wireField(filter, ...configurationPath)?.toString() ?? '';
    if (configuration !== JSON.stringify({ revision })) {
      throw new Error(
        `${resourceName} came with the configuration ${configuration}, not with revision ${revision}.`,
      );
    }
    const modulePath = wireField(filter, ...localFilePath)?.toString();
    if (modulePath === undefined) throw new Error(`${resourceName} came without a local module file.`);
    return { resourceName, modulePath };
  });
}
