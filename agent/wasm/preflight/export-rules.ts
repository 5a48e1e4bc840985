import { type AbiVersion, allocatorExports, lookedUpExports } from './host-abi.ts';
import type { ExternType, ModuleExport, ModuleSummary } from './module-summary.ts';
import { lookupProblem } from './name-rules.ts';
import { quoted } from './quoted-name.ts';
import { judgeTableLimits } from './table-rules.ts';
import { isNameable } from './type-decoder.ts';
import type { Refusal } from './verdict.ts';

/** What Envoy makes of the exports of a module. `abi` is undefined when the module names none. */
export function judgeExports({ exports }: ModuleSummary, abi: AbiVersion | undefined): readonly Refusal[] {
  return [
    ...exports.flatMap(judgeVisible),
    ...(abi === undefined ? [] : judgeCallbacks(exports, abi)),
    ...judgeAllocator(exports),
  ];
}

/** Envoy asks V8 for the type of every export, also of those it never uses. */
function judgeVisible({ name, extern }: ModuleExport): readonly Refusal[] {
  if (extern.kind === 'tag') {
    const message = `It exports the tag ${quoted(name)}; Envoy ends when it sees one. Keep tags inside the module.`;
    return [{ code: 'crash_class_tag', message }];
  }
  const type = unnameableType(extern);
  if (type !== undefined) {
    const message = `It exports the ${extern.kind} ${quoted(name)} with the type ${type}; Envoy ends when an export has it. Use i32, i64, f32 and f64 at the module's border, or do not export it.`;
    return [{ code: 'crash_class_value_type', message }];
  }
  const problem = lookupProblem(name);
  // Envoy looks at the others of an instance without asking for them.
  if (problem !== undefined && (extern.kind === 'function' || extern.kind === 'memory')) {
    const message = `It exports a ${extern.kind} under the name ${quoted(name)}, which ${problem}; Envoy ends when it looks it up. Give it another name, or do not export it.`;
    return [{ code: 'crash_class_export_name', message }];
  }
  if (extern.kind !== 'table') return [];
  return judgeTableLimits(`The exported table ${quoted(name)}`, extern.table, 'exported');
}

function unnameableType(extern: ExternType): string | undefined {
  switch (extern.kind) {
    case 'function':
      return extern.type.unnameable;
    case 'table':
      return isNameable(extern.table.element) ? undefined : extern.table.element;
    case 'global':
      return isNameable(extern.type) ? undefined : extern.type;
    case 'memory':
    case 'tag':
      return undefined;
    default:
      return extern satisfies never;
  }
}

function judgeCallbacks(exports: readonly ModuleExport[], abi: AbiVersion): readonly Refusal[] {
  const functions = new Map<string, string>();
  for (const { name, extern } of exports) {
    if (extern.kind === 'function') functions.set(name, extern.type.text);
  }
  const refusals: Refusal[] = [];
  for (const [name, wanted] of lookedUpExports(abi, (each) => functions.has(each))) {
    const seen = functions.get(name);
    if (seen === undefined || seen === wanted) continue;
    const message = `It exports the function ${quoted(name)} as ${seen}; Envoy calls it as ${wanted} in modules of ABI ${abi}. Use a proxy-wasm SDK of that ABI version.`;
    refusals.push({ code: 'mistyped_export', message });
  }
  return refusals;
}

function judgeAllocator(exports: readonly ModuleExport[]): readonly Refusal[] {
  const named = exports.filter(({ name }) => allocatorExports.some((each) => each === name));
  if (named.some(({ extern }) => extern.kind === 'function')) return [];
  const seen = named.map(({ name, extern }) => `${quoted(name)} is a ${extern.kind}`).join(', ');
  const found = seen === '' ? 'It exports neither' : `It exports neither as a function (${seen})`;
  const message = `${found}: Envoy needs ${allocatorExports.join(' or ')}, of the type i32 -> i32, to pass it data. Export one; SDKs do.`;
  return [{ code: 'no_allocator', message }];
}
