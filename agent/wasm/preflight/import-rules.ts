import { type AbiVersion, abiVersionsWith, hostFunction } from './host-abi.ts';
import type { FunctionType, Limits, ModuleImport, ModuleSummary, TableType } from './module-summary.ts';
import { lookupProblem } from './name-rules.ts';
import { quoted } from './quoted-name.ts';
import { judgeTableLimits } from './table-rules.ts';
import { isNameable } from './type-decoder.ts';
import type { PreflightWarning, Refusal } from './verdict.ts';

/** Advice for imports that come from a known mistake in building. */
const knownMistakes: readonly { readonly pattern: RegExp; readonly advice: string }[] = [
  {
    pattern: /^env\.abort$/,
    advice: 'compile AssemblyScript with `--use abort=` or with an abort of your own',
  },
  { pattern: /^(?:gojs|go)\./, advice: 'compile Go with GOOS=wasip1 and -buildmode=c-shared' },
  { pattern: /^wasi:/, advice: 'compile for WASI preview 1 (wasm32-wasip1): Envoy has no preview 2' },
  { pattern: /^wasm:js-string\./, advice: 'compile without JavaScript string builtins' },
  { pattern: /^__wbindgen|^wbg\./, advice: 'compile without wasm-bindgen: it needs a JavaScript host' },
  {
    pattern: /^env\.(?:__cxa_|_Unwind_|invoke_|__resumeException|llvm_eh_)/,
    advice: 'compile without exceptions that the host must throw (-fno-exceptions)',
  },
  { pattern: /^env\.(?:emscripten_|_?emscripten)/, advice: 'compile with -sSTANDALONE_WASM' },
  {
    pattern: /^env\.(?:fd_|environ_|args_|clock_|random_get|proc_exit)/,
    advice: 'import it from wasi_snapshot_preview1',
  },
];

const elsewhere = 'remove it, or use a proxy-wasm SDK made for Envoy';

/** What Envoy makes of the imports of a module. `abi` is undefined when the module names none: then functions pass. */
export function judgeImports(
  { imports }: ModuleSummary,
  abi: AbiVersion | undefined,
): { readonly refusals: readonly Refusal[]; readonly warnings: readonly PreflightWarning[] } {
  const refusals: Refusal[] = [];
  const warnings: PreflightWarning[] = [];
  for (const each of imports) {
    const { extern } = each;
    switch (extern.kind) {
      case 'function': {
        const { refusal, warning } = judgeFunction(each, extern.type, abi);
        if (refusal !== undefined) refusals.push(refusal);
        if (warning !== undefined) warnings.push(warning);
        break;
      }
      case 'table':
        refusals.push(...judgeTable(each, extern.table));
        break;
      case 'memory':
        refusals.push(...judgeMade(each, extern.memory));
        break;
      case 'global':
        refusals.push(judgeGlobal(each, extern.type));
        break;
      case 'tag':
        refusals.push({
          code: 'crash_class_tag',
          message: `It imports the tag ${pathOf(each)}; Envoy ends when it sees one. Compile without exception handling across modules.`,
        });
        break;
      default:
        extern satisfies never;
    }
  }
  refusals.push(...judgeSharedPaths(imports));
  for (const kind of ['memory', 'table'] as const) {
    const ofKind = imports.filter(({ extern }) => extern.kind === kind);
    if (ofKind.length > 1) {
      refusals.push({
        code: 'several_imports_of_a_kind',
        message: `It imports ${ofKind.length} of the kind ${kind}, among them ${ofKind.slice(0, 3).map(pathOf).join(', ')}; Envoy can give one. Define them in the module.`,
      });
    }
  }
  return { refusals, warnings };
}

/** `"module"."name"`, for messages. */
function pathOf({ module, name }: ModuleImport): string {
  return `${quoted(module)}.${quoted(name)}`;
}

function judgeFunction(
  imported: ModuleImport,
  type: FunctionType,
  abi: AbiVersion | undefined,
): { readonly refusal?: Refusal; readonly warning?: PreflightWarning } {
  if (type.unnameable !== undefined) {
    return { refusal: unnameable(imported, `a function of the type ${type.text}`, type.unnameable) };
  }
  if (abi === undefined) return {};
  const host = hostFunction(abi, imported.module, imported.name);
  if (host === undefined) {
    const message = `It imports the function ${pathOf(imported)}, which Envoy does not offer to modules of ABI ${abi}; ${adviceFor(imported)}.`;
    return { refusal: { code: 'unknown_import', message } };
  }
  if (host.type !== type.text) {
    const message = `It imports the function ${pathOf(imported)} as ${type.text}; Envoy offers ${host.type}. ${adviceForType(imported)}.`;
    return { refusal: { code: 'mistyped_import', message } };
  }
  if (host.since === undefined) return {};
  const message = `It imports the function ${pathOf(imported)}: it loads only in ${host.since}.`;
  return { warning: { code: 'needs_newer_host', message } };
}

function adviceFor({ module, name }: ModuleImport): string {
  const versions = abiVersionsWith(module, name);
  if (versions.length > 0) return `it is part of ABI ${versions.join(' and ')}: export that version instead`;
  return knownMistakes.find(({ pattern }) => pattern.test(`${module}.${name}`))?.advice ?? elsewhere;
}

function adviceForType({ module }: ModuleImport): string {
  return module === 'env'
    ? "Use a proxy-wasm SDK made for Envoy's signature"
    : 'Leave out the code that calls it: Envoy has no other form of it';
}

function judgeGlobal(imported: ModuleImport, type: string): Refusal {
  if (!isNameable(type)) return unnameable(imported, `a global of the type ${type}`, type);
  return {
    code: 'imported_global',
    message: `It imports the global ${pathOf(imported)}; Envoy gives no globals. Link it statically: position-independent modules (-fPIC, side modules) cannot run.`,
  };
}

function judgeTable(imported: ModuleImport, table: TableType): readonly Refusal[] {
  if (!isNameable(table.element)) {
    return [unnameable(imported, `a table of the type ${table.element}`, table.element)];
  }
  const limits = judgeTableLimits(`The imported table ${pathOf(imported)}`, table, 'imported');
  const isNullable = table.element === 'funcref' || table.element === 'externref';
  if (isNullable) return [...limits, ...judgeMade(imported, table)];
  const message = `It imports the table ${pathOf(imported)} of the type ${table.element}; Envoy makes tables of funcref and externref. Define it in the module.`;
  return [...limits, { code: 'unlinkable_import', message }];
}

/** What Envoy makes itself, memories and tables, it must be able to make, and V8 to find. */
function judgeMade(imported: ModuleImport, { isShared, is64 }: Limits): readonly Refusal[] {
  const what = `the ${imported.extern.kind} ${pathOf(imported)}`;
  if (isShared || is64) {
    const form = isShared ? 'shared' : '64-bit';
    const message = `It imports ${what}, a ${form} one; Envoy makes 32-bit ones that are not shared. Define it in the module.`;
    return [{ code: 'unlinkable_import', message }];
  }
  for (const name of [imported.module, imported.name]) {
    const problem = lookupProblem(name);
    if (problem === undefined) continue;
    const message = `It imports ${what}; V8 does not find it, because ${quoted(name)} ${problem}. Give it another name.`;
    return [{ code: 'unlinkable_import', message }];
  }
  return [];
}

/** V8 finds imports by module and name alone: a memory or a table shares them with nothing. */
function judgeSharedPaths(imports: readonly ModuleImport[]): readonly Refusal[] {
  const counts = new Map<string, number>();
  for (const each of imports) counts.set(keyOf(each), (counts.get(keyOf(each)) ?? 0) + 1);
  const shared = imports.find(
    (each) =>
      (each.extern.kind === 'memory' || each.extern.kind === 'table') && counts.get(keyOf(each)) !== 1,
  );
  if (shared === undefined) return [];
  const message = `It imports the ${shared.extern.kind} ${pathOf(shared)} under the names of another import; V8 takes one for the other. Give it another name.`;
  return [{ code: 'unlinkable_import', message }];
}

function keyOf({ module, name }: ModuleImport): string {
  return JSON.stringify([module, name]);
}

function unnameable(imported: ModuleImport, what: string, type: string): Refusal {
  return {
    code: 'crash_class_value_type',
    message: `It imports ${pathOf(imported)}, ${what}; Envoy ends when an import has the type ${type}. Use i32, i64, f32 and f64 at the module's border.`,
  };
}
