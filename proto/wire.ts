/**
 * The protobuf wire format: messages are read field by field and changed by splicing their bytes, so that what is not
 * looked at stays to the byte as it came, fields of newer peers among it. The messages are few and small; why no
 * runtime: docs/decisions/protobuf-runtime.md.
 */
import { isUtf8 } from 'node:buffer';

const maxVarintBytes = 10;
const maxFieldNumber = 2 ** 29 - 1;
const wireTypes = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Bytes of a peer that are no protobuf message. */
export class WireFormatError extends Error {
  override readonly name = 'WireFormatError';
}

/** Number and wire type of a field in one, as `FieldCursor.next` tells them: texts, bytes and messages. */
export function bytesTag(field: number): number {
  return field * 8 + wireTypes.bytes;
}

/** The tags of several fields of bytes, by the names of the fields. */
export function bytesTags<Name extends string>(fields: Readonly<Record<Name, number>>): Record<Name, number> {
  const tags = Object.entries<number>(fields).map(([name, field]) => [name, bytesTag(field)]);
  return Object.fromEntries(tags) as Record<Name, number>;
}

/** Number and wire type of a whole number, truth value or enumeration in one. */
export function varintTag(field: number): number {
  return field * 8 + wireTypes.varint;
}

/** The same bytes as a Buffer, not copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A message without fields. */
export const noBytes: Buffer = Buffer.alloc(0);

/** Walks over the fields of one message. Nothing is copied, and nothing kept but a few numbers. */
export class FieldCursor {
  readonly #message: Buffer;
  #start = 0;
  #valueStart = 0;
  #end = 0;
  /** Of the number read last, the lower and the upper 32 bits. */
  #low = 0;
  #high = 0;

  constructor(message: Buffer) {
    this.#message = message;
  }

  /** Where the field begins with its tag. */
  get start(): number {
    return this.#start;
  }

  /** Where the next field begins. */
  get end(): number {
    return this.#end;
  }

  /**
   * Goes to the next field and gives its tag; 0 at the end of the message. Throws WireFormatError at the first byte that
   * cannot be read.
   */
  next(): number {
    const message = this.#message;
    if (this.#end >= message.length) return 0;
    this.#start = this.#end;
    this.#readVarint();
    const tag = this.#low;
    const field = tag >>> 3;
    if (this.#high !== 0 || field === 0 || field > maxFieldNumber) {
      throw new WireFormatError(`no valid field number before byte ${this.#end}`);
    }
    this.#valueStart = this.#end;
    switch (tag & 7) {
      case wireTypes.varint:
        this.#readVarint();
        return tag;
      case wireTypes.bytes:
        this.#readVarint();
        this.#valueStart = this.#end;
        this.#skip(this.#high * 2 ** 32 + this.#low);
        return tag;
      case wireTypes.fixed64:
        this.#skip(8);
        return tag;
      case wireTypes.fixed32:
        this.#skip(4);
        return tag;
      default:
        throw new WireFormatError(`unknown wire type ${tag & 7} at byte ${this.#end}`);
    }
  }

  /** The content of a field of bytes: a part of the message, not a copy. */
  bytes(): Buffer {
    return this.#message.subarray(this.#valueStart, this.#end);
  }

  /** The content of a field of bytes as text. Throws WireFormatError when it is not UTF-8. */
  text(): string {
    const text = this.#message.toString('utf8', this.#valueStart, this.#end);
    // What is no UTF-8 comes out as this, which may also be meant.
    if (text.includes('\u{fffd}') && !isUtf8(this.bytes())) {
      throw new WireFormatError(`the text before byte ${this.#end} is not UTF-8`);
    }
    return text;
  }

  /** A field of type `int32`, `enum` or `uint32` below 2^31: the lower 32 bits of the number, as every decoder takes them. */
  int32(): number {
    return this.#low | 0;
  }

  /** A field of type `int64`, exact up to 2^53. */
  int64(): number {
    return (this.#high | 0) * 2 ** 32 + this.#low;
  }

  /** A field of type `bool`. */
  bool(): boolean {
    return this.#low !== 0 || this.#high !== 0;
  }

  #readVarint(): void {
    const message = this.#message;
    const first = message[this.#end];
    // Nearly all are of one byte.
    if (first !== undefined && first < 0x80) {
      this.#low = first;
      this.#high = 0;
      this.#end += 1;
      return;
    }
    let low = 0;
    let high = 0;
    for (let index = 0; index < maxVarintBytes; index += 1) {
      const octet = message[this.#end];
      if (octet === undefined) throw new WireFormatError(`message ends inside a number at byte ${this.#end}`);
      this.#end += 1;
      const bits = octet & 0x7f;
      const shift = 7 * index;
      if (shift < 32) low |= bits << shift;
      // The fifth byte has bits of both halves.
      if (shift >= 28) high |= shift < 32 ? bits >>> (32 - shift) : bits << (shift - 32);
      if (octet < 0x80) {
        this.#low = low >>> 0;
        this.#high = high >>> 0;
        return;
      }
    }
    throw new WireFormatError(`number of more than ${maxVarintBytes} bytes at byte ${this.#end}`);
  }

  #skip(sizeBytes: number): void {
    if (sizeBytes > this.#message.length - this.#end) {
      throw new WireFormatError(`field at byte ${this.#end} is longer than the message`);
    }
    this.#end += sizeBytes;
  }
}

/** One field as it came. */
export type WireField =
  /** The value modulo 2^32: none of the fields read here is larger. */
  | { readonly number: number; readonly kind: 'varint'; readonly value: number }
  /** A part of the message, not a copy. */
  | { readonly number: number; readonly kind: 'bytes'; readonly value: Buffer }
  | { readonly number: number; readonly kind: 'fixed' };

/** The fields of a message in wire order, for messages that are seldom read. Throws WireFormatError as `FieldCursor.next`. */
export function* readFields(message: Buffer): Generator<WireField, void, undefined> {
  const cursor = new FieldCursor(message);
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    const number = tag >>> 3;
    if ((tag & 7) === wireTypes.varint) yield { number, kind: 'varint', value: cursor.int32() >>> 0 };
    else if ((tag & 7) === wireTypes.bytes) yield { number, kind: 'bytes', value: cursor.bytes() };
    else yield { number, kind: 'fixed' };
  }
}

/**
 * The message of a field that came in these pieces: put together they mean what every decoder takes them for. Undefined
 * when there is none.
 */
export function joined(pieces: readonly Buffer[]): Buffer | undefined {
  return pieces.length > 1 ? Buffer.concat(pieces) : pieces[0];
}

/** The message of one field, in however many pieces it comes. Throws WireFormatError. */
export function messageIn(message: Buffer, field: number): Buffer | undefined {
  const wanted = bytesTag(field);
  const cursor = new FieldCursor(message);
  const pieces: Buffer[] = [];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === wanted) pieces.push(cursor.bytes());
  }
  return joined(pieces);
}

/**
 * A message without some of its fields; all others stay to the byte. `isDropped` is asked for each. Throws
 * WireFormatError.
 */
export function dropFields(message: Buffer, isDropped: (tag: number, field: FieldCursor) => boolean): Buffer {
  const cursor = new FieldCursor(message);
  const kept: Buffer[] = [];
  let keptFrom = 0;
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (!isDropped(tag, cursor)) continue;
    if (cursor.start > keptFrom) kept.push(message.subarray(keptFrom, cursor.start));
    keptFrom = cursor.end;
  }
  if (keptFrom === 0) return message;
  if (keptFrom < message.length) kept.push(message.subarray(keptFrom));
  return kept.length === 1 && kept[0] !== undefined ? kept[0] : Buffer.concat(kept);
}

/**
 * A message with one field of bytes, of which there may be several pieces, exchanged for one. `exchange` is given what all
 * of them say, undefined where there is none, and gives the new content, or undefined to take it out. It stands where the
 * first piece stood, or at the end. Throws WireFormatError.
 */
export function exchangeField(
  message: Buffer,
  field: number,
  exchange: (content: Buffer | undefined) => Uint8Array | undefined,
): Buffer {
  const wanted = bytesTag(field);
  const cursor = new FieldCursor(message);
  const pieces: Buffer[] = [];
  const kept: Uint8Array[] = [];
  let keptFrom = 0;
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag !== wanted) continue;
    pieces.push(cursor.bytes());
    kept.push(message.subarray(keptFrom, cursor.start));
    keptFrom = cursor.end;
  }
  const content = exchange(joined(pieces));
  const rest = keptFrom === 0 ? message : message.subarray(keptFrom);
  const encoded = content === undefined ? [] : [prefix(wanted, content.byteLength), content];
  const [before, ...between] = kept;
  return Buffer.concat(before === undefined ? [rest, ...encoded] : [before, ...encoded, ...between, rest]);
}

/** A copy that keeps nothing else in memory: small buffers share theirs with others. */
export function alone(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** Fields of one message in the order in which they are added; an empty value is written, an absent one is not added. */
export class MessageWriter {
  readonly #parts: Uint8Array[] = [];
  #sizeBytes = 0;

  /** `value` is a whole number from 0 to 2^53 - 1. */
  varint(field: number, value: number): this {
    return this.#add(prefix(varintTag(field), value));
  }

  /** The bytes are not copied before `finish`. */
  bytes(field: number, value: Uint8Array): this {
    return this.#add(prefix(bytesTag(field), value.byteLength)).#add(value);
  }

  text(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value, 'utf8'));
  }

  message(field: number, value: MessageWriter): this {
    this.#add(prefix(bytesTag(field), value.#sizeBytes));
    for (const part of value.#parts) this.#add(part);
    return this;
  }

  /** Fields that are encoded already. They are not copied before `finish`. */
  fields(encoded: Uint8Array): this {
    return this.#add(encoded);
  }

  /** The whole message, copied together. */
  finish(): Buffer {
    return Buffer.concat(this.#parts, this.#sizeBytes);
  }

  #add(part: Uint8Array): this {
    this.#parts.push(part);
    this.#sizeBytes += part.byteLength;
    return this;
  }
}

/** A tag and the number behind it: a length, or the value itself. */
function prefix(tag: number, value: number): Buffer {
  const octets = Buffer.allocUnsafe(varintBytes(tag) + varintBytes(value));
  putVarint(octets, putVarint(octets, 0, tag), value);
  return octets;
}

function varintBytes(value: number): number {
  let sizeBytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) sizeBytes += 1;
  return sizeBytes;
}

/** Gives the offset behind it. */
function putVarint(octets: Buffer, offset: number, value: number): number {
  let at = offset;
  let rest = value;
  for (; rest >= 0x80; at += 1) {
    octets[at] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  octets[at] = rest;
  return at + 1;
}
