import type { SeededRandom } from '../../support/seeded-random.ts';

/** Bytes at which parsers change their mind. */
const telling = [0x00, 0x01, 0x07, 0x08, 0x0a, 0x12, 0x22, 0x3a, 0x7f, 0x80, 0xff];
/** Lengths and numbers at which counters overflow, as varints; the last is longer than any may be. */
const tellingVarints = [
  [0x00],
  [0x7f],
  [0x80, 0x01],
  [0xff, 0xff, 0xff, 0xff, 0x07],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0x80, 0x80, 0x80, 0x80, 0x10],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
].map((bytes) => Buffer.from(bytes));

/** A larger input finds nothing that a smaller one does not, and takes longer. */
const maxInputBytes = 4096;

type Mutation = (bytes: Buffer, random: SeededRandom, corpus: readonly Buffer[]) => Buffer;

const mutations: readonly Mutation[] = [
  function flipBit(bytes, random) {
    const copy = Buffer.from(bytes);
    const at = random.integer(0, copy.length - 1);
    copy[at] = (copy[at] ?? 0) ^ (1 << random.integer(0, 7));
    return copy;
  },
  function setByte(bytes, random) {
    const copy = Buffer.from(bytes);
    copy[random.integer(0, copy.length - 1)] = random.chance(0.5)
      ? random.pick(telling)
      : random.integer(0, 255);
    return copy;
  },
  function insert(bytes, random) {
    const at = random.integer(0, bytes.length);
    const added = random.chance(0.5)
      ? random.pick(tellingVarints)
      : Buffer.from(Array.from({ length: random.integer(1, 8) }, () => random.integer(0, 255)));
    return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at)]);
  },
  function remove(bytes, random) {
    const at = random.integer(0, bytes.length - 1);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.integer(1, 16))]);
  },
  function truncate(bytes, random) {
    return bytes.subarray(0, random.integer(0, bytes.length - 1));
  },
  function repeat(bytes, random) {
    const at = random.integer(0, bytes.length - 1);
    const part = bytes.subarray(at, at + random.integer(1, 64));
    return Buffer.concat([bytes.subarray(0, at), part, part, bytes.subarray(at + part.length)]);
  },
  function replaceVarint(bytes, random) {
    const at = random.integer(0, bytes.length - 1);
    return Buffer.concat([bytes.subarray(0, at), random.pick(tellingVarints), bytes.subarray(at + 1)]);
  },
  function splice(bytes, random, corpus) {
    const other = random.pick(corpus);
    const at = random.integer(0, bytes.length);
    return Buffer.concat([bytes.subarray(0, at), other.subarray(random.integer(0, other.length))]);
  },
  function moveField(bytes, random) {
    const fields = topLevelFields(bytes);
    if (fields.length < 2) return bytes;
    const from = random.integer(0, fields.length - 1);
    const [moved] = fields.splice(from, 1);
    if (moved !== undefined) fields.splice(random.integer(0, fields.length), 0, moved);
    return Buffer.concat(fields);
  },
  function insertField(bytes, random) {
    const fields = topLevelFields(bytes);
    fields.splice(random.integer(0, fields.length), 0, anyField(random));
    return Buffer.concat(fields);
  },
  function wrapAgain(bytes, random) {
    const tag = random.pick([0x0a, 0x12, 0x1a, 0x22]);
    return Buffer.concat([Buffer.from([tag]), varint(bytes.length), bytes]);
  },
];

/** A sound field of any number and kind, unknown ones among them. */
function anyField(random: SeededRandom): Buffer {
  const number = random.chance(0.7) ? random.integer(1, 8) : random.pick([15, 16, 9999, 2 ** 29 - 1]);
  const bytes = (count: number): Buffer =>
    Buffer.from(Array.from({ length: count }, () => random.integer(0, 255)));
  const tag = (wireType: number): Buffer => varint(number * 8 + wireType);
  switch (random.integer(0, 3)) {
    case 0:
      // But the last, which is too long.
      return Buffer.concat([tag(0), random.pick(tellingVarints.slice(0, -1))]);
    case 1:
      return Buffer.concat([tag(1), bytes(8)]);
    case 2: {
      const size = random.integer(0, 20);
      return Buffer.concat([tag(2), varint(size), bytes(size)]);
    }
    default:
      return Buffer.concat([tag(5), bytes(4)]);
  }
}

/** An input made from one of the corpus by a few changes; sometimes it is left as it is. */
export function mutate(random: SeededRandom, corpus: readonly Buffer[]): Buffer {
  let bytes = random.pick(corpus);
  for (let count = random.integer(0, 4); count > 0 && bytes.length > 0; count -= 1) {
    bytes = random.pick(mutations)(bytes, random, corpus);
  }
  return bytes.subarray(0, maxInputBytes);
}

/** The bytes in chunks of random sizes, mostly small ones; empty chunks among them. */
export function* chunked(bytes: Buffer, random: SeededRandom): Generator<Buffer> {
  const largest = random.pick([1, 3, 7, 64, bytes.length]);
  for (let at = 0; at < bytes.length; ) {
    const size = random.integer(0, largest);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** Whole fields as far as the bytes are protobuf; the rest is one more piece. */
function topLevelFields(bytes: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < bytes.length) {
    const end = fieldEnd(bytes, at);
    if (end === undefined) break;
    fields.push(bytes.subarray(at, end));
    at = end;
  }
  if (at < bytes.length) fields.push(bytes.subarray(at));
  return fields;
}

function fieldEnd(bytes: Buffer, start: number): number | undefined {
  const tag = readVarint(bytes, start);
  if (tag === undefined) return undefined;
  const end = valueEnd(bytes, tag.end, tag.value % 8);
  return end === undefined || end > bytes.length ? undefined : end;
}

function valueEnd(bytes: Buffer, start: number, wireType: number): number | undefined {
  switch (wireType) {
    case 0:
      return readVarint(bytes, start)?.end;
    case 1:
      return start + 8;
    case 2: {
      const length = readVarint(bytes, start);
      return length === undefined ? undefined : length.end + length.value;
    }
    case 5:
      return start + 4;
    default:
      return undefined;
  }
}

/** Undefined when it is not there whole. Inexact beyond 2^53. */
export function readVarint(
  bytes: Buffer,
  start: number,
): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let index = 0; index < 10; index += 1) {
    const byte = bytes[start + index];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * index);
    if (byte < 0x80) return { value, end: start + index + 1 };
  }
  return undefined;
}

/** A whole number from 0 up. */
export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}
