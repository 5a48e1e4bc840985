import type { FunctionType, Limits, TableType } from './module-summary.ts';
import type { SectionReader } from './section-reader.ts';

/**
 * Value types with a one-byte encoding. Source: WebAssembly core specification 3.0, 5.3.1 to 5.3.3; the ones with
 * `cont` and `string` are of proposals that Envoy's V8 refuses.
 */
const shortTypes = new Map<number, string>([
  [0x7f, 'i32'],
  [0x7e, 'i64'],
  [0x7d, 'f32'],
  [0x7c, 'f64'],
  [0x7b, 'v128'],
  [0x74, 'nullexnref'],
  [0x73, 'nullfuncref'],
  [0x72, 'nullexternref'],
  [0x71, 'nullref'],
  [0x70, 'funcref'],
  [0x6f, 'externref'],
  [0x6e, 'anyref'],
  [0x6d, 'eqref'],
  [0x6c, 'i31ref'],
  [0x6b, 'structref'],
  [0x6a, 'arrayref'],
  [0x69, 'exnref'],
]);

/** Abstract heap types, by the same bytes. */
const heapTypes = new Map<number, string>([
  [0x74, 'noexn'],
  [0x73, 'nofunc'],
  [0x72, 'noextern'],
  [0x71, 'none'],
  [0x70, 'func'],
  [0x6f, 'extern'],
  [0x6e, 'any'],
  [0x6d, 'eq'],
  [0x6c, 'i31'],
  [0x6b, 'struct'],
  [0x6a, 'array'],
  [0x69, 'exn'],
]);

/**
 * The value types that V8's C API can name; on any other in an import or an export it ends the process.
 * Source: V8, src/wasm/c-api.cc, V8ValueTypeToWasm; tried on Envoy 1.40.
 */
const nameableTypes: ReadonlySet<string> = new Set([
  'i32',
  'i64',
  'f32',
  'f64',
  'funcref',
  'externref',
  '(ref func)',
  '(ref extern)',
]);

/** The limits that V8 sets. Source: V8, src/wasm/wasm-limits.h. */
const maxParameterCount = 1000;
const maxResultCount = 1000;
const maxFieldCount = 10_000;
const maxSupertypeCount = 1;

const refNullCode = 0x63;
const refCode = 0x64;
const recCode = 0x4e;
const subCode = 0x50;
const subFinalCode = 0x4f;
const functionCode = 0x60;
const structCode = 0x5f;
const arrayCode = 0x5e;
const packedTypeCodes: ReadonlySet<number> = new Set([0x78, 0x77]);

/** Whether Envoy can see this value type in an import or an export and live. */
export function isNameable(valueType: string): boolean {
  return nameableTypes.has(valueType);
}

/** One value type, as text. `(ref null func)` and its like are given their short names. */
export function decodeValueType(reader: SectionReader): string {
  const start = reader.position;
  const code = reader.u8();
  const short = shortTypes.get(code);
  if (short !== undefined) return short;
  if (code === refCode) return `(ref ${decodeHeapType(reader)})`;
  if (code === refNullCode) {
    const heapType = decodeHeapType(reader);
    if (heapType === 'func') return 'funcref';
    return heapType === 'extern' ? 'externref' : `(ref null ${heapType})`;
  }
  return reader.failUnknown(start, `0x${code.toString(16)} is not a known value type`);
}

/** A heap type: an abstract one by its name, a defined one by its index. */
export function decodeHeapType(reader: SectionReader): string {
  const start = reader.position;
  const code = reader.u8();
  const abstract = heapTypes.get(code);
  if (abstract !== undefined) return abstract;
  // A defined type is a positive number of 33 bits, signed: a first byte from 0x40 to 0x7f is negative.
  if (code >= 0x40 && code < 0x80) {
    return reader.failUnknown(start, `0x${code.toString(16)} is not a known heap type`);
  }
  reader.position = start;
  return String(reader.u32());
}

/** What one entry of the type section is. */
export type TypeEntry =
  /** The head of a group: that many entries follow, which count as one in the section's count. */
  | { readonly kind: 'group'; readonly memberCount: number }
  | { readonly kind: 'function'; readonly type: FunctionType }
  /** A struct or an array: it takes an index. */
  | { readonly kind: 'data' };

/** One entry of the type section. Source: WebAssembly core specification 3.0, 5.3.10 to 5.3.12. */
export function decodeTypeEntry(reader: SectionReader, maxCount: number): TypeEntry {
  const start = reader.position;
  const code = reader.u8();
  switch (code) {
    case recCode:
      return { kind: 'group', memberCount: reader.count(maxCount) };
    case subCode:
    case subFinalCode: {
      const supertypeCount = reader.count(maxSupertypeCount);
      for (let i = 0; i < supertypeCount; i += 1) reader.u32();
      return decodeCompositeType(reader, reader.position, reader.u8());
    }
    default:
      return decodeCompositeType(reader, start, code);
  }
}

function decodeCompositeType(reader: SectionReader, start: number, code: number): TypeEntry {
  switch (code) {
    case functionCode:
      return { kind: 'function', type: decodeFunctionType(reader) };
    case structCode: {
      const fieldCount = reader.count(maxFieldCount);
      for (let i = 0; i < fieldCount; i += 1) skipField(reader);
      return { kind: 'data' };
    }
    case arrayCode:
      skipField(reader);
      return { kind: 'data' };
    default:
      return reader.failUnknown(start, `0x${code.toString(16)} is not a known form of type`);
  }
}

function decodeFunctionType(reader: SectionReader): FunctionType {
  const params = decodeResultType(reader, maxParameterCount);
  const results = decodeResultType(reader, maxResultCount);
  return {
    text: `${describeTypes(params)} -> ${describeTypes(results)}`,
    unnameable: [...params, ...results].find((each) => !isNameable(each)),
  };
}

function decodeResultType(reader: SectionReader, maxCount: number): readonly string[] {
  const count = reader.count(maxCount);
  const types: string[] = [];
  for (let i = 0; i < count; i += 1) types.push(decodeValueType(reader));
  return types;
}

function describeTypes(types: readonly string[]): string {
  return types.length === 0 ? 'void' : types.join(' ');
}

/** A field: a storage type, then whether it is mutable. */
function skipField(reader: SectionReader): void {
  const start = reader.position;
  if (!packedTypeCodes.has(reader.u8())) {
    reader.position = start;
    decodeValueType(reader);
  }
  decodeMutability(reader);
}

/** 0 for constant, 1 for variable. */
export function decodeMutability(reader: SectionReader): void {
  const start = reader.position;
  const flag = reader.u8();
  if (flag > 1) reader.failUnknown(start, `0x${flag.toString(16)} is not a known mutability`);
}

const hasMaxFlag = 0x01;
const sharedFlag = 0x02;
const address64Flag = 0x04;
const knownLimitFlags = hasMaxFlag | sharedFlag | address64Flag;

/** Limits of a memory or a table. Source: WebAssembly core specification 3.0, 5.3.13, and the threads proposal. */
export function decodeLimits(reader: SectionReader): Limits {
  const start = reader.position;
  const flags = reader.u8();
  if ((flags & ~knownLimitFlags) !== 0) {
    reader.failUnknown(start, `0x${flags.toString(16)} are not known flags of limits`);
  }
  const is64 = (flags & address64Flag) !== 0;
  const bound = (): number => (is64 ? reader.u64() : reader.u32());
  const min = bound();
  const max = (flags & hasMaxFlag) === 0 ? undefined : bound();
  if (max !== undefined && max < min) reader.fail(start, `the maximum ${max} is below the minimum ${min}`);
  return { min, max, isShared: (flags & sharedFlag) !== 0, is64 };
}

/** A table type: the type of its elements, then its limits. */
export function decodeTableType(reader: SectionReader): TableType {
  const element = decodeValueType(reader);
  return { element, ...decodeLimits(reader) };
}
