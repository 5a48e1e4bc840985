import { openSync, readSync } from 'node:fs';

/** V8's compiled code of some parts of one bundle. */
export interface CodeCache {
  /** Of the bundle that it was made from. */
  readonly bundleId: string;
  /** By name of the part. */
  readonly codes: ReadonlyMap<string, Uint8Array>;
}

interface Header {
  readonly bundleId: string;
  /** By name of the part: offset behind the header and size. */
  readonly codes: Readonly<Record<string, readonly [offset: number, sizeBytes: number]>>;
}

const sizeFieldBytes = 4;
/** A header names some hundred parts; a file that says more is none of ours. */
const maxHeaderBytes = 1024 * 1024;

/** The bytes of a code cache file. */
export function encodeCodeCache(cache: CodeCache): Buffer {
  let end = 0;
  const places: Record<string, readonly [number, number]> = {};
  for (const [name, code] of cache.codes) {
    places[name] = [end, code.length];
    end += code.length;
  }
  const header = Buffer.from(JSON.stringify({ bundleId: cache.bundleId, codes: places } satisfies Header));
  const size = Buffer.alloc(sizeFieldBytes);
  size.writeUInt32LE(header.length);
  return Buffer.concat([size, header, ...cache.codes.values()]);
}

/**
 * The codes that are kept beside a bundle, each read when its part is: most pods need only those of a start. Whatever is
 * wrong with the file, there is no code then, and the parts are compiled.
 */
export class KeptCode {
  readonly #file: number;
  readonly #start: number;
  readonly #places: Map<string, readonly [offset: number, sizeBytes: number]>;

  private constructor(file: number, start: number, header: Header) {
    this.#file = file;
    this.#start = start;
    this.#places = new Map(Object.entries(header.codes));
  }

  /** Undefined when there is no such file, and when it belongs to another bundle. It stays open. */
  static open(path: string, bundleId: string): KeptCode | undefined {
    try {
      const file = openSync(path, 'r');
      const headerBytes = read(file, 0, sizeFieldBytes).readUInt32LE();
      if (headerBytes > maxHeaderBytes) return undefined;
      const header = JSON.parse(read(file, sizeFieldBytes, headerBytes).toString()) as Header;
      if (header.bundleId !== bundleId) return undefined;
      return new KeptCode(file, sizeFieldBytes + headerBytes, header);
    } catch {
      return undefined;
    }
  }

  /** Parts whose code has not been taken. */
  get names(): readonly string[] {
    return [...this.#places.keys()];
  }

  /** The code of a part, once, in memory of its own, as V8 copies what is not aligned. */
  take(name: string): Buffer | undefined {
    const [offset, sizeBytes] = this.#places.get(name) ?? [];
    if (offset === undefined || sizeBytes === undefined) return undefined;
    this.#places.delete(name);
    try {
      return read(this.#file, this.#start + offset, sizeBytes);
    } catch {
      return undefined;
    }
  }
}

/** Throws Error where the file ends before. */
function read(file: number, at: number, sizeBytes: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(sizeBytes);
  if (readSync(file, bytes, 0, sizeBytes, at) !== sizeBytes)
    throw new Error('the file of kept code is cut off');
  return bytes;
}
