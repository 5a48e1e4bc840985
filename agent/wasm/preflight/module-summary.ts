/**
 * A function type in the words Envoy logs it: `i32 i32 -> i32`, with `void` for nothing. Reference types are written
 * as in the text format.
 */
export interface FunctionType {
  readonly text: string;
  /** The first of its value types that Envoy's embedding of V8 cannot name. */
  readonly unnameable: string | undefined;
}

/** Size limits of a memory in pages, of a table in elements. */
export interface Limits {
  readonly min: number;
  readonly max: number | undefined;
  readonly isShared: boolean;
  /** Addressed with 64 bits. */
  readonly is64: boolean;
}

export interface TableType extends Limits {
  /** Type of its elements. */
  readonly element: string;
}

/** What an import asks for, or an export gives. */
export type ExternType =
  | { readonly kind: 'function'; readonly type: FunctionType }
  | { readonly kind: 'table'; readonly table: TableType }
  | { readonly kind: 'memory'; readonly memory: Limits }
  | { readonly kind: 'global'; readonly type: string }
  | { readonly kind: 'tag' };

export interface ModuleImport {
  readonly module: string;
  readonly name: string;
  readonly extern: ExternType;
}

export interface ModuleExport {
  readonly name: string;
  readonly extern: ExternType;
}

/** What V8 runs while it makes an instance, before Envoy has set a context for host functions. */
export interface StartFunction {
  readonly type: FunctionType;
  /** Imported functions that it calls whenever it does not trap first. */
  readonly certainCalls: readonly ModuleImport[];
  /** Imported functions that it may call: all of them when its code could not be followed. */
  readonly possibleCalls: readonly ModuleImport[];
}

/** What a module says of itself outside its code and data. */
export interface ModuleSummary {
  readonly sizeBytes: number;
  readonly imports: readonly ModuleImport[];
  readonly exports: readonly ModuleExport[];
  /** All memories, imported ones first. */
  readonly memories: readonly Limits[];
  /** All tables, imported ones first. */
  readonly tables: readonly TableType[];
  readonly functionCount: number;
  readonly start: StartFunction | undefined;
}
