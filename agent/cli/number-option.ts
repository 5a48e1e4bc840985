import { parseGoInteger } from '../config/go-values.ts';
import { CommandError } from './command-error.ts';

/** The integer in a flag. Throws CommandError. */
export function readNumberOption(name: string, text: string): number {
  const value = parseGoInteger(text);
  if (value !== undefined && value >= 0) return value;
  throw new CommandError([
    `invalid argument ${JSON.stringify(text)} for "--${name}": use a number of 0 or more`,
  ]);
}
