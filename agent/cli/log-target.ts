import { closeSync, openSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { describeError } from '../log.ts';
import { CommandError } from './command-error.ts';

/** Where whole log lines go. */
export interface LogTarget extends Disposable {
  write(line: string): void;
}

/**
 * Opens the targets of `--log_target`: `stdout`, `stderr` or files, which are appended to. Throws CommandError. A
 * line that cannot be written is lost: the log never stops the agent.
 */
export function openLogTargets(targets: readonly string[], root: string): LogTarget {
  const files: number[] = [];
  const writers = targets.map((target): ((line: string) => void) => {
    if (target === 'stdout') return (line) => void process.stdout.write(line);
    if (target === 'stderr') return (line) => void process.stderr.write(line);
    try {
      const file = openSync(resolve(root, target), 'a', 0o644);
      files.push(file);
      return (line) => {
        try {
          writeSync(file, line);
        } catch {
          // A full disk must not end the agent.
        }
      };
    } catch (error) {
      throw new CommandError([`--log_target: cannot open ${target}: ${describeError(error)}`], {
        cause: error,
      });
    }
  });
  return {
    write: (line) => {
      for (const writer of writers) writer(line);
    },
    [Symbol.dispose]: () => {
      for (const file of files.splice(0)) closeSync(file);
    },
  };
}
