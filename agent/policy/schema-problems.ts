import type * as z from 'zod/mini';
import { nearestWord, quote } from './policy-problem.ts';

/** A fault of a document against its schema. `part` tells which end of the path it is at. */
export interface SchemaProblem {
  readonly path: readonly PropertyKey[];
  readonly part: 'key' | 'value';
  readonly message: string;
}

type Issue = z.core.$ZodIssue;
type Schema = z.core.$ZodType;

/** What a wrong issue of the library says when the schema says nothing better. */
const noMessage = 'Invalid input';

/** Words for what zod expects. */
const kinds: Readonly<Record<string, string>> = {
  string: 'a text',
  array: 'a list',
  object: 'a map',
  record: 'a map',
  boolean: 'true or false',
  int: 'a whole number',
  number: 'a number',
};

/** Every fault of `value` against `schema`, in words for an operator. Pure. */
export function findSchemaProblems(
  schema: Schema,
  value: unknown,
  issues: readonly Issue[],
): SchemaProblem[] {
  return issues.flatMap((issue) => problemsOf(schema, value, issue));
}

function problemsOf(schema: Schema, document: unknown, issue: Issue): SchemaProblem[] {
  const { path } = issue;
  const value = valueAt(document, path);
  const at = (message: string): SchemaProblem[] => [{ path, part: 'value', message }];
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(schema, path);
    return issue.keys.map((key) => ({ path: [...path, key], part: 'key', message: unknownKey(key, known) }));
  }
  if (issue.code === 'invalid_key') {
    const [first] = issue.issues;
    const message = `${quote(path.at(-1))} ${first?.message ?? 'is no name'}`;
    return [{ path, part: 'key', message }];
  }
  if (value === undefined) return at(missing(schema, path));
  if (value === null) return at('has no value; write one or remove the key');
  if (issue.message !== noMessage) return at(`${quote(value)} ${issue.message}`);
  switch (issue.code) {
    case 'invalid_type': {
      const expected = kinds[issue.expected] ?? issue.expected;
      const hint =
        issue.expected === 'string' && ['number', 'boolean'].includes(typeof value)
          ? '; put it in quotes'
          : '';
      return at(`is ${quote(value)}, and must be ${expected}${hint}`);
    }
    case 'invalid_value': {
      const words = issue.values.map(String);
      const near = typeof value === 'string' ? nearestWord(value, words) : undefined;
      const meant = near === undefined ? '' : ` (did you mean ${near}?)`;
      return at(`is ${quote(value)}; write ${words.join(' or ')}${meant}`);
    }
    case 'too_small':
      if (issue.origin === 'array') return at(`is an empty list; write an item or remove the key`);
      return at(`is ${quote(value)}; ${String(issue.minimum)} is the least`);
    case 'too_big':
      if (issue.origin === 'array') return at(`has too many items; ${String(issue.maximum)} are the most`);
      return at(`is ${quote(value)}; ${String(issue.maximum)} is the most`);
    default:
      return at(`is ${quote(value)}, which does not fit; see the schema`);
  }
}

function missing(schema: Schema, path: readonly PropertyKey[]): string {
  const values = valuesOf(schemaAt(schema, path));
  return values.length === 0 ? 'is missing; add it' : `is missing; add it: ${values.join(' or ')}`;
}

function unknownKey(key: string, known: readonly string[]): string {
  if (/passw|secret|token|auth|private/i.test(key)) {
    return 'is no key of a policy, and secrets do not belong into it; use credentialsFile or keyFile under "registries"';
  }
  const near = nearestWord(key, known);
  const keys = `the keys here are ${known.join(', ')}`;
  return near === undefined ? `is unknown; ${keys}` : `is unknown; did you mean ${near}? (${keys})`;
}

/** The value at a path; undefined when there is none. */
export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let current = value;
  for (const part of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, part)) return undefined;
    current = (current as Record<PropertyKey, unknown>)[part];
  }
  return current;
}

function knownKeys(schema: Schema, path: readonly PropertyKey[]): readonly string[] {
  const found = definitionOf(schemaAt(schema, path));
  return found?.type === 'object' ? Object.keys(found.shape) : [];
}

function valuesOf(schema: Schema | undefined): readonly string[] {
  const found = definitionOf(schema);
  if (found?.type === 'enum') return Object.values(found.entries).map(String);
  return found?.type === 'literal' ? found.values.map(String) : [];
}

type Definition = z.core.$ZodTypes['_zod']['def'];

/** The definition below `optional`. */
function definitionOf(schema: Schema | undefined): Definition | undefined {
  const definition = schema?._zod.def as Definition | undefined;
  return definition?.type === 'optional' ? definitionOf(definition.innerType) : definition;
}

function schemaAt(schema: Schema, path: readonly PropertyKey[]): Schema | undefined {
  let current: Schema | undefined = schema;
  for (const part of path) {
    const found = definitionOf(current);
    if (found?.type === 'object') current = found.shape[String(part)];
    else if (found?.type === 'array') current = found.element;
    else if (found?.type === 'record') current = found.valueType;
    else return undefined;
  }
  return current;
}
