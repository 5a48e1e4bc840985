import { type ConfigReport, quoteValue } from './config-report.ts';
import { formatProtoDuration, parseGoDuration } from './go-values.ts';

/**
 * Field types of protobuf messages in JSON form, as far as ProxyConfig uses them. `isOptional` fields (wrappers,
 * members of a oneof) keep a zero value; the others lose it on output, as proto3 has it.
 */
export type FieldType =
  /** The value of a secret appears in no error. */
  | { readonly kind: 'text'; readonly isOptional?: boolean; readonly isSecret?: boolean }
  | { readonly kind: 'boolean'; readonly isOptional?: boolean }
  | {
      readonly kind: 'integer';
      readonly minimum: number;
      readonly maximum: number;
      readonly isOptional?: boolean;
    }
  /** 64 bit: text on output. */
  | { readonly kind: 'long' }
  | { readonly kind: 'number' }
  | { readonly kind: 'duration' }
  /** Names in order of their numbers; the first is zero. Sparse numbers are given by `numbers`. */
  | {
      readonly kind: 'enum';
      readonly names: readonly string[];
      readonly numbers?: readonly number[];
      readonly isOptional?: boolean;
    }
  | { readonly kind: 'message'; readonly fields: MessageFields }
  | { readonly kind: 'list'; readonly item: FieldType }
  | { readonly kind: 'map'; readonly value: FieldType };

/** Fields by their JSON (camelCase) name. */
export type MessageFields = Readonly<Record<string, FieldType>>;

export type JsonRecord = Readonly<Record<string, unknown>>;

/** `proxy_admin_port` -> `proxyAdminPort`: both names of a field are accepted. */
function jsonName(name: string): string {
  return name.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

export function isRecord(value: unknown): value is JsonRecord {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The JSON object that a text holds; undefined when it is none. */
export function parseRecord(text: string): JsonRecord | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return isRecord(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

/**
 * A message in canonical JSON form: camelCase names, enums by name, durations in seconds. What does not fit its
 * type is an error; an unknown field is a warning; null counts as not given. Zero values are kept, so that a later
 * layer can set one over an earlier value.
 */
export function readMessage(
  input: JsonRecord,
  fields: MessageFields,
  path: string,
  report: ConfigReport,
): Record<string, unknown> {
  const output: Record<string, unknown> = {};
  for (const [givenName, value] of Object.entries(input)) {
    const name = Object.hasOwn(fields, givenName) ? givenName : jsonName(givenName);
    const type = Object.hasOwn(fields, name) ? fields[name] : undefined;
    const fieldPath = `${path}.${givenName}`;
    if (type === undefined) {
      report.warn(`${fieldPath}: unknown field, ignored`);
    } else if (value !== null && value !== undefined) {
      const read = readValue(value, type, fieldPath, report);
      if (read !== undefined) output[name] = read;
    }
  }
  return output;
}

/** Of `google.protobuf.Duration`: about 10,000 years. */
const maxDurationMs = 315_576_000_000_000;

/** Null inside a list or map is the empty value, as the stock agent's parser has it; a message cannot be null there. */
function readItem(value: unknown, type: FieldType, path: string, report: ConfigReport): unknown {
  return value === null && type.kind === 'text' ? '' : readValue(value, type, path, report);
}

function readValue(value: unknown, type: FieldType, path: string, report: ConfigReport): unknown {
  const refuse = (expected: string, remedy: string): undefined => {
    const isSecret = type.kind === 'text' && type.isSecret === true;
    report.error(path, `expected ${expected}, got ${isSecret ? typeof value : quoteValue(value)}`, remedy);
    return undefined;
  };
  switch (type.kind) {
    case 'text':
      return typeof value === 'string' ? value : refuse('text', 'put the value in quotes');
    case 'boolean':
      return typeof value === 'boolean'
        ? value
        : refuse('true or false', 'write true or false without quotes');
    case 'integer': {
      const number = readNumber(value);
      const isInRange = number !== undefined && number >= type.minimum && number <= type.maximum;
      return isInRange && Number.isInteger(number)
        ? number
        : refuse(`an integer from ${type.minimum} to ${type.maximum}`, 'write such a number');
    }
    case 'long': {
      const isText = typeof value === 'string' && /^-?\d{1,19}$/.test(value);
      return isText || Number.isSafeInteger(value)
        ? String(value)
        : refuse('an integer', 'write such a number');
    }
    case 'number':
      return readNumber(value) ?? refuse('a number', 'write a number');
    case 'duration': {
      const durationMs = typeof value === 'string' ? parseGoDuration(value) : undefined;
      return durationMs === undefined || Math.abs(durationMs) > maxDurationMs
        ? refuse('a duration', 'write one with its unit, such as 45s')
        : formatProtoDuration(durationMs);
    }
    case 'enum': {
      const position = typeof value === 'number' ? (type.numbers?.indexOf(value) ?? value) : -1;
      const name = typeof value === 'string' ? value : type.names[position];
      return name !== undefined && type.names.includes(name)
        ? name
        : refuse(`one of ${type.names.join(', ')}`, 'write one of these names');
    }
    case 'message':
      return isRecord(value)
        ? readMessage(value, type.fields, path, report)
        : refuse('an object', 'write its fields as key and value');
    case 'list':
      return Array.isArray(value)
        ? value
            .map((item, index) => readItem(item, type.item, `${path}[${index}]`, report))
            .filter((item) => item !== undefined)
        : refuse('a list', 'write a list');
    case 'map': {
      if (!isRecord(value)) return refuse('an object', 'write its entries as key and value');
      const entries = Object.entries(value).map(
        ([key, item]) => [key, readItem(item, type.value, `${path}.${key}`, report)] as const,
      );
      return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
    }
    default:
      return type satisfies never;
  }
}

/** A JSON number, or a number in quotes as protobuf JSON allows. */
function readNumber(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value !== 'string' || !/^-?\d+(?:\.\d+)?$/.test(value)) return undefined;
  return Number(value);
}

/** What `readMessage` made, without the zero values that proto3 does not write, keys sorted. */
export function writeMessage(message: JsonRecord, fields: MessageFields): Record<string, unknown> {
  const output: Record<string, unknown> = {};
  for (const name of Object.keys(message).sort()) {
    const type = fields[name];
    const value = type === undefined ? undefined : writeValue(message[name], type);
    if (value !== undefined) output[name] = value;
  }
  return output;
}

function writeValue(value: unknown, type: FieldType): unknown {
  if (value === undefined) return undefined;
  switch (type.kind) {
    case 'text':
      return value === '' && !type.isOptional ? undefined : value;
    case 'boolean':
      return value === false && !type.isOptional ? undefined : value;
    case 'integer':
      return value === 0 && !type.isOptional ? undefined : value;
    case 'number':
      return value === 0 ? undefined : value;
    case 'enum':
      return value === type.names[0] && !type.isOptional ? undefined : value;
    case 'long':
    case 'duration':
      return value;
    case 'message':
      return writeMessage(value as JsonRecord, type.fields);
    case 'list': {
      const items = (value as readonly unknown[]).map((item) => writeValue(item, type.item) ?? item);
      return items.length === 0 ? undefined : items;
    }
    case 'map': {
      const entries = Object.entries(value as JsonRecord).map(
        ([key, item]) => [key, writeValue(item, type.value) ?? item] as const,
      );
      return entries.length === 0 ? undefined : Object.fromEntries(entries);
    }
    default:
      return type satisfies never;
  }
}
