import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLError,
} from 'yaml';

/** Where something stands in a text, both from 1. */
export interface TextPlace {
  readonly line: number;
  readonly column: number;
}

/** Something that is wrong with the text itself, before its meaning is looked at. */
export interface TextProblem extends TextPlace {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** A YAML text as plain data, and where each part of it was. */
export interface PlacedDocument {
  /** Of null, texts, numbers, booleans, lists and records. */
  readonly value: unknown;
  /** Empty: the text is good YAML. */
  readonly problems: readonly TextProblem[];
  /** True when parts of the text could not be read, so that more messages would only repeat it. */
  readonly isBroken: boolean;
  /** Of the key at the end of the path; of the nearest part around it where there is none. */
  keyPlace(path: readonly PropertyKey[]): TextPlace;
  /** Of the value; of the nearest part around it where there is none. */
  valuePlace(path: readonly PropertyKey[]): TextPlace;
}

/** Deeper and larger than any policy, smaller than what aliases can blow up. */
const maxDepth = 32;
const maxNodeCount = 100_000;

/** What to do about each fault of the parser; its own texts may repeat parts of the file, which may hold a secret. */
const advice: Partial<Record<YAMLError['code'], string>> = {
  BAD_INDENT: 'the indentation does not fit, or a closing bracket is missing; indent all of one level alike',
  BAD_SCALAR_START: 'a text begins with a character that has a meaning in YAML; put the text in quotes',
  BAD_DQ_ESCAPE: 'there is an unknown escape after a backslash; use single quotes',
  BLOCK_AS_IMPLICIT_KEY:
    'there are two ": " in one line, or the indentation is wrong; put the text in quotes',
  DUPLICATE_KEY: 'this key is written twice; remove one',
  MISSING_CHAR: 'a closing quote, bracket, colon or comma is missing',
  MULTILINE_IMPLICIT_KEY: 'a ":" is missing after the key, or the indentation is wrong',
  MULTIPLE_DOCS: 'a second document begins here ("---"); one is allowed',
  TAB_AS_INDENT: 'there is a tab in the indentation; use spaces',
  TAG_RESOLVE_FAILED: 'there is a tag ("!..."); remove it',
  UNEXPECTED_TOKEN: 'something stands here that does not belong here; check indentation and quotes',
};

/** Reads YAML text so that each part can be found again. Never throws for bad text. */
export function readPlacedDocument(text: string): PlacedDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    prettyErrors: false,
    lineCounter: lines,
    logLevel: 'error',
    version: '1.2',
  });
  const placeAt = (offset: number): TextPlace => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const faults = [...document.errors, ...document.warnings];
  const reader = new DocumentReader(document, placeAt);
  const value = reader.read();
  return {
    value,
    problems: [
      ...faults.map(({ code, pos }) => ({
        ...placeAt(pos[0]),
        path: [],
        message: advice[code] ?? `this is no good YAML (${code})`,
      })),
      ...reader.problems,
    ],
    isBroken: faults.some(({ code }) => code !== 'DUPLICATE_KEY') || reader.isCut,
    keyPlace: (path) => reader.place(path, 'key'),
    valuePlace: (path) => reader.place(path, 'value'),
  };
}

interface Offsets {
  readonly key: number | undefined;
  readonly value: number;
}

/** Walks the parsed text once: plain data on one side, offsets by path on the other. */
class DocumentReader {
  readonly problems: TextProblem[] = [];
  /** Something could not be read. */
  isCut = false;
  #isOverBound = false;
  readonly #document: Document.Parsed;
  readonly #placeAt: (offset: number) => TextPlace;
  readonly #offsets = new Map<string, Offsets>();
  #nodeCount = 0;

  constructor(document: Document.Parsed, placeAt: (offset: number) => TextPlace) {
    this.#document = document;
    this.#placeAt = placeAt;
  }

  read(): unknown {
    return this.#plain(this.#document.contents, [], undefined);
  }

  place(path: readonly PropertyKey[], part: 'key' | 'value'): TextPlace {
    const own = this.#offsets.get(pathKey(path));
    if (own !== undefined) return this.#placeAt(part === 'key' ? (own.key ?? own.value) : own.value);
    // What is missing is to be added at the part around it.
    return path.length === 0 ? { line: 1, column: 1 } : this.place(path.slice(0, -1), 'key');
  }

  #plain(node: Node | null, path: readonly PropertyKey[], keyOffset: number | undefined): unknown {
    const offset = node?.range?.[0] ?? keyOffset ?? 0;
    this.#offsets.set(pathKey(path), { key: keyOffset, value: offset });
    this.#nodeCount += 1;
    if (path.length > maxDepth || this.#nodeCount > maxNodeCount) {
      if (!this.#isOverBound) {
        this.#complain(offset, path, 'the document is too deep or too large; an alias may contain itself');
      }
      this.isCut = true;
      this.#isOverBound = true;
      return null;
    }
    if (isAlias(node)) {
      const target = node.resolve(this.#document);
      if (target !== undefined) return this.#plain(target, path, offset);
      this.#complain(offset, path, 'there is no anchor ("&...") of this alias before it');
      this.isCut = true;
      return null;
    }
    if (isSeq<Node>(node)) {
      return node.items.map((item, index) => this.#plain(item, [...path, index], undefined));
    }
    if (isMap<Node, Node | null>(node)) {
      const entries: [string, unknown][] = [];
      for (const { key, value } of node.items) {
        const at = key.range?.[0] ?? offset;
        const name = isScalar(key) ? key.value : undefined;
        if (typeof name !== 'string' || name === '__proto__') {
          this.#complain(at, path, 'this key is no text; put it in quotes or remove it');
          continue;
        }
        entries.push([name, this.#plain(value, [...path, name], at)]);
      }
      return Object.fromEntries(entries);
    }
    return isScalar(node) ? node.value : null;
  }

  #complain(offset: number, path: readonly PropertyKey[], message: string): void {
    this.problems.push({ ...this.#placeAt(offset), path, message });
  }
}

function pathKey(path: readonly PropertyKey[]): string {
  return JSON.stringify(path);
}
