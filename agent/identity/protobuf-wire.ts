/**
 * The protobuf wire format, as far as the few fixed messages of certificates need it: they are small, and the runtime
 * in proto/ would cost every pod its memory.
 */

const maxVarintBytes = 10;
const maxFieldNumber = 2 ** 29 - 1;
const wireTypes = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Fields of one message in the order in which they are added; an empty value is written, an absent one is not added. */
export class MessageWriter {
  readonly #parts: Uint8Array[] = [];
  #sizeBytes = 0;

  /** `value` is a whole number from 0 to 2^53 - 1. */
  varint(field: number, value: number): this {
    return this.#add(varint(field * 8 + wireTypes.varint), varint(value));
  }

  /** The bytes are not copied before `finish`. */
  bytes(field: number, value: Uint8Array): this {
    return this.#add(varint(field * 8 + wireTypes.bytes), varint(value.byteLength), value);
  }

  text(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value, 'utf8'));
  }

  message(field: number, value: MessageWriter): this {
    return this.#add(varint(field * 8 + wireTypes.bytes), varint(value.#sizeBytes), ...value.#parts);
  }

  /** The whole message, in memory of its own. */
  finish(): Buffer {
    return Buffer.concat(this.#parts, this.#sizeBytes);
  }

  #add(...parts: readonly Uint8Array[]): this {
    for (const part of parts) {
      this.#parts.push(part);
      this.#sizeBytes += part.byteLength;
    }
    return this;
  }
}

function varint(value: number): Uint8Array {
  const octets: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    octets.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  octets.push(rest);
  return Uint8Array.from(octets);
}

/** Bytes of a peer that are no protobuf message. */
export class WireFormatError extends Error {
  override readonly name = 'WireFormatError';
}

/** One field as it came. */
export type WireField =
  /** The value modulo 2^32: none of the fields read here is larger. */
  | { readonly number: number; readonly kind: 'varint'; readonly value: number }
  /** A part of the message, not a copy. */
  | { readonly number: number; readonly kind: 'bytes'; readonly value: Buffer }
  | { readonly number: number; readonly kind: 'fixed' };

/** The fields of a message in wire order. Throws WireFormatError at the first byte that cannot be read. */
export function* readFields(message: Buffer): Generator<WireField, void, undefined> {
  let offset = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let index = 0; index < maxVarintBytes; index += 1) {
      const octet = message[offset];
      if (octet === undefined) throw new WireFormatError(`message ends inside a number at byte ${offset}`);
      offset += 1;
      value += (octet & 0x7f) * 2 ** (7 * index);
      if (octet < 0x80) return value;
    }
    throw new WireFormatError(`number of more than ${maxVarintBytes} bytes at byte ${offset}`);
  };
  const skip = (sizeBytes: number): void => {
    if (offset + sizeBytes > message.length) {
      throw new WireFormatError(`field at byte ${offset} is longer than the message`);
    }
    offset += sizeBytes;
  };
  while (offset < message.length) {
    const tag = readVarint();
    const number = Math.floor(tag / 8);
    if (number === 0 || number > maxFieldNumber) {
      throw new WireFormatError(`no valid field number before byte ${offset}`);
    }
    switch (tag % 8) {
      case wireTypes.varint:
        yield { number, kind: 'varint', value: readVarint() % 2 ** 32 };
        break;
      case wireTypes.bytes: {
        const sizeBytes = readVarint();
        const start = offset;
        skip(sizeBytes);
        yield { number, kind: 'bytes', value: message.subarray(start, offset) };
        break;
      }
      case wireTypes.fixed64:
        skip(8);
        yield { number, kind: 'fixed' };
        break;
      case wireTypes.fixed32:
        skip(4);
        yield { number, kind: 'fixed' };
        break;
      default:
        throw new WireFormatError(`unknown wire type ${tag % 8} at byte ${offset}`);
    }
  }
}
