import { type FlagDefinition, proxyFlags, rootFlags } from '../config/flags.ts';
import { booleanText } from './all-flags.ts';
import type { FlagValues } from './proxy.ts';

const flags = new Map<string, FlagDefinition>([...rootFlags, ...proxyFlags].map((flag) => [flag.name, flag]));

/**
 * Reads `proxy [type] --flag=value ...`, the command line of every pod, without the command library, which costs more
 * than all reading of the configuration. `words` are those of `normalizeArguments`. Undefined for any other line, for
 * help and for a mistake: the library knows what to say. Throws CommandError as it would.
 */
export function readPlainProxy(
  words: readonly string[],
): { readonly type: string | undefined; readonly flags: FlagValues } | undefined {
  const values: Record<string, string | string[]> = {};
  const places: string[] = [];
  for (const word of words) {
    if (!word.startsWith('-')) {
      places.push(word);
      continue;
    }
    const [, name = '', value] = /^--([^=]+)=([\s\S]*)$/.exec(word) ?? [];
    const flag = flags.get(name);
    if (flag === undefined || value === undefined) return undefined;
    values[name] = flag.type === 'text list' ? [values[name] ?? [], value].flat() : value;
  }
  if (places[0] !== 'proxy') return undefined;
  for (const [name, { type, default: fallback }] of flags) {
    const value = values[name] ?? (type === 'text list' ? [fallback] : fallback);
    values[name] = type === 'boolean' ? booleanText(name, String(value)) : value;
  }
  return { type: places[1], flags: values };
}
