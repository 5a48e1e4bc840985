/**
 * Structured log lines in the stock agent's two formats: tab separated text, or JSON.
 * A line is a constant message plus fields; secrets must never be put into a field.
 * Source of the format: istio/istio `pkg/log/scope.go`.
 */

/** From most to least verbose; `none` turns a scope off. */
export const logLevels = ['debug', 'info', 'warn', 'error', 'fatal', 'none'] as const;
export type LogLevel = (typeof logLevels)[number];
type WrittenLevel = Exclude<LogLevel, 'none'>;

export type LogValue = string | number | boolean | undefined;
export type LogFields = Readonly<Record<string, LogValue>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** True when a line of this level would be written: for fields that cost something to make. */
  isEnabled(level: WrittenLevel): boolean;
}

export interface LogOptions {
  readonly format: 'text' | 'json';
  /** Level by scope name; `default` for every scope that is not named. */
  readonly levels: ReadonlyMap<string, LogLevel>;
  /** Takes one whole line, newline included. */
  readonly write: (line: string) => void;
  readonly now?: () => Date;
}

/** The scopes of the agent's own lines; those of the stock agent where it has the same part. */
export const logScopes = [
  'ca',
  'cache',
  'citadelclient',
  'default',
  'dns',
  'grpc',
  'healthcheck',
  'probes',
  'sds',
  'security',
  'wasm',
  'xdsproxy',
] as const;

/** Makes loggers by scope (`default`, `xdsproxy`, `wasm`, ...) that share one sink and one level table. */
export class LogRoot {
  readonly #options: LogOptions;
  readonly #levels: Map<string, LogLevel>;

  constructor(options: LogOptions) {
    this.#options = options;
    this.#levels = new Map(options.levels);
  }

  scope(name: string): Logger {
    const write = (level: WrittenLevel, message: string, fields: LogFields = {}): void => {
      if (this.#isEnabled(name, level)) this.#write(name, level, message, fields);
    };
    return {
      debug: (message, fields) => write('debug', message, fields),
      info: (message, fields) => write('info', message, fields),
      warn: (message, fields) => write('warn', message, fields),
      error: (message, fields) => write('error', message, fields),
      isEnabled: (level) => this.#isEnabled(name, level),
    };
  }

  /** Changes the level of one scope while the process runs; of every scope with `all`. */
  setLevel(scope: string, level: LogLevel): void {
    this.#levels.set(scope, level);
  }

  /** Goes back to the levels of the start. */
  resetLevels(): void {
    this.#levels.clear();
    for (const [scope, level] of this.#options.levels) this.#levels.set(scope, level);
  }

  /** The level in force for a scope. */
  levelOf(scope: string): LogLevel {
    return this.#levels.get('all') ?? this.#levels.get(scope) ?? this.#levels.get('default') ?? 'info';
  }

  #isEnabled(scope: string, level: WrittenLevel): boolean {
    return logLevels.indexOf(level) >= logLevels.indexOf(this.levelOf(scope));
  }

  #write(scope: string, level: WrittenLevel, message: string, fields: LogFields): void {
    const time = formatTime(this.#options.now?.() ?? new Date());
    const present = Object.entries(fields).filter(([, value]) => value !== undefined);
    if (this.#options.format === 'json') {
      const line = { level, time, ...(scope === 'default' ? {} : { scope }), msg: message };
      // In the stock order; a label never takes the place of a column.
      const text = JSON.stringify({ ...line, ...Object.fromEntries(present), ...line });
      this.#options.write(`${escapeLine(text)}\n`);
      return;
    }
    const columns = [time, level, ...(scope === 'default' ? [] : [scope]), escapeLine(message)];
    const labels = present.map(([key, value]) => `${key}=${escapeLine(String(value))}`).join(' ');
    this.#options.write(`${columns.join('\t')}${labels === '' ? '' : `\t${labels}`}\n`);
  }
}

/** UTC with exactly six fractional digits, as Go's zap encoder of the stock agent writes it. */
function formatTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z');
}

/**
 * One record is one line with the columns that it should have, whatever an upstream put into an error text; and what
 * a terminal would obey is only shown. JSON is written alike: it leaves some of these as they are.
 */
function escapeLine(text: string): string {
  return text.replaceAll(controlCharacters, escapeCharacter);
}

// Control characters of both sets, and what some readers of logs take for the end of a line.
// oxlint-disable-next-line no-control-regex
const controlCharacters = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

const shortEscapes: ReadonlyMap<string, string> = new Map([
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
]);

function escapeCharacter(character: string): string {
  const code = character.charCodeAt(0).toString(16).padStart(4, '0');
  return shortEscapes.get(character) ?? `\\u${code}`;
}

/** The text of an unknown thrown value, with the texts of its causes. For log fields and error messages. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = error.message === '' ? error.name : error.message;
  if (error instanceof AggregateError && error.errors.length > 0) {
    return [...new Set(error.errors.map(describeError))].join('; ');
  }
  if (error.cause === undefined || error.cause === null) return own;
  const cause = describeError(error.cause);
  return own.includes(cause) ? own : `${own}: ${cause}`;
}
