/**
 * A protobuf encoder of a few lines, for messages whose bytes must come out in the order in which Go writes them:
 * fields by number, then the members of oneofs. A caller writes its fields in that order.
 */

type WireType = 'varint' | 'fixed64' | 'bytes';
const wireTypeNumbers: Readonly<Record<WireType, number>> = { varint: 0, fixed64: 1, bytes: 2 };

/** Collects the fields of one message. Nothing is left out: a caller skips what has its default value. */
export class ProtoWriter {
  readonly #chunks: Uint8Array[] = [];

  varint(field: number, value: number): this {
    this.#tag(field, 'varint');
    this.#chunks.push(encodeVarint(value));
    return this;
  }

  double(field: number, value: number): this {
    this.#tag(field, 'fixed64');
    const chunk = Buffer.alloc(8);
    chunk.writeDoubleLE(value);
    this.#chunks.push(chunk);
    return this;
  }

  text(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value, 'utf8'));
  }

  /** Keeps a reference to `value`, which must not change before `finish`. */
  bytes(field: number, value: Uint8Array): this {
    this.#tag(field, 'bytes');
    this.#chunks.push(encodeVarint(value.length), value);
    return this;
  }

  message(field: number, value: ProtoWriter): this {
    return this.bytes(field, value.finish());
  }

  finish(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  #tag(field: number, type: WireType): void {
    this.#chunks.push(encodeVarint(field * 8 + wireTypeNumbers[type]));
  }
}

/** A `google.protobuf.Any`. */
export function anyOf(typeUrl: string, value: Uint8Array): ProtoWriter {
  const any = new ProtoWriter().text(1, typeUrl);
  return value.length === 0 ? any : any.bytes(2, value);
}

/** A `google.protobuf.Struct` of a plain JSON object, its keys sorted as Go sorts them. */
export function structOf(object: Readonly<Record<string, unknown>>): ProtoWriter {
  const struct = new ProtoWriter();
  for (const [key, value] of sortedEntries(object)) {
    struct.message(1, new ProtoWriter().text(1, key).message(2, structValueOf(value)));
  }
  return struct;
}

/** The members of an object that have a value, by key in byte order. */
export function sortedEntries(object: object): [string, unknown][] {
  return Object.entries(object)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

function structValueOf(value: unknown): ProtoWriter {
  const writer = new ProtoWriter();
  if (value === null) return writer.varint(1, 0);
  if (typeof value === 'number') return writer.double(2, value);
  if (typeof value === 'string') return writer.text(3, value);
  if (typeof value === 'boolean') return writer.varint(4, value ? 1 : 0);
  if (Array.isArray(value)) {
    const list = new ProtoWriter();
    for (const item of value) list.message(1, structValueOf(item));
    return writer.message(6, list);
  }
  if (typeof value === 'object') return writer.message(5, structOf(value as Record<string, unknown>));
  throw new TypeError(`a Struct cannot hold a ${typeof value}; give JSON values only`);
}

function encodeVarint(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`a varint of this encoder is a whole number from 0 up, not ${value}`);
  }
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
