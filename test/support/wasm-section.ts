/** Custom section id of the WebAssembly binary format (core specification 5.5.3). */
const customSectionId = 0;

/** The largest LEB128 of a u32 has 5 bytes of 7 bits each. */
const maxLebBytes = 5;

/**
 * The head of a custom section that takes exactly `sectionBytes` in all: id, size, name. The section's contents,
 * `sectionBytes - head.byteLength` bytes, must follow. Undefined when the head alone is larger.
 * Source: WebAssembly core specification, 5.5.2 and 5.2.2 (a LEB128 may be padded, which makes every size possible).
 */
export function customSectionHeader(name: string, sectionBytes: number): Uint8Array | undefined {
  const nameBytes = Buffer.from(name);
  const named = Buffer.concat([leb128(nameBytes.byteLength, 1), nameBytes]);
  for (let width = 1; width <= maxLebBytes; width += 1) {
    const bodyBytes = sectionBytes - 1 - width;
    if (bodyBytes < named.byteLength) return undefined;
    if (bodyBytes < 2 ** (7 * width)) {
      return Buffer.concat([Buffer.of(customSectionId), leb128(bodyBytes, width), named]);
    }
  }
  return undefined;
}

/** `value` as LEB128 of exactly `width` bytes. */
function leb128(value: number, width: number): Uint8Array {
  const bytes = Buffer.alloc(width);
  let rest = value;
  for (let i = 0; i < width; i += 1) {
    bytes[i] = (rest % 128) | (i < width - 1 ? 0x80 : 0);
    rest = Math.floor(rest / 128);
  }
  return bytes;
}
