import type { FlagDefinition } from '../config/flags.ts';

/** A command line in the one form the command library is given: known flags as `--name=value`. */
export interface NormalArguments {
  readonly arguments: readonly string[];
  /** Flags that no command knows, as given; empty unless they are to be dropped. */
  readonly unknownFlags: readonly string[];
}

/**
 * Reads a command line as Go's pflag does: `--flag value` and `--flag=value`, a boolean without value is true and
 * never takes the next word, `--` ends the flags. With `dropsUnknown` an unknown flag is taken out together with
 * the word behind it, unless that starts with a dash (cobra's `FParseErrWhitelist`).
 */
export function normalizeArguments(
  given: readonly string[],
  flags: readonly FlagDefinition[],
  options: { readonly dropsUnknown: boolean },
): NormalArguments {
  const normal: string[] = [];
  const unknownFlags: string[] = [];
  const words = [...given];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === '--') {
      normal.push('--', ...words);
      break;
    }
    const { name, value, isShort } = splitFlag(word);
    const flag = flags.find((candidate) => (isShort ? candidate.short : candidate.name) === name);
    if (name === undefined || ['help', 'h'].includes(name)) normal.push(word);
    else if (flag !== undefined) {
      const next = value ?? (flag.type === 'boolean' ? 'true' : words.shift());
      normal.push(next === undefined ? `--${flag.name}` : `--${flag.name}=${next}`);
    } else if (!options.dropsUnknown) normal.push(word);
    else {
      unknownFlags.push(isShort ? word : `--${name}`);
      if (value === undefined && words[0] !== undefined && !words[0].startsWith('-')) words.shift();
    }
  }
  return { arguments: normal, unknownFlags };
}

function splitFlag(word: string): {
  readonly name: string | undefined;
  readonly value?: string;
  readonly isShort: boolean;
} {
  const long = /^--([^=]+)(?:=([\s\S]*))?$/.exec(word);
  if (long !== null) {
    return { name: long[1], isShort: false, ...(long[2] === undefined ? {} : { value: long[2] }) };
  }
  const short = /^-([A-Za-z])(?:=?([\s\S]+))?$/.exec(word);
  return { name: short?.[1], isShort: true, ...(short?.[2] === undefined ? {} : { value: short[2] }) };
}

/** The first word that is neither a flag nor the value of a known flag: the command. */
export function findCommand(given: readonly string[], flags: readonly FlagDefinition[]): string | undefined {
  const { arguments: words } = normalizeArguments(given, flags, { dropsUnknown: false });
  return words.find((word) => !word.startsWith('-'));
}
