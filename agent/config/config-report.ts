/** One thing the agent cannot start with. */
export interface ConfigError {
  /** Where it was said: an environment variable, a flag, an annotation, or one of these and a field path. */
  readonly name: string;
  /** What was seen, with the value unless it is a secret. */
  readonly problem: string;
  /** What to do about it. */
  readonly remedy: string;
}

/** Collects everything that is wrong in one pass over the settings, so that an operator sees all of it at once. */
export class ConfigReport {
  readonly errors: ConfigError[] = [];
  readonly warnings: string[] = [];

  error(name: string, problem: string, remedy: string): void {
    this.errors.push({ name, problem, remedy });
  }

  warn(text: string): void {
    this.warnings.push(text);
  }
}

/** One line for a log or for standard error. */
export function formatConfigError(error: ConfigError): string {
  return `${error.name}: ${error.problem}; ${error.remedy}`;
}

/** Longest part of a value that is repeated in a message. */
const maxQuotedLength = 120;

/** A value as a message shows it: quoted, on one line, cut when long. Never for secrets. */
export function quoteValue(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= maxQuotedLength
    ? text
    : `${text.slice(0, maxQuotedLength)}... (${text.length} characters)`;
}
