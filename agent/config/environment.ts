import { type ConfigReport, quoteValue } from './config-report.ts';
import { environmentTable, type VariableDefinition, type VariableName } from './environment-table.ts';
import { parseGoBoolean, parseGoDuration, parseGoInteger, parseGoNumber } from './go-values.ts';

/** The process environment as it is handed to the parser. */
export type EnvironmentRecord = Readonly<Record<string, string | undefined>>;

interface ValueByType {
  text: string;
  'optional text': string | undefined;
  boolean: boolean;
  'optional boolean': boolean | undefined;
  integer: number;
  number: number;
  duration: number;
  'file mode': number | undefined;
}

/** The parsed value of every variable of the table; durations in ms. */
export type EnvironmentValues = {
  readonly [Name in VariableName]: ValueByType[(typeof environmentTable)[Name]['type']];
};

/**
 * Reads every variable of the table. A value that does not parse is a warning and the default, as in the stock
 * agent (`pkg/env`).
 */
export function readEnvironment(environment: EnvironmentRecord, report: ConfigReport): EnvironmentValues {
  const values: Record<string, unknown> = {};
  for (const name of Object.keys(environmentTable)) {
    const definition: VariableDefinition = environmentTable[name as VariableName];
    const fallback =
      definition.default === undefined ? undefined : parseValue(definition, definition.default);
    const text = environment[name];
    const parsed = text === undefined ? fallback : parseValue(definition, text);
    if (text !== undefined && parsed === undefined && !(definition.type === 'file mode' && text === '')) {
      report.warn(
        `${name}: ${definition.isSecret ? 'the value' : quoteValue(text)} is not ${expectation(definition.type)}; ` +
          `using ${definition.default ? definition.default : 'the default'}`,
      );
    }
    values[name] = parsed ?? fallback;
  }
  // Each entry was parsed by the type its row names.
  return values as unknown as EnvironmentValues;
}

function parseValue(definition: VariableDefinition, text: string): unknown {
  switch (definition.type) {
    case 'text':
    case 'optional text':
      return text;
    case 'boolean':
    case 'optional boolean':
      return parseGoBoolean(text);
    case 'integer':
      return parseGoInteger(text);
    case 'number':
      return parseGoNumber(text);
    case 'duration':
      return parseGoDuration(text);
    case 'file mode':
      return /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : undefined;
    default:
      return definition.type satisfies never;
  }
}

function expectation(type: VariableDefinition['type']): string {
  switch (type) {
    case 'text':
    case 'optional text':
      return 'text';
    case 'boolean':
    case 'optional boolean':
      return 'a boolean (true or false)';
    case 'integer':
      return 'an integer';
    case 'number':
      return 'a number (such as 0.5)';
    case 'duration':
      return 'a duration (such as 1h30m or 100ms)';
    case 'file mode':
      return 'octal permission bits (such as 0660)';
    default:
      return type satisfies never;
  }
}

/** The variables whose name starts with `prefix`, by the rest of the name, in the order of the record. */
export function variablesByPrefix(
  environment: EnvironmentRecord,
  prefix: string,
): readonly (readonly [string, string])[] {
  return Object.entries(environment).flatMap(([name, value]) =>
    name.startsWith(prefix) && value !== undefined ? [[name.slice(prefix.length), value] as const] : [],
  );
}
