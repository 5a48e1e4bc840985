import assert from 'node:assert/strict';
import type { Any } from '../../support/ecds-codec.ts';
import { pluginResource } from '../wasm/extension-fixtures.ts';

const failurePolicy = { closed: 2, open: 3 } as const;

/** Where the modules of all plugins are. */
export const registryHost = 'registry.example';

/** A WasmPlugin as the model istiod has it. */
export interface ModelPlugin {
  readonly name: string;
  readonly generation: number;
  readonly strategy: keyof typeof failurePolicy;
  /** `inline` needs no fetch. */
  readonly code: 'remote' | 'inline';
  /** Envoy refuses its module. */
  readonly isBad: boolean;
}

/** What one response of the agent holds. */
export type Offered =
  | { readonly kind: 'module'; readonly generation: number; readonly isBad: boolean }
  | { readonly kind: 'allow' | 'deny' };

/** A plugin of this name; `pick` chooses what it is like. */
export function modelPlugin(name: string, generation: number, pick: number): ModelPlugin {
  return {
    name,
    generation,
    strategy: pick % 3 === 0 ? 'open' : 'closed',
    code: pick % 5 === 0 ? 'inline' : 'remote',
    isBad: pick % 4 === 0,
  };
}

/** Of its module. */
export function moduleId({ name, generation }: Pick<ModelPlugin, 'name' | 'generation'>): string {
  return `${name}-${generation}`;
}

export function moduleOf({ generation, isBad }: ModelPlugin): Offered {
  return { kind: 'module', generation, isBad };
}

/** The path by which a test knows a module in the bytes of a config. */
export function modulePath(folder: 'modules' | 'inline', id: string, isBad: boolean): string {
  return `/${folder}/${id}${isBad ? '-bad' : ''}.wasm`;
}

/** The plugin's config as istiod sends it. */
export function resourceOf(plugin: ModelPlugin): Any {
  const { name, strategy, code, isBad } = plugin;
  const common = { name, failurePolicy: failurePolicy[strategy] };
  const id = moduleId(plugin);
  return code === 'remote'
    ? pluginResource({ ...common, url: `oci://${registryHost}/${id}` })
    : pluginResource({ ...common, code: 'inline', bytes: Buffer.from(modulePath('inline', id, isBad)) });
}

/** A config as the agent sends it, by the texts in its bytes. */
export function offeredOf(bytes: string): Offered {
  const module = /\/(?:modules|inline)\/\w-(\d+)(-bad)?\.wasm/.exec(bytes);
  if (module !== null)
    return { kind: 'module', generation: Number(module[1]), isBad: module[2] !== undefined };
  const [, action] = /wasm-default-(allow|deny)/.exec(bytes) ?? [];
  assert.ok(action === 'allow' || action === 'deny', `neither a module nor a stand-in: ${bytes}`);
  return { kind: action };
}
