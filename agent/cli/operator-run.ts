import { constants } from 'node:os';
import { CommandError } from './command-error.ts';

/**
 * Exit codes of the commands for operators: 0 fine, 1 refused, broken or not to be had, 2 a command line that makes
 * no sense. After a signal it is 128 and the signal's number, as shells have it.
 */
export const exitCodes = { fine: 0, refused: 1, usage: 2 } as const;

/** A command line that makes no sense. */
export function usageError(line: string): CommandError {
  return new CommandError([line], { exitCode: exitCodes.usage });
}

/** Something that was looked at is refused, broken or not there. */
export function refusal(line: string, options: ErrorOptions = {}): CommandError {
  return new CommandError([line], { ...options, exitCode: exitCodes.refused });
}

/** The values of a command's flags as text, by name. */
export type OperatorFlags = Readonly<Record<string, string | readonly string[]>>;

export function flagText(flags: OperatorFlags, name: string): string {
  return String(flags[name] ?? '');
}

export function isFlagSet(flags: OperatorFlags, name: string): boolean {
  return flags[name] === 'true';
}

/**
 * Runs a command that clears up after itself when it is interrupted: the first SIGINT, SIGTERM or SIGHUP aborts the
 * signal and waits for the end, a second one ends the process at once.
 */
export async function interruptible(work: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const stop = new AbortController();
  let caught: NodeJS.Signals | undefined;
  const onSignal = (name: NodeJS.Signals): void => {
    caught = name;
    stop.abort(new Error(`interrupted by ${name}`));
    for (const each of names) process.off(each, onSignal);
  };
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of names) process.on(name, onSignal);
  try {
    return await work(stop.signal);
  } catch (error) {
    if (caught === undefined) throw error;
    throw new CommandError([`interrupted by ${caught}; nothing half-done is left`], {
      cause: error,
      exitCode: 128 + constants.signals[caught],
    });
  } finally {
    for (const name of names) process.off(name, onSignal);
  }
}
