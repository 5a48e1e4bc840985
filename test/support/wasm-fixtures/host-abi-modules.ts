import {
  type AbiVersion,
  abiVersionExports,
  allHostFunctions,
  lookedUpExports,
} from '../../../agent/wasm/preflight/host-abi.ts';
import type { Bytes } from './encoding.ts';
import {
  type FunctionDescription,
  type ImportDescription,
  i32,
  i64,
  type Signature,
} from './module-builder.ts';
import { exported, type PluginChanges, pluginModule, signature } from './plugin-module.ts';
import { acceptedCase, type PreflightCase } from './preflight-case.ts';

const abiVersions: readonly AbiVersion[] = [...abiVersionExports.values()];

/** `i32 i64 -> i32` as a signature. */
function parseSignature(words: string): Signature {
  const [params = '', results = ''] = words.split(' -> ');
  const parse = (side: string): readonly Bytes[] =>
    side === 'void' ? [] : side.split(' ').map((word) => (word === 'i64' ? i64 : i32));
  return signature(parse(params), parse(results));
}

/** All host functions of an ABI version as imports. */
function allImports(abi: AbiVersion): readonly ImportDescription[] {
  return [...allHostFunctions(abi)].map(([path, { type }]) => {
    const dot = path.indexOf('.');
    return {
      module: path.slice(0, dot),
      name: path.slice(dot + 1),
      kind: 'function',
      type: parseSignature(type),
    };
  });
}

/** What Envoy looks up, in the four shapes a module can have: reactor or command, one allocator or the other. */
export function allExports(
  abi: AbiVersion,
  shape: { readonly isReactor: boolean; readonly hasMalloc: boolean },
): readonly FunctionDescription[] {
  const isExported = (name: string): boolean =>
    (name === '_initialize' && shape.isReactor) || (name === 'malloc' && shape.hasMalloc);
  return [...lookedUpExports(abi, isExported)].map(([name, words]) => {
    const type = parseSignature(words);
    // A callback answers 1: yes, for those that are asked.
    return exported(name, type.params, type.results, type.results.length === 0 ? [] : [0x41, 1]);
  });
}

/** The smallest plugin of an ABI version, without its allocator, changed. */
export function pluginOfAbi(abi: AbiVersion, changes: PluginChanges): Uint8Array {
  return pluginModule({
    ...changes,
    without: ['proxy_abi_version_0_2_1', 'malloc'],
    functions: [exported(`proxy_abi_version_${abi}`, [], []), ...(changes.functions ?? [])],
  });
}

/** For each ABI version modules with all of its imports and all of its exports: that Envoy takes them proves each row. */
export const hostAbiModules: readonly PreflightCase[] = abiVersions.flatMap((abi) => [
  acceptedCase(
    `imports all that Envoy offers to ABI ${abi}`,
    () => pluginOfAbi(abi, { imports: allImports(abi), functions: [exported('malloc', [i32], [i32])] }),
    // Told of at most 20 times.
    Array.from({ length: 20 }, () => 'needs_newer_host' as const),
  ),
  ...[true, false].map((isReactor) =>
    acceptedCase(
      `exports all that Envoy looks up of ABI ${abi}, as a ${isReactor ? 'reactor' : 'command'}`,
      () => pluginOfAbi(abi, { functions: allExports(abi, { isReactor, hasMalloc: isReactor }) }),
    ),
  ),
]);
