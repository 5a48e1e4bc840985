import type {
  ExternType,
  FunctionType,
  Limits,
  ModuleExport,
  ModuleImport,
  ModuleSummary,
  StartFunction,
  TableType,
} from './module-summary.ts';
import { ModuleReadFailure } from './read-failure.ts';
import type { ByteSource, SectionReader } from './section-reader.ts';
import { reachedImports } from './start-analysis.ts';

/** An export before the tables it points into are whole. */
export interface RawExport {
  readonly name: string;
  readonly kind: number;
  readonly index: number;
  /** Where the entry stands, for messages. */
  readonly offset: number;
}

/** The tables of a module while its sections are read, in the order in which they must come. */
export class ModuleTables {
  readonly #source: ByteSource;
  /** By type index; undefined for a struct or an array. */
  readonly types: (FunctionType | undefined)[] = [];
  /** Equal function types are one object. */
  readonly #functionTypes = new Map<string, FunctionType>();
  readonly imports: ModuleImport[] = [];
  readonly importedFunctions: ModuleImport[] = [];
  readonly importedFunctionTypes: FunctionType[] = [];
  /** Type indices of the module's own functions. */
  ownFunctionTypes = new Uint32Array(0);
  readonly tables: TableType[] = [];
  readonly memories: Limits[] = [];
  /** Their value types. */
  readonly globals: string[] = [];
  tagCount = 0;
  readonly exports: RawExport[] = [];
  start: { readonly index: number; readonly offset: number } | undefined;
  /** Own functions that have a body. */
  bodyCount = 0;
  /** Where the bodies are; filled only when there is a start function to follow. */
  code: { readonly bodyStarts: Uint32Array; readonly end: number } | undefined;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Gives the next index to a function type, or to a struct or an array, which is undefined. */
  addType(type: FunctionType | undefined): void {
    const known = type === undefined ? undefined : (this.#functionTypes.get(type.text) ?? type);
    if (known !== undefined) this.#functionTypes.set(known.text, known);
    this.types.push(known);
  }

  /** The function type at `index`. Fails for an index that names none. */
  functionType(index: number, reader: SectionReader, offset: number): FunctionType {
    const type = this.types[index];
    return type ?? reader.fail(offset, `type ${index} is not a function type`);
  }

  /** Joins what the sections say of each other. */
  async summary(): Promise<ModuleSummary> {
    if (this.bodyCount !== this.ownFunctionTypes.length) {
      const what = `${this.ownFunctionTypes.length} functions are declared, but ${this.bodyCount} have a body`;
      throw new ModuleReadFailure('malformed', this.#source.sizeBytes, what);
    }
    const names = new Set<string>();
    const exports = this.exports.map((each): ModuleExport => {
      if (names.has(each.name)) {
        throw new ModuleReadFailure('malformed', each.offset, 'export section: a name is exported twice');
      }
      names.add(each.name);
      return { name: each.name, extern: this.#exported(each) };
    });
    return {
      sizeBytes: this.#source.sizeBytes,
      imports: this.imports,
      exports,
      memories: this.memories,
      tables: this.tables,
      functionCount: this.importedFunctionTypes.length + this.ownFunctionTypes.length,
      start: this.start === undefined ? undefined : await this.#startFunction(this.start),
    };
  }

  #exported({ kind, index, offset }: RawExport): ExternType {
    const missing = (what: string): never => {
      throw new ModuleReadFailure('malformed', offset, `export section: there is no ${what} ${index}`);
    };
    switch (kind) {
      case 0:
        return { kind: 'function', type: this.#typeOfFunction(index) ?? missing('function') };
      case 1:
        return { kind: 'table', table: this.tables[index] ?? missing('table') };
      case 2:
        return { kind: 'memory', memory: this.memories[index] ?? missing('memory') };
      case 3:
        return { kind: 'global', type: this.globals[index] ?? missing('global') };
      case 4:
        return index < this.tagCount ? { kind: 'tag' } : missing('tag');
      default:
        throw new ModuleReadFailure('unknown_encoding', offset, `export section: kind ${kind} is not known`);
    }
  }

  #typeOfFunction(index: number): FunctionType | undefined {
    const imported = this.importedFunctionTypes[index];
    if (imported !== undefined) return imported;
    const typeIndex = this.ownFunctionTypes[index - this.importedFunctionTypes.length];
    return typeIndex === undefined ? undefined : this.types[typeIndex];
  }

  async #startFunction({ index, offset }: { index: number; offset: number }): Promise<StartFunction> {
    const type = this.#typeOfFunction(index);
    if (type === undefined) {
      throw new ModuleReadFailure('malformed', offset, `start section: there is no function ${index}`);
    }
    const importedFunctionCount = this.importedFunctionTypes.length;
    const code = this.code ?? { bodyStarts: new Uint32Array(0), end: 0 };
    const reached = await reachedImports(this.#source, { importedFunctionCount, ...code }, index);
    const named = (indices: ReadonlySet<number>): readonly ModuleImport[] =>
      this.importedFunctions.filter((_, position) => indices.has(position));
    return {
      type,
      certainCalls: named(reached.certain),
      possibleCalls: reached.isComplete ? named(reached.possible) : this.importedFunctions,
    };
  }
}
