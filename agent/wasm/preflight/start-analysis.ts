import { decodeInstruction, type Instruction } from './instruction.ts';
import { ModuleReadFailure } from './read-failure.ts';
import { type ByteSource, SectionReader } from './section-reader.ts';
import { decodeValueType } from './type-decoder.ts';

/** Where the bodies of a module's own functions lie. */
export interface CodeLayout {
  /** Functions with a lower index are imported and have no body. */
  readonly importedFunctionCount: number;
  /** Absolute offsets of the bodies, without their sizes, in the order of the functions. */
  readonly bodyStarts: Uint32Array;
  /** Absolute offset after the last body. */
  readonly end: number;
}

/** The imported functions, by index, that a function reaches by direct calls. */
export interface ReachedImports {
  /** Called whenever nothing traps before. */
  readonly certain: ReadonlySet<number>;
  /** Called on some path. */
  readonly possible: ReadonlySet<number>;
  /** False when an indirect call, an unknown instruction or the budget hides where the code goes. */
  readonly isComplete: boolean;
}

/** Calls of one function, by index of what is called. */
interface FunctionCalls {
  readonly certain: readonly number[];
  readonly possible: readonly number[];
  readonly hasHiddenCalls: boolean;
}

/** How much code is followed: start functions are small, and a module is judged on the way to Envoy. */
const maxScannedBytes = 1024 * 1024;
const maxScannedFunctions = 2_000;

/** V8's limit on the locals' groups of a function is above what a body of its largest size can hold. */
const maxLocalGroups = 50_000;

/**
 * Follows the direct calls of `functionIndex` through the code. Reads only bodies that are reached. Code that does
 * not decode makes the answer incomplete, never a failure: validating code is V8's part.
 */
export async function reachedImports(
  source: ByteSource,
  layout: CodeLayout,
  functionIndex: number,
): Promise<ReachedImports> {
  const scans = new Map<number, FunctionCalls>();
  let isComplete = true;
  let scannedBytes = 0;
  const pending = [functionIndex];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (next < layout.importedFunctionCount || scans.has(next)) continue;
    const range = bodyRange(layout, next);
    scannedBytes += range === undefined ? 0 : range.end - range.start;
    if (range === undefined || scannedBytes > maxScannedBytes || scans.size >= maxScannedFunctions) {
      isComplete = false;
      continue;
    }
    const calls = await scanBody(source, range);
    scans.set(next, calls);
    if (calls.hasHiddenCalls) isComplete = false;
    for (const callee of calls.possible) pending.push(callee);
  }
  return {
    certain: closure(layout, functionIndex, (index) => scans.get(index)?.certain ?? []),
    possible: closure(layout, functionIndex, (index) => scans.get(index)?.possible ?? []),
    isComplete,
  };
}

interface BodyRange {
  readonly start: number;
  readonly end: number;
}

function bodyRange(layout: CodeLayout, functionIndex: number): BodyRange | undefined {
  const position = functionIndex - layout.importedFunctionCount;
  const start = layout.bodyStarts[position];
  if (start === undefined) return undefined;
  // The size of the next body stands between: decoding ends at this function's last `end`, before it.
  return { start, end: layout.bodyStarts[position + 1] ?? layout.end };
}

/** All imports reached through `callees`. */
function closure(
  layout: CodeLayout,
  root: number,
  callees: (functionIndex: number) => readonly number[],
): ReadonlySet<number> {
  const seen = new Set([root]);
  for (const index of seen) {
    for (const callee of callees(index)) seen.add(callee);
  }
  return new Set([...seen].filter((index) => index < layout.importedFunctionCount));
}

async function scanBody(source: ByteSource, range: BodyRange): Promise<FunctionCalls> {
  const reader = new SectionReader(source, { ...range, what: 'function body' });
  const flow = new BodyFlow();
  try {
    await reader.vector(
      maxLocalGroups,
      (each) => {
        each.u32();
        return decodeValueType(each);
      },
      () => undefined,
    );
    await reader.items(
      () => !flow.isOver,
      decodeInstruction,
      (instruction) => flow.take(instruction),
    );
  } catch (error) {
    if (!(error instanceof ModuleReadFailure)) throw error;
    flow.hide();
  }
  return flow;
}

/** Follows one body, instruction by instruction, and tells the calls it must reach from those it may. */
class BodyFlow implements FunctionCalls {
  readonly certain: number[] = [];
  readonly possible: number[] = [];
  hasHiddenCalls = false;
  isOver = false;
  /** Open blocks; the body itself is the first. */
  #depth = 1;
  /** The depth outside the outermost `if` that is open; undefined when none is. */
  #conditionDepth: number | undefined;
  /** False after the first instruction that may skip what follows. */
  #isCertain = true;

  /** What comes is not known. */
  hide(): void {
    this.hasHiddenCalls = true;
    this.isOver = true;
  }

  take({ kind, operand }: Instruction): void {
    switch (kind) {
      case 'plain':
      case 'else':
        return;
      case 'block':
        this.#depth += 1;
        return;
      case 'if':
        this.#conditionDepth ??= this.#depth;
        this.#depth += 1;
        return;
      case 'try':
        // What is thrown inside may skip the rest of the block.
        this.#isCertain = false;
        this.#depth += 1;
        return;
      case 'catch':
      case 'branch':
        this.#isCertain = false;
        return;
      case 'end':
        this.#depth -= 1;
        if (this.#depth === this.#conditionDepth) this.#conditionDepth = undefined;
        this.isOver = this.#depth === 0;
        return;
      case 'call':
        this.#call(operand);
        return;
      case 'tail_call':
        this.#call(operand);
        this.#isCertain = false;
        return;
      case 'indirect_call':
        this.hasHiddenCalls = true;
        return;
      default:
        kind satisfies never;
    }
  }

  #call(functionIndex: number): void {
    this.possible.push(functionIndex);
    if (this.#isCertain && this.#conditionDepth === undefined) this.certain.push(functionIndex);
  }
}
