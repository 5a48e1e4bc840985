import { type AbiVersion, hostFunction } from './host-abi.ts';
import type { ModuleImport, ModuleSummary } from './module-summary.ts';
import { quoted } from './quoted-name.ts';
import type { PreflightLimits, PreflightWarning, Refusal } from './verdict.ts';

/** 4 GiB: all that 32 bits address. Source: WebAssembly core specification 3.0, 3.2.17. */
const maxAddressablePages = 65_536;

/** What Envoy makes of the sizes of a module's memories. */
export function judgeMemories({ memories }: ModuleSummary, limits: PreflightLimits): readonly Refusal[] {
  return memories.flatMap(({ min, max, is64 }): readonly Refusal[] => {
    if (min > limits.maxMemoryPages) {
      const message = `Its memory starts with ${min} pages of 64 KiB; at most ${limits.maxMemoryPages} are allowed. Lower its initial size (for wasm-ld: --initial-memory).`;
      return [{ code: 'memory_over_limit', message }];
    }
    if (!is64 && max !== undefined && max > maxAddressablePages) {
      const message = `Its memory has a maximum of ${max} pages of 64 KiB; 32 bits address ${maxAddressablePages}. Lower its maximum.`;
      return [{ code: 'memory_over_limit', message }];
    }
    return [];
  });
}

/**
 * Envoy works on the memory that a module exports, under any name, or imports. Without one every host function that
 * looks for it follows a null pointer.
 */
export function judgeMemoryAccess(
  { imports, exports }: ModuleSummary,
  abi: AbiVersion,
): { readonly refusal?: Refusal; readonly warning?: PreflightWarning } {
  const isVisible = [...imports, ...exports].some(({ extern }) => extern.kind === 'memory');
  if (isVisible) return {};
  const user = imports.find(({ module, name }) => hostFunction(abi, module, name)?.needs === 'memory');
  if (user === undefined) {
    return { warning: { code: 'no_memory', message: 'It neither exports nor imports a memory.' } };
  }
  const message = `It neither exports nor imports a memory, and imports ${quoted(user.module)}.${quoted(user.name)}, which makes Envoy end without one. Export its memory.`;
  return { refusal: { code: 'crash_class_no_memory', message } };
}

/** V8 runs the start section before Envoy sets the context that host functions work in. */
export function judgeStart(
  { start }: ModuleSummary,
  abi: AbiVersion,
): { readonly refusal?: Refusal; readonly warning?: PreflightWarning } {
  if (start === undefined) return {};
  const { type, certainCalls, possibleCalls } = start;
  if (type.text !== 'void -> void') {
    const message = `Its start function is ${type.text}; it must be void -> void. Compile it again: no engine takes this.`;
    return { refusal: { code: 'mistyped_start', message } };
  }
  const advice = 'Export the code as _initialize instead (for AssemblyScript: --exportStart _initialize)';
  const certain = certainCalls.find((each) => needsContext(each, abi));
  if (certain !== undefined) {
    const message = `Its start section calls ${quoted(certain.module)}.${quoted(certain.name)}, for which Envoy has no context yet: it ends. ${advice}.`;
    return { refusal: { code: 'crash_class_start_hostcall', message } };
  }
  const possible = possibleCalls.find((each) => needsContext(each, abi));
  if (possible === undefined) return {};
  const message = `Its start section may call ${quoted(possible.module)}.${quoted(possible.name)}; if it does, Envoy ends. ${advice}.`;
  return { warning: { code: 'start_may_call_host', message } };
}

function needsContext({ module, name }: ModuleImport, abi: AbiVersion): boolean {
  const host = hostFunction(abi, module, name);
  return host !== undefined && host.needs !== 'nothing';
}
