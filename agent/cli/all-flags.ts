import {
  type FlagDefinition,
  proxyFlags,
  requestFlags,
  rootFlags,
  versionFlags,
  waitFlags,
} from '../config/flags.ts';
import { parseGoBoolean } from '../config/go-values.ts';
import { operatorCommands } from '../config/operator-flags.ts';
import { CommandError } from './command-error.ts';

/** Of all commands. */
export const allFlags: readonly FlagDefinition[] = [
  ...rootFlags,
  ...proxyFlags,
  ...waitFlags,
  ...requestFlags,
  ...versionFlags,
  ...operatorCommands.flatMap(({ flags }) => flags),
];

/** The value of a boolean flag as `true` or `false`. Throws CommandError. */
export function booleanText(name: string, text: string): string {
  const value = parseGoBoolean(text);
  if (value !== undefined) return String(value);
  throw new CommandError([`invalid argument ${JSON.stringify(text)} for "--${name}": use true or false`]);
}
