import type { SectionReader } from './section-reader.ts';
import { decodeHeapType, decodeValueType } from './type-decoder.ts';

/** What one instruction means to the flow of control; its other operands are passed over. */
export type InstructionKind =
  /** Goes on to the next instruction, or traps. */
  | 'plain'
  /** Opens a block that is always entered. */
  | 'block'
  /** Opens a block that is entered on a condition. */
  | 'if'
  /** The other branch of an `if`. */
  | 'else'
  /** Opens a block that something thrown may leave early. */
  | 'try'
  /** A handler inside such a block. */
  | 'catch'
  | 'end'
  /** Goes, or may go, elsewhere in the function, out of it or to a handler. */
  | 'branch'
  /** Calls the function whose index is `operand`. */
  | 'call'
  /** Calls the function whose index is `operand` and returns its result. */
  | 'tail_call'
  /** Calls a function that only shows itself when it runs. */
  | 'indirect_call';

export interface Instruction {
  readonly kind: InstructionKind;
  /** Index of the called function; 0 for all kinds that call none. */
  readonly operand: number;
}

/** How the operands of an opcode are laid out. */
type Layout =
  | 'none'
  | 'index'
  | 'two_indices'
  | 'memory'
  | 'memory_and_lane'
  | 'byte'
  | 'sixteen_bytes'
  | 'f32'
  | 'f64'
  | 's32'
  | 's64'
  | 'block_type'
  | 'heap_type'
  | 'value_types'
  | 'labels'
  | 'handlers'
  | 'cast_branch';

const maxU32LebBytes = 5;
const maxS64LebBytes = 10;
/** Above V8's own limits on labels and handlers of one instruction (src/wasm/wasm-limits.h, 65,520). */
const maxOperandCount = 65_536;

const flatKinds = new Map<number, InstructionKind>([
  [0x02, 'block'],
  [0x03, 'block'],
  [0x04, 'if'],
  [0x05, 'else'],
  [0x06, 'try'],
  [0x07, 'catch'],
  [0x08, 'branch'],
  [0x09, 'branch'],
  [0x0a, 'branch'],
  [0x0b, 'end'],
  [0x0c, 'branch'],
  [0x0d, 'branch'],
  [0x0e, 'branch'],
  [0x0f, 'branch'],
  [0x10, 'call'],
  [0x11, 'indirect_call'],
  [0x12, 'tail_call'],
  [0x13, 'indirect_call'],
  [0x14, 'indirect_call'],
  [0x15, 'indirect_call'],
  // `delegate` is the end of its `try`.
  [0x18, 'end'],
  [0x19, 'catch'],
  [0x1f, 'try'],
  [0xd5, 'branch'],
  [0xd6, 'branch'],
]);

const flatLayouts = new Map<number, Layout>([
  ...[0x02, 0x03, 0x04, 0x06].map((code) => [code, 'block_type'] as const),
  ...[0x07, 0x08, 0x09, 0x0c, 0x0d, 0x10, 0x12, 0x14, 0x15, 0x18].map((code) => [code, 'index'] as const),
  [0x0e, 'labels'],
  [0x11, 'two_indices'],
  [0x13, 'two_indices'],
  [0x1c, 'value_types'],
  [0x1f, 'handlers'],
  ...[0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x3f, 0x40].map((code) => [code, 'index'] as const),
  ...range(0x28, 0x3e).map((code) => [code, 'memory'] as const),
  [0x41, 's32'],
  [0x42, 's64'],
  [0x43, 'f32'],
  [0x44, 'f64'],
  [0xd0, 'heap_type'],
  [0xd2, 'index'],
  [0xd5, 'index'],
  [0xd6, 'index'],
  ...[0x00, 0x01, 0x05, 0x0a, 0x0b, 0x0f, 0x19, 0x1a, 0x1b, 0xd1, 0xd3, 0xd4].map(
    (code) => [code, 'none'] as const,
  ),
  ...range(0x45, 0xc4).map((code) => [code, 'none'] as const),
]);

/** Codes after 0xfb: garbage collection. */
const gcLayouts = new Map<number, Layout>([
  ...[0, 1, 6, 7, 11, 12, 13, 14, 16].map((code) => [code, 'index'] as const),
  ...[2, 3, 4, 5, 8, 9, 10, 17, 18, 19].map((code) => [code, 'two_indices'] as const),
  ...[20, 21, 22, 23].map((code) => [code, 'heap_type'] as const),
  [24, 'cast_branch'],
  [25, 'cast_branch'],
  ...[15, 26, 27, 28, 29, 30].map((code) => [code, 'none'] as const),
]);

/** Codes after 0xfc: saturating truncation, bulk memory, tables. */
const miscLayouts = new Map<number, Layout>([
  ...range(0, 7).map((code) => [code, 'none'] as const),
  ...[8, 10, 12, 14].map((code) => [code, 'two_indices'] as const),
  ...[9, 11, 13, 15, 16, 17].map((code) => [code, 'index'] as const),
]);

/** The last code after 0xfd, relaxed SIMD included. */
const lastVectorCode = 0x113;
/** The last code after 0xfe. */
const lastAtomicCode = 0x4e;
const atomicFenceCode = 0x03;

/**
 * Decodes one instruction. Fails with `unknown_encoding` on an opcode it does not know. Source: WebAssembly core
 * specification 3.0, 5.4, with the legacy exception handling of its appendix and the threads proposal.
 */
export function decodeInstruction(reader: SectionReader): Instruction {
  const start = reader.position;
  const code = reader.u8();
  switch (code) {
    case 0xfb: {
      const sub = reader.u32();
      skipOperands(reader, start, gcLayouts.get(sub));
      return { kind: sub === 24 || sub === 25 ? 'branch' : 'plain', operand: 0 };
    }
    case 0xfc:
      skipOperands(reader, start, miscLayouts.get(reader.u32()));
      return { kind: 'plain', operand: 0 };
    case 0xfd:
      skipOperands(reader, start, vectorLayout(reader.u32()));
      return { kind: 'plain', operand: 0 };
    case 0xfe:
      skipOperands(reader, start, atomicLayout(reader.u32()));
      return { kind: 'plain', operand: 0 };
    default: {
      const kind = flatKinds.get(code) ?? 'plain';
      if (kind === 'call' || kind === 'tail_call') return { kind, operand: reader.u32() };
      skipOperands(reader, start, flatLayouts.get(code));
      return { kind, operand: 0 };
    }
  }
}

/** Passes over a constant expression: the first value of a global or a table. */
export function skipConstantExpression(reader: SectionReader): void {
  while (decodeInstruction(reader).kind !== 'end');
}

function vectorLayout(code: number): Layout | undefined {
  if (code <= 11 || code === 92 || code === 93) return 'memory';
  if (code === 12 || code === 13) return 'sixteen_bytes';
  if (code >= 21 && code <= 34) return 'byte';
  if (code >= 84 && code <= 91) return 'memory_and_lane';
  return code <= lastVectorCode ? 'none' : undefined;
}

function atomicLayout(code: number): Layout | undefined {
  if (code === atomicFenceCode) return 'byte';
  return code <= lastAtomicCode ? 'memory' : undefined;
}

function skipOperands(reader: SectionReader, start: number, layout: Layout | undefined): void {
  switch (layout) {
    case 'none':
      return;
    case 'index':
      reader.u32();
      return;
    case 'two_indices':
      reader.u32();
      reader.u32();
      return;
    case 'memory':
      skipMemoryOperand(reader);
      return;
    case 'memory_and_lane':
      skipMemoryOperand(reader);
      reader.skip(1);
      return;
    case 'byte':
      reader.skip(1);
      return;
    case 'sixteen_bytes':
      reader.skip(16);
      return;
    case 'f32':
      reader.skip(4);
      return;
    case 'f64':
      reader.skip(8);
      return;
    case 's32':
      reader.skipLeb(maxU32LebBytes);
      return;
    case 's64':
      reader.skipLeb(maxS64LebBytes);
      return;
    case 'block_type':
      skipBlockType(reader);
      return;
    case 'heap_type':
      decodeHeapType(reader);
      return;
    case 'value_types':
      repeat(reader, () => decodeValueType(reader));
      return;
    case 'labels':
      repeat(reader, () => reader.u32());
      reader.u32();
      return;
    case 'handlers':
      skipBlockType(reader);
      repeat(reader, () => skipHandler(reader));
      return;
    case 'cast_branch':
      reader.skip(1);
      reader.u32();
      decodeHeapType(reader);
      decodeHeapType(reader);
      return;
    case undefined:
      reader.failUnknown(start, 'an instruction is not known');
      return;
    default:
      layout satisfies never;
  }
}

/** Alignment, the memory's index where bit 6 of the alignment says so, and the offset. */
function skipMemoryOperand(reader: SectionReader): void {
  if ((reader.u32() & 0x40) !== 0) reader.u32();
  reader.u64();
}

/** Empty, one value type, or the index of a function type. */
function skipBlockType(reader: SectionReader): void {
  const start = reader.position;
  const code = reader.u8();
  if (code === 0x40) return;
  reader.position = start;
  if (code > 0x40 && code < 0x80) decodeValueType(reader);
  else reader.u32();
}

/** 0 and 1 name a tag and a label, 2 and 3 a label alone. */
function skipHandler(reader: SectionReader): void {
  if (reader.u8() < 2) reader.u32();
  reader.u32();
}

function repeat(reader: SectionReader, each: () => unknown): void {
  const count = reader.count(maxOperandCount);
  for (let i = 0; i < count; i += 1) each();
}

function range(first: number, last: number): readonly number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
