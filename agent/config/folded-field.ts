import type { JsonRecord } from './message-schema.ts';

/**
 * A member of a JSON object as Go's `encoding/json` finds it: without regard to case. The exact name goes before
 * another spelling, the last one before earlier ones. Undefined when there is none.
 */
export function foldedField(record: JsonRecord, name: string): unknown {
  if (Object.hasOwn(record, name)) return record[name];
  const lower = name.toLowerCase();
  const key = Object.keys(record).findLast((candidate) => candidate.toLowerCase() === lower);
  return key === undefined ? undefined : record[key];
}
