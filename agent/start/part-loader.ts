import { openSync, readSync } from 'node:fs';
import { Script } from 'node:vm';
import { KeptCode } from './code-cache-file.ts';

/** Where the parts of a bundle are in its file. */
export interface PartTable {
  /** Changes with every byte of every part. */
  readonly bundleId: string;
  /** First byte of the first part in the file. */
  readonly start: number;
  /** The part that is run. */
  readonly entry: string;
  /** By name as other parts ask for it: first byte behind `start`, and size. */
  readonly parts: Readonly<Record<string, readonly [offset: number, sizeBytes: number]>>;
}

/** The parts stand in a comment of the file: its end must not be in one. */
export const commentEnd = '*/';
/** Stands for `commentEnd`; as long, and in no part's text. */
export const hiddenCommentEnd = '*\x01';

type PartFunction = (
  require: (name: string) => unknown,
  module: { exports: unknown },
  exports: unknown,
) => void;

/**
 * Loads the parts of the bundle that is one file: each is read and compiled when it is first asked for, so that a
 * process holds the text of no part that it does not run. Code that V8 kept from an earlier run saves the compiling.
 */
export class PartLoader {
  readonly #bundlePath: string;
  readonly #table: PartTable;
  readonly #require: (name: string) => unknown;
  readonly #onCompiled: ((name: string, script: Script) => void) | undefined;
  /** Stays open: a build that puts a new bundle in this one's place leaves this one readable. */
  readonly #file: number;
  readonly #loaded = new Map<string, { exports: unknown }>();
  readonly #codes: KeptCode | undefined;

  /** `cachePath` undefined: all is compiled. `require` gets what no part is. */
  constructor(options: {
    readonly bundlePath: string;
    readonly cachePath: string | undefined;
    readonly table: PartTable;
    readonly require: (name: string) => unknown;
    readonly onCompiled?: (name: string, script: Script) => void;
  }) {
    const { bundlePath, cachePath, table } = options;
    this.#bundlePath = bundlePath;
    this.#table = table;
    this.#require = options.require;
    this.#onCompiled = options.onCompiled;
    this.#file = openSync(bundlePath, 'r');
    this.#codes = cachePath === undefined ? undefined : KeptCode.open(cachePath, table.bundleId);
  }

  /** Runs the part that is the program. */
  run(): void {
    this.#load(this.#table.entry);
  }

  #load(name: string): unknown {
    const place = this.#table.parts[name];
    if (place === undefined) return this.#require(name);
    const known = this.#loaded.get(name);
    if (known !== undefined) return known.exports;
    const module: { exports: unknown } = { exports: {} };
    // Before it runs: parts may ask for each other.
    this.#loaded.set(name, module);
    this.#compile(name, this.#read(name, place))((wanted) => this.#load(wanted), module, module.exports);
    return module.exports;
  }

  #read(name: string, [offset, sizeBytes]: readonly [number, number]): string {
    const bytes = Buffer.allocUnsafeSlow(sizeBytes);
    const readBytes = readSync(this.#file, bytes, 0, sizeBytes, this.#table.start + offset);
    if (readBytes === sizeBytes) return bytes.toString('latin1').replaceAll(hiddenCommentEnd, commentEnd);
    throw new Error(`${this.#bundlePath} ends within its part ${name}: install the bundle again`);
  }

  #compile(name: string, text: string): PartFunction {
    const cachedData = this.#codes?.take(name);
    const filename = `${this.#bundlePath}/${name.replace('./', '')}`;
    const script = new Script(text, { filename, ...(cachedData === undefined ? {} : { cachedData }) });
    this.#onCompiled?.(name, script);
    return script.runInThisContext() as PartFunction;
  }
}
