import type { TableType } from './module-summary.ts';
import type { Refusal } from './verdict.ts';

/** Source: V8, src/wasm/wasm-limits.h, kV8MaxWasmTableSize. */
const maxTableElements = 10_000_000;

/** V8's C API keeps a table's maximum in 31 bits and checks it; tried on Envoy 1.40. */
const firstUnholdableMax = 2 ** 31;

/**
 * What Envoy makes of a table's size. It looks at the maximum of tables that are imported or exported, and makes the
 * imported ones itself. `what` begins the sentence.
 */
export function judgeTableLimits(
  what: string,
  { min, max }: TableType,
  role: 'inner' | 'exported' | 'imported',
): readonly Refusal[] {
  if (role !== 'inner' && max !== undefined && max >= firstUnholdableMax) {
    const message = `${what} has a maximum of ${max} elements; Envoy ends on one of 2^31 or more. Leave the maximum out.`;
    return [{ code: 'crash_class_table_limit', message }];
  }
  if (role === 'imported' && max !== undefined && max > maxTableElements) {
    const message = `${what} has a maximum of ${max} elements; V8 makes none of over ${maxTableElements}. Leave the maximum out.`;
    return [{ code: 'table_over_limit', message }];
  }
  if (min > maxTableElements) {
    const message = `${what} starts with ${min} elements; V8 takes at most ${maxTableElements}. Make it smaller.`;
    return [{ code: 'table_over_limit', message }];
  }
  return [];
}
