import { skipConstantExpression } from './instruction.ts';
import type { ExternType, ModuleImport, TableType } from './module-summary.ts';
import type { ModuleTables, RawExport } from './module-tables.ts';
import { ModuleReadFailure } from './read-failure.ts';
import type { SectionReader } from './section-reader.ts';
import {
  decodeLimits,
  decodeMutability,
  decodeTableType,
  decodeTypeEntry,
  decodeValueType,
  type TypeEntry,
} from './type-decoder.ts';

/** Entries kept of a list. Far above real modules, whose largest list (exports, all symbols) has some ten thousand. */
const maxListCount = 100_000;

/** V8's own limit, of which a number each is kept. Source: V8, src/wasm/wasm-limits.h, kV8MaxWasmFunctions. */
const maxFunctionCount = 1_000_000;

/** Sections whose names are kept must be smaller than this: bounds the memory of one reading. */
const maxNamesBytes = 16 * 1024 * 1024;
/** The same for types, whose text is about four times as long as their encoding. */
const maxTypesBytes = 2 * 1024 * 1024;

const tableWithInitializerCode = 0x40;

/** Reads the contents of one section of known id into the tables. Throws ModuleReadFailure. */
export async function decodeSection(id: number, reader: SectionReader, tables: ModuleTables): Promise<void> {
  switch (id) {
    case 1:
      await decodeTypes(reader, tables);
      break;
    case 2:
      await decodeImports(reader, tables);
      break;
    case 3:
      await decodeFunctions(reader, tables);
      break;
    case 4:
      await reader.vector(maxListCount, decodeTable, (table) => tables.tables.push(table));
      break;
    case 5:
      await reader.vector(maxListCount, decodeLimits, (memory) => tables.memories.push(memory));
      break;
    case 6:
      await reader.vector(maxListCount, decodeGlobal, (type) => tables.globals.push(type));
      break;
    case 7:
      await decodeExports(reader, tables);
      break;
    case 8:
      tables.start = await reader.item((each) => ({ offset: each.position, index: each.u32() }));
      break;
    case 10:
      await decodeCode(reader, tables);
      break;
    case 13:
      tables.tagCount += await reader.vector(maxListCount, decodeTag, () => undefined);
      break;
    default:
      // Elements and data: their contents are of no interest here.
      return;
  }
  if (reader.remainingBytes > 0) {
    reader.fail(reader.position, `${reader.remainingBytes} bytes follow its last entry`);
  }
}

async function decodeTypes(reader: SectionReader, tables: ModuleTables): Promise<void> {
  checkKeptSize(reader, maxTypesBytes);
  let expectedCount = await reader.item(() => reader.count(maxListCount));
  const take = (entry: TypeEntry): void => {
    expectedCount -= 1;
    switch (entry.kind) {
      case 'group':
        expectedCount += entry.memberCount;
        return;
      case 'function':
        tables.addType(entry.type);
        return;
      case 'data':
        tables.addType(undefined);
        return;
      default:
        entry satisfies never;
    }
  };
  await reader.items(
    () => expectedCount > 0,
    (each) => decodeTypeEntry(each, maxListCount),
    take,
  );
}

async function decodeImports(reader: SectionReader, tables: ModuleTables): Promise<void> {
  checkKeptSize(reader, maxNamesBytes);
  await reader.vector(
    maxListCount,
    (each): ModuleImport => ({
      module: each.name(),
      name: each.name(),
      extern: decodeImportedExtern(each, tables),
    }),
    (imported) => {
      tables.imports.push(imported);
      const { extern } = imported;
      switch (extern.kind) {
        case 'function':
          tables.importedFunctions.push(imported);
          tables.importedFunctionTypes.push(extern.type);
          return;
        case 'table':
          tables.tables.push(extern.table);
          return;
        case 'memory':
          tables.memories.push(extern.memory);
          return;
        case 'global':
          tables.globals.push(extern.type);
          return;
        case 'tag':
          tables.tagCount += 1;
          return;
        default:
          extern satisfies never;
      }
    },
  );
}

function decodeImportedExtern(reader: SectionReader, tables: ModuleTables): ExternType {
  const start = reader.position;
  const kind = reader.u8();
  switch (kind) {
    case 0:
      return { kind: 'function', type: tables.functionType(reader.u32(), reader, start) };
    case 1:
      return { kind: 'table', table: decodeTableType(reader) };
    case 2:
      return { kind: 'memory', memory: decodeLimits(reader) };
    case 3: {
      const type = decodeValueType(reader);
      decodeMutability(reader);
      return { kind: 'global', type };
    }
    case 4:
      decodeTag(reader);
      return { kind: 'tag' };
    default:
      return reader.failUnknown(start, `${kind} is not a known kind of import`);
  }
}

async function decodeFunctions(reader: SectionReader, tables: ModuleTables): Promise<void> {
  const types = new Uint32Array(Math.min(reader.remainingBytes, maxFunctionCount));
  const count = await reader.vector(
    maxFunctionCount,
    (each) => {
      const start = each.position;
      const index = each.u32();
      tables.functionType(index, each, start);
      return index;
    },
    (typeIndex, index) => {
      types[index] = typeIndex;
    },
  );
  tables.ownFunctionTypes = types.slice(0, count);
}

async function decodeExports(reader: SectionReader, tables: ModuleTables): Promise<void> {
  checkKeptSize(reader, maxNamesBytes);
  await reader.vector(
    maxListCount,
    (each): RawExport => {
      const offset = each.position;
      return { offset, name: each.name(), kind: each.u8(), index: each.u32() };
    },
    (each) => tables.exports.push(each),
  );
}

async function decodeCode(reader: SectionReader, tables: ModuleTables): Promise<void> {
  if (tables.start === undefined) {
    tables.bodyCount = await reader.item(() => reader.count(maxFunctionCount));
    reader.skip(reader.remainingBytes);
    return;
  }
  const bodyStarts = new Uint32Array(tables.ownFunctionTypes.length);
  tables.bodyCount = await reader.vector(
    maxFunctionCount,
    (each) => {
      const sizeBytes = each.u32();
      const start = each.position;
      each.skip(sizeBytes);
      return start;
    },
    (start, index) => {
      // Typed arrays ignore what is past their end; the counts are compared later.
      bodyStarts[index] = start;
    },
  );
  tables.code = { bodyStarts, end: reader.end };
}

function decodeTable(reader: SectionReader): TableType {
  const start = reader.position;
  if (reader.u8() !== tableWithInitializerCode) {
    reader.position = start;
    return decodeTableType(reader);
  }
  const reserved = reader.position;
  if (reader.u8() !== 0) reader.failUnknown(reserved, 'a table has a form that is not known');
  const table = decodeTableType(reader);
  skipConstantExpression(reader);
  return table;
}

function decodeGlobal(reader: SectionReader): string {
  const type = decodeValueType(reader);
  decodeMutability(reader);
  skipConstantExpression(reader);
  return type;
}

/** An attribute, which is 0, and a type index. */
function decodeTag(reader: SectionReader): void {
  const start = reader.position;
  const attribute = reader.u8();
  if (attribute !== 0) reader.failUnknown(start, `a tag has the attribute ${attribute}`);
  reader.u32();
}

function checkKeptSize(reader: SectionReader, maxBytes: number): void {
  if (reader.remainingBytes <= maxBytes) return;
  const what = `a section of ${reader.remainingBytes} bytes is over the ${maxBytes} that are read of it`;
  throw new ModuleReadFailure('too_complex', reader.position, what);
}
