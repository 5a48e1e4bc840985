import { readFileSync } from 'node:fs';

/** V8's compiled code of some parts of one bundle, as it is kept beside the bundle. */
export interface CodeCache {
  /** Of the bundle that it was made from. */
  readonly bundleId: string;
  /** By name of the part. */
  readonly codes: ReadonlyMap<string, Uint8Array>;
}

interface Header {
  readonly bundleId: string;
  /** Name, offset behind the header and size. */
  readonly codes: readonly (readonly [name: string, offset: number, sizeBytes: number])[];
}

/** V8 copies what is not aligned to a pointer. */
const alignment = 8;
const sizeFieldBytes = 4;

/** The bytes of a code cache file. */
export function encodeCodeCache(cache: CodeCache): Buffer {
  const blocks: Uint8Array[] = [];
  let end = 0;
  const codes = [...cache.codes].map(([name, code]) => {
    const offset = end;
    blocks.push(code, new Uint8Array(paddingOf(code.length)));
    end += code.length + paddingOf(code.length);
    return [name, offset, code.length] as const;
  });
  const text = JSON.stringify({ bundleId: cache.bundleId, codes } satisfies Header);
  const header = text + ' '.repeat(paddingOf(sizeFieldBytes + text.length));
  const size = Buffer.alloc(sizeFieldBytes);
  size.writeUInt32LE(header.length);
  return Buffer.concat([size, Buffer.from(header, 'latin1'), ...blocks]);
}

/**
 * What was kept for this bundle; undefined when there is no file, when it cannot be read, and when it belongs to
 * another bundle: the start then takes longer, and nothing else changes. The codes are views of one buffer.
 */
export function readCodeCache(path: string, bundleId: string): CodeCache | undefined {
  try {
    const bytes = readFileSync(path);
    const start = sizeFieldBytes + bytes.readUInt32LE();
    const header = JSON.parse(bytes.toString('latin1', sizeFieldBytes, start)) as Header;
    if (header.bundleId !== bundleId) return undefined;
    const codes = header.codes.map(
      ([name, offset, sizeBytes]) =>
        [name, bytes.subarray(start + offset, start + offset + sizeBytes)] as const,
    );
    return { bundleId, codes: new Map(codes) };
  } catch {
    return undefined;
  }
}

function paddingOf(sizeBytes: number): number {
  return (alignment - (sizeBytes % alignment)) % alignment;
}
