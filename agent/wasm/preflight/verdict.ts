import type { AbiVersion } from './host-abi.ts';
import type { ReadFailureCode } from './read-failure.ts';

/** Why Envoy must not be given a module. The `crash_class` ones end the Envoy process; the others end in a NACK. */
export type RefusalCode =
  | ReadFailureCode
  /** No known ABI version is exported as a function. */
  | 'no_abi_export'
  /** A function that Envoy does not offer to modules of this ABI version. */
  | 'unknown_import'
  /** A function that Envoy offers with another signature. */
  | 'mistyped_import'
  /** Envoy gives no globals. */
  | 'imported_global'
  /** More than one memory, or more than one table: Envoy keeps only the last it makes. */
  | 'several_imports_of_a_kind'
  /** A memory or a table of a form that Envoy does not make, or of a name under which V8 does not find it. */
  | 'unlinkable_import'
  | 'no_allocator'
  /** An export that Envoy calls, with another signature than it calls it by. */
  | 'mistyped_export'
  /** A start function with parameters or results. */
  | 'mistyped_start'
  | 'memory_over_limit'
  | 'table_over_limit'
  /** An imported or exported tag of exception handling. */
  | 'crash_class_tag'
  /** An imported or exported item with a value type that V8's C API cannot name. */
  | 'crash_class_value_type'
  /** An imported or exported table with a maximum that V8's C API cannot hold. */
  | 'crash_class_table_limit'
  /** An exported function or memory whose name Envoy's V8 cannot find again. */
  | 'crash_class_export_name'
  /** Host functions that read or write memory, and no memory that Envoy can find. */
  | 'crash_class_no_memory'
  /** A host function called while there is no context for it. */
  | 'crash_class_start_hostcall';

export interface Refusal {
  readonly code: RefusalCode;
  /** What was found, what Envoy wants instead, and what to do. Safe to log: names are quoted and cut. */
  readonly message: string;
}

/** What an operator should know of a module that may run. */
export type WarningCode =
  /** It imports a function that only newer Envoys have. */
  | 'needs_newer_host'
  /** Envoy finds no memory; nothing it imports would look for one. */
  | 'no_memory'
  /** Its start section may call a host function, which ends Envoy. */
  | 'start_may_call_host'
  /** More than one ABI version is exported; the first counts. */
  | 'several_abi_versions'
  /** The V8 of this agent does not validate it; Envoy's V8 knows other features. */
  | 'v8_validate_failed';

export interface PreflightWarning {
  readonly code: WarningCode;
  readonly message: string;
}

/** Whether a module may be offered to Envoy. `reasons` is never empty. */
export type Verdict =
  | { readonly kind: 'accepted'; readonly abi: AbiVersion; readonly warnings: readonly PreflightWarning[] }
  | { readonly kind: 'refused'; readonly reasons: readonly Refusal[] };

/** What the module is measured against. */
export interface PreflightLimits {
  /** Pages of 64 KiB that a memory may have from the start. */
  readonly maxMemoryPages: number;
}

/**
 * 1 GiB: what Envoy starts V8 with. Source: proxy-wasm-cpp-host, include/proxy-wasm/limits.h,
 * PROXY_WASM_HOST_MAX_WASM_MEMORY_SIZE_BYTES.
 */
export const envoyMaxMemoryPages = 16_384;
