import { type Bytes, customSection, moduleHeader, section, text, unsigned, vector } from './encoding.ts';

/** Value types by their encoding. Source: WebAssembly core specification 3.0, 5.3. */
export const i32: Bytes = [0x7f];
export const i64: Bytes = [0x7e];
export const f64: Bytes = [0x7c];
export const v128: Bytes = [0x7b];
export const funcref: Bytes = [0x70];
export const externref: Bytes = [0x6f];
export const anyref: Bytes = [0x6e];
export const exnref: Bytes = [0x69];

/** A function type: parameters, then results. */
export interface Signature {
  readonly params: readonly Bytes[];
  readonly results: readonly Bytes[];
}

/** Limits of a memory or a table, in pages of 64 KiB or in elements. */
export interface LimitsDescription {
  readonly min: number;
  readonly max?: number;
  readonly isShared?: boolean;
  readonly is64?: boolean;
}

export interface TableDescription extends LimitsDescription {
  readonly element: Bytes;
}

export type ImportDescription = { readonly module: string; readonly name: string } & (
  | { readonly kind: 'function'; readonly type: Signature }
  | ({ readonly kind: 'table' } & TableDescription)
  | ({ readonly kind: 'memory' } & LimitsDescription)
  | { readonly kind: 'global'; readonly type: Bytes; readonly isMutable?: boolean }
  | { readonly kind: 'tag'; readonly type: Signature }
);

export interface FunctionDescription {
  readonly type: Signature;
  /** Local variables besides the parameters, one type each. */
  readonly locals?: readonly Bytes[];
  /** Instructions without the closing `end`; by default one zero constant for each result. */
  readonly body?: Bytes;
  /** Names it is exported under. */
  readonly exportedAs?: readonly string[];
}

export type ExportDescription = {
  readonly name: string;
  readonly kind: 'function' | 'table' | 'memory' | 'global' | 'tag';
  readonly index: number;
};

/** A module, section by section. Indices count imports first, as in the binary format. */
export interface ModuleDescription {
  /** Encoded types that stand before those the signatures need. */
  readonly leadingTypes?: readonly Bytes[];
  readonly imports?: readonly ImportDescription[];
  readonly functions?: readonly FunctionDescription[];
  readonly tables?: readonly TableDescription[];
  readonly memories?: readonly LimitsDescription[];
  readonly tags?: readonly Signature[];
  readonly globals?: readonly { readonly type: Bytes; readonly initializer: Bytes }[];
  readonly exports?: readonly ExportDescription[];
  /** Index of the start function. */
  readonly start?: number;
  /** Whole sections that follow the others. */
  readonly trailingSections?: readonly Bytes[];
}

const externKinds = { function: 0, table: 1, memory: 2, global: 3, tag: 4 } as const;

/**
 * Assembles a module. It checks nothing: a description that makes no sense gives a module that makes none, which is
 * what some fixtures want.
 */
export function buildModule(description: ModuleDescription): Uint8Array {
  const types = new TypeTable(description.leadingTypes ?? []);
  const imports = (description.imports ?? []).map((each) => encodeImport(each, types));
  const functions = description.functions ?? [];
  const functionTypes = functions.map(({ type }) => unsigned(types.indexOf(type)));
  const tags = (description.tags ?? []).map((type) => [0x00, ...unsigned(types.indexOf(type))]);
  const importedCount = (description.imports ?? []).filter(({ kind }) => kind === 'function').length;
  const exports = [
    ...functions.flatMap(({ exportedAs }, position) =>
      (exportedAs ?? []).map((name) =>
        encodeExport({ name, kind: 'function', index: importedCount + position }),
      ),
    ),
    ...(description.exports ?? []).map(encodeExport),
  ];
  const globals = (description.globals ?? []).map(({ type, initializer }) => [
    ...type,
    0,
    ...initializer,
    0x0b,
  ]);
  const start = description.start === undefined ? [] : [section(8, unsigned(description.start))];
  return Uint8Array.from(
    [
      moduleHeader,
      vectorSection(1, types.encoded),
      vectorSection(2, imports),
      vectorSection(3, functionTypes),
      vectorSection(4, (description.tables ?? []).map(encodeTable)),
      vectorSection(5, (description.memories ?? []).map(encodeLimits)),
      vectorSection(13, tags),
      vectorSection(6, globals),
      vectorSection(7, exports),
      ...start,
      vectorSection(10, functions.map(encodeBody)),
      ...(description.trailingSections ?? []),
    ].flat(),
  );
}

/** The `name` custom section with the names of functions, by index. Source: core specification, appendix 7.4. */
export function functionNames(names: readonly (readonly [index: number, name: string])[]): Bytes {
  const map = vector(names.map(([index, name]) => [...unsigned(index), ...text(name)]));
  return customSection('name', section(1, map));
}

/** The types of a module under construction: each signature once. */
class TypeTable {
  readonly encoded: Bytes[];

  constructor(leading: readonly Bytes[]) {
    this.encoded = [...leading];
  }

  indexOf({ params, results }: Signature): number {
    const bytes = [0x60, ...vector(params), ...vector(results)];
    const known = this.encoded.findIndex((each) => String(each) === String(bytes));
    if (known !== -1) return known;
    this.encoded.push(bytes);
    return this.encoded.length - 1;
  }
}

function encodeImport(description: ImportDescription, types: TypeTable): Bytes {
  const head = [...text(description.module), ...text(description.name), externKinds[description.kind]];
  switch (description.kind) {
    case 'function':
      return [...head, ...unsigned(types.indexOf(description.type))];
    case 'table':
      return [...head, ...encodeTable(description)];
    case 'memory':
      return [...head, ...encodeLimits(description)];
    case 'global':
      return [...head, ...description.type, description.isMutable === true ? 1 : 0];
    case 'tag':
      return [...head, 0x00, ...unsigned(types.indexOf(description.type))];
    default:
      return description satisfies never;
  }
}

function encodeExport({ name, kind, index }: ExportDescription): Bytes {
  return [...text(name), externKinds[kind], ...unsigned(index)];
}

function encodeTable(description: TableDescription): Bytes {
  return [...description.element, ...encodeLimits(description)];
}

function encodeLimits({ min, max, isShared, is64 }: LimitsDescription): Bytes {
  const flags = (max === undefined ? 0 : 1) | (isShared === true ? 2 : 0) | (is64 === true ? 4 : 0);
  return [flags, ...unsigned(min), ...(max === undefined ? [] : unsigned(max))];
}

function encodeBody({ type, locals, body }: FunctionDescription): Bytes {
  const instructions = body ?? type.results.flatMap(zeroOf);
  const code = [...vector((locals ?? []).map((each) => [1, ...each])), ...instructions, 0x0b];
  return [...unsigned(code.length), ...code];
}

/** The instruction that pushes a zero, or a null, of this type. */
function zeroOf(type: Bytes): Bytes {
  switch (type[0]) {
    case 0x7f:
      return [0x41, 0];
    case 0x7e:
      return [0x42, 0];
    case 0x7c:
      return [0x44, 0, 0, 0, 0, 0, 0, 0, 0];
    case 0x7b:
      return [0xfd, 12, ...Array.from({ length: 16 }, () => 0)];
    default:
      return [0xd0, ...type];
  }
}

function vectorSection(id: number, members: readonly Bytes[]): Bytes {
  return members.length === 0 ? [] : section(id, vector(members));
}
