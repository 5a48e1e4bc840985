import type { Bytes } from './encoding.ts';
import {
  buildModule,
  type FunctionDescription,
  type ImportDescription,
  i32,
  type ModuleDescription,
  type Signature,
} from './module-builder.ts';

/** A signature of parameters and results. */
export function signature(params: readonly Bytes[], results: readonly Bytes[]): Signature {
  return { params, results };
}

/** An exported function with a body that returns zeros, or with the one that is given. */
export function exported(
  name: string,
  params: readonly Bytes[],
  results: readonly Bytes[],
  body?: Bytes,
): FunctionDescription {
  const type = signature(params, results);
  return body === undefined ? { type, exportedAs: [name] } : { type, exportedAs: [name], body };
}

/** A function of the module's own that is not exported. */
export function inner(
  params: readonly Bytes[],
  results: readonly Bytes[],
  body?: Bytes,
): FunctionDescription {
  const type = signature(params, results);
  return body === undefined ? { type } : { type, body };
}

export function importedFunction(
  module: string,
  name: string,
  params: readonly Bytes[],
  results: readonly Bytes[],
): ImportDescription {
  return { module, name, kind: 'function', type: signature(params, results) };
}

/** `proxy_log`, as Envoy offers it. */
export const importedLog = importedFunction('env', 'proxy_log', [i32, i32, i32], [i32]);

/** Instructions that call function 0 with the arguments 0, 0, 0 and drop its result: `proxy_log` when that is it. */
export const callLog: Bytes = [0x41, 0, 0x41, 0, 0x41, 0, 0x10, 0, 0x1a];

/** The functions of the smallest plugin, by name; `proxy_on_configure` says yes. */
const pluginFunctions: readonly FunctionDescription[] = [
  exported('proxy_abi_version_0_2_1', [], []),
  exported('malloc', [i32], [i32]),
  exported('proxy_on_vm_start', [i32, i32], [i32], [0x41, 1]),
  exported('proxy_on_configure', [i32, i32], [i32], [0x41, 1]),
  exported('proxy_on_context_create', [i32, i32], []),
];

/** How a module differs from the smallest plugin. */
export interface PluginChanges extends Omit<ModuleDescription, 'functions'> {
  /** Functions that stand after the plugin's own, or in the place of those with the same name. */
  readonly functions?: readonly FunctionDescription[];
  /** Names of the plugin's functions to leave out. */
  readonly without?: readonly string[];
  /** False leaves the memory unexported. */
  readonly exportsMemory?: boolean;
}

/** The smallest plugin that Envoy takes, changed: its functions, one exported memory of a page, nothing else. */
export function pluginModule(changes: PluginChanges = {}): Uint8Array {
  const { functions = [], without = [], exportsMemory = true, ...rest } = changes;
  const nameOf = (each: FunctionDescription): string | undefined => each.exportedAs?.[0];
  const kept = pluginFunctions.flatMap((own) => {
    if (without.some((name) => name === nameOf(own))) return [];
    return [functions.find((each) => nameOf(each) === nameOf(own)) ?? own];
  });
  const added = functions.filter((each) => !kept.includes(each));
  const memories = rest.memories ?? [{ min: 1 }];
  const memoryExport = { name: 'memory', kind: 'memory', index: 0 } as const;
  return buildModule({
    ...rest,
    functions: [...kept, ...added],
    memories,
    exports: [...(exportsMemory ? [memoryExport] : []), ...(rest.exports ?? [])],
  });
}

/** Index of the first function that `pluginModule` adds, when it imports `importCount` functions. */
export function firstAddedFunction(importCount: number): number {
  return importCount + pluginFunctions.length;
}
