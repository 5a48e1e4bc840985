import { judgeExports } from './export-rules.ts';
import { type AbiVersion, abiVersionExports, abiVersionPrefix } from './host-abi.ts';
import { judgeImports } from './import-rules.ts';
import { judgeMemories, judgeMemoryAccess, judgeStart } from './memory-rules.ts';
import { type ModuleReading, readModuleFile } from './module-reader.ts';
import type { ModuleSummary } from './module-summary.ts';
import { quoted } from './quoted-name.ts';
import { judgeTableLimits } from './table-rules.ts';
import { validatesInV8 } from './v8-validation.ts';
import {
  envoyMaxMemoryPages,
  type PreflightLimits,
  type PreflightWarning,
  type Refusal,
  type Verdict,
} from './verdict.ts';

/** Reasons, and warnings, told of one module: a module may have as many as imports. */
const maxToldCount = 20;

/** A module file as `inspectModule` saw it. */
export interface Inspection {
  /** Undefined when the bytes could not be read as a module. */
  readonly summary: ModuleSummary | undefined;
  readonly verdict: Verdict;
}

/**
 * Says whether the module in this file may be offered to Envoy. Reads its imports, exports and sizes only: code is
 * neither validated nor compiled. `maxMemoryPages` is Envoy's own limit when left out. The verdict depends on the bytes
 * and `maxMemoryPages` alone. Rejects with the system's error when the file cannot be read, and with the signal's reason.
 */
export async function preflightModule(
  path: string,
  options: { readonly maxMemoryPages?: number; readonly signal: AbortSignal },
): Promise<Verdict> {
  const limits = { maxMemoryPages: options.maxMemoryPages ?? envoyMaxMemoryPages };
  return judgeReading(await readModuleFile(path, { signal: options.signal }), limits);
}

/**
 * The verdict with what it rests on. A module of at most `validateUpToBytes` (0 when left out: none) is also read whole
 * and given to the V8 of this process, whose refusal is only a warning: its features are not those of Envoy's V8.
 */
export async function inspectModule(
  path: string,
  options: {
    readonly limits?: PreflightLimits;
    readonly validateUpToBytes?: number;
    readonly signal: AbortSignal;
  },
): Promise<Inspection> {
  const { signal } = options;
  const limits = options.limits ?? { maxMemoryPages: envoyMaxMemoryPages };
  const reading = await readModuleFile(path, { signal });
  const verdict = judgeReading(reading, limits);
  if (reading.kind === 'failed') return { summary: undefined, verdict };
  const { summary } = reading;
  const isValidated = verdict.kind === 'accepted' && summary.sizeBytes <= (options.validateUpToBytes ?? 0);
  if (!isValidated || (await validatesInV8(path, { signal }))) return { summary, verdict };
  const message =
    "The V8 of this agent does not validate its code. Envoy's V8 may: its WebAssembly features are others.";
  const warnings = [...verdict.warnings, { code: 'v8_validate_failed', message } as const];
  return { summary, verdict: { ...verdict, warnings } };
}

/** Judges what was read of a module, or the failure to read it. Pure. */
export function judgeReading(reading: ModuleReading, limits: PreflightLimits): Verdict {
  switch (reading.kind) {
    case 'module':
      return judgeModule(reading.summary, limits);
    case 'failed':
      return { kind: 'refused', reasons: [describeFailure(reading)] };
    default:
      return reading satisfies never;
  }
}

/** Judges a module by what it imports and exports. Pure. Tells all reasons, at most 20. */
export function judgeModule(summary: ModuleSummary, limits: PreflightLimits): Verdict {
  const versions = exportedVersions(summary);
  const abi = versions[0];
  const imports = judgeImports(summary, abi);
  const refusals: Refusal[] = [
    ...(abi === undefined ? [describeMissingAbi(summary)] : []),
    ...imports.refusals,
    ...judgeExports(summary, abi),
    ...judgeMemories(summary, limits),
    ...summary.tables.flatMap((table) => judgeTableLimits('A table', table, 'inner')),
  ];
  const warnings: PreflightWarning[] = [...imports.warnings];
  if (abi !== undefined) {
    for (const { refusal, warning } of [judgeMemoryAccess(summary, abi), judgeStart(summary, abi)]) {
      if (refusal !== undefined) refusals.push(refusal);
      if (warning !== undefined) warnings.push(warning);
    }
    if (versions.length > 1) {
      const message = `It exports the ABI versions ${versions.join(', ')}; Envoy takes the first, ${abi}.`;
      warnings.push({ code: 'several_abi_versions', message });
    }
  }
  if (refusals.length > 0 || abi === undefined) {
    return { kind: 'refused', reasons: refusals.slice(0, maxToldCount) };
  }
  return { kind: 'accepted', abi, warnings: warnings.slice(0, maxToldCount) };
}

/** The ABI versions it exports as functions, in the order of its exports. */
function exportedVersions({ exports }: ModuleSummary): readonly AbiVersion[] {
  return exports.flatMap(({ name, extern }) => {
    const version = extern.kind === 'function' ? abiVersionExports.get(name) : undefined;
    return version === undefined ? [] : [version];
  });
}

function describeMissingAbi({ exports }: ModuleSummary): Refusal {
  const alike = exports
    .filter(({ name }) => name.startsWith(abiVersionPrefix))
    .map(({ name, extern }) => `the ${extern.kind} ${quoted(name)}`);
  const found =
    alike.length === 0
      ? 'It exports no ABI version: it is not a proxy-wasm plugin, or its SDK was not linked in'
      : `It exports ${alike.slice(0, 3).join(', ')}`;
  const wanted = [...abiVersionExports.keys()].join(', ');
  return {
    code: 'no_abi_export',
    message: `${found}. Envoy wants a function among ${wanted}; build it with a proxy-wasm SDK of ABI 0.2.1.`,
  };
}

function describeFailure(failure: ModuleReading & { readonly kind: 'failed' }): Refusal {
  const { code, offset, message } = failure;
  const where = `At byte ${offset}: ${message}.`;
  switch (code) {
    case 'not_wasm':
      return {
        code,
        message: `It is not a WebAssembly module: ${message}. Check the image's layer or the URL.`,
      };
    case 'component':
      return {
        code,
        message:
          'It is a WebAssembly component; Envoy takes core modules. Build for wasm32-wasip1 without a component step.',
      };
    case 'unknown_version':
      return { code, message: `${where} Envoy takes version 1 of the binary format; build it anew.` };
    case 'malformed':
      return { code, message: `${where} The file is damaged or was cut off; build or publish it anew.` };
    case 'malformed_name_section':
      return {
        code,
        message: `${where} Envoy refuses a module with such a name section; strip it (wasm-strip, wasm-opt --strip-debug).`,
      };
    case 'unknown_encoding':
      return {
        code,
        message: `${where} The file is damaged, or uses a WebAssembly proposal that Envoy does not take; turn that off.`,
      };
    case 'too_complex':
      return { code, message: `${where} Strip the module; nothing that Envoy needs is that large.` };
    default:
      return code satisfies never;
  }
}
