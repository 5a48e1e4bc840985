import { MessageWriter, readFields, type WireField } from '../../../proto/wire.ts';
import type { SeededRandom } from '../../support/seeded-random.ts';

/** What the fields of a message are, by number; other fields may be anything. */
export interface Shape {
  readonly [field: number]: 'bytes' | 'varint' | Shape;
}

const any: Shape = { 1: 'bytes', 2: 'bytes' };
const duration: Shape = { 1: 'varint', 2: 'varint' };
const dataSource: Shape = { 1: 'bytes', 2: 'bytes', 3: 'bytes', 4: 'bytes', 5: { 1: 'bytes' } };
const remote: Shape = { 1: { 1: 'bytes', 2: 'bytes', 3: duration }, 2: 'bytes', 3: 'bytes' };
const environment: Shape = { 1: 'bytes', 2: { 1: 'bytes', 2: 'bytes' } };
const vm: Shape = {
  1: 'bytes',
  2: 'bytes',
  3: { 1: dataSource, 2: remote },
  4: any,
  5: 'varint',
  6: 'varint',
  7: environment,
};
const plugin: Shape = {
  1: 'bytes',
  2: 'bytes',
  3: vm,
  4: any,
  5: 'varint',
  6: { 1: { 1: 'bytes', 2: {} } },
  7: 'varint',
  8: { 1: { 1: duration, 2: duration } },
  9: { 1: 'varint' },
};

/** `TypedExtensionConfig`. */
export const configShape: Shape = { 1: 'bytes', 2: any };
/** The same with a Wasm filter in it. */
export const wasmConfigShape: Shape = { 1: 'bytes', 2: { 1: 'bytes', 2: { 1: plugin } } };

/**
 * True for bytes that are messages all the way down, with fields of the right kinds. The runtime that serves as reference
 * does not look at kinds, and lets a message run over its end.
 */
export function hasShape(message: Buffer, shape: Shape): boolean {
  try {
    return [...readFields(message)].every((field) => fits(field, shape[field.number]));
  } catch {
    return false;
  }
}

function fits(field: WireField, shape: Shape[number] | undefined): boolean {
  if (shape === undefined) return true;
  if (shape === 'bytes' || shape === 'varint') return field.kind === shape;
  return field.kind === 'bytes' && hasShape(field.value, shape);
}

/**
 * The same message, or one that differs in what counts last, as no encoder writes it and every decoder must read it:
 * fields in any order, some twice, messages in several pieces, fields that nobody knows between them.
 */
export function reshape(random: SeededRandom, message: Buffer, shape: Shape): Buffer {
  const fields = [...readFields(message)];
  const order = random.chance(0.5) ? fields : shuffled(random, fields);
  const writer = new MessageWriter();
  for (const field of order) {
    if (random.chance(0.1)) writer.text(random.integer(1_000, 3_000), 'unknown');
    writeReshaped(random, writer, field, shape[field.number]);
    if (random.chance(0.1)) writeReshaped(random, writer, random.pick(fields), undefined);
  }
  return writer.finish();
}

function writeReshaped(
  random: SeededRandom,
  writer: MessageWriter,
  field: WireField,
  shape: Shape[number] | undefined,
): void {
  if (field.kind === 'varint') writer.varint(field.number, field.value);
  if (field.kind !== 'bytes') return;
  const isMessage = typeof shape === 'object';
  const content = isMessage ? reshape(random, field.value, shape) : field.value;
  if (!isMessage || random.chance(0.6)) {
    writer.bytes(field.number, content);
    return;
  }
  const pieces = [new MessageWriter(), new MessageWriter()] as const;
  for (const inner of readFields(content)) {
    const piece = random.pick(pieces);
    if (inner.kind === 'varint') piece.varint(inner.number, inner.value);
    else if (inner.kind === 'bytes') piece.bytes(inner.number, inner.value);
  }
  for (const piece of pieces) writer.message(field.number, piece);
}

function shuffled<Item>(random: SeededRandom, items: readonly Item[]): readonly Item[] {
  const places = items.map((item) => ({ item, place: random.next() }));
  return places.sort((a, b) => a.place - b.place).map(({ item }) => item);
}
