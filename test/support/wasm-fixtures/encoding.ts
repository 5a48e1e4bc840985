/** Bytes of a module under construction. Small: a fixture is a few hundred bytes. */
export type Bytes = readonly number[];

/** `value` as unsigned LEB128, in the fewest bytes. Source: WebAssembly core specification 5.2.2. */
export function unsigned(value: number): Bytes {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
}

/** A name: its UTF-8 length, then its bytes. */
export function text(value: string): Bytes {
  const utf8 = [...Buffer.from(value)];
  return [...unsigned(utf8.length), ...utf8];
}

/** A vector: its count, then its members. */
export function vector(members: readonly Bytes[]): Bytes {
  return [...unsigned(members.length), ...members.flat()];
}

/** One section: id, size, contents. */
export function section(id: number, contents: Bytes): Bytes {
  return [id, ...unsigned(contents.length), ...contents];
}

/** A custom section of this name. */
export function customSection(name: string, contents: Bytes): Bytes {
  return section(0, [...text(name), ...contents]);
}

/** The magic number and version 1 of a core module. Source: WebAssembly core specification 5.5.16. */
export const moduleHeader: Bytes = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** The magic number and layer of a component, as in version 0d of the component model's binary format. */
export const componentHeader: Bytes = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
