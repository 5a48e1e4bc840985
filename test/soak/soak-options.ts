import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';

/** What a soak was asked to do. */
export interface SoakOptions {
  readonly minutes: number;
  readonly mode: 'delta' | 'sotw';
  /** Of all choices; the same seed makes the same choices, not the same timing. */
  readonly seed: number;
  /** Undefined: a new file in test/soak/results/. */
  readonly outputPath: string | undefined;
}

/** A command line that cannot be used; the message says why. */
export class SoakUsageError extends Error {}

export const soakUsage = `Usage: npm run soak -- [options]

  --minutes N   how long (default 60; 5 is the least that says something about memory)
  --sotw        state of the world instead of incremental ADS
  --seed N      of the choices (default: a new one, printed)
  --out FILE    where the JSON goes (default: a new file in test/soak/results/)
`;

const maxMinutes = 7 * 24 * 60;
const maxSeed = 2 ** 31;

/** Reads the command line. Throws SoakUsageError. */
export function parseSoakOptions(args: readonly string[]): SoakOptions {
  const values = parse(args);
  const minutes = Number(values.minutes);
  if (!(minutes > 0 && minutes <= maxMinutes)) {
    throw new SoakUsageError(`--minutes ${values.minutes}: give a number over 0 and up to ${maxMinutes}.`);
  }
  const seed = values.seed === undefined ? randomInt(1, maxSeed) : Number(values.seed);
  if (!Number.isInteger(seed) || seed < 1 || seed > maxSeed) {
    throw new SoakUsageError(`--seed ${values.seed}: give a whole number from 1 to ${maxSeed}.`);
  }
  return { minutes, mode: values.sotw ? 'sotw' : 'delta', seed, outputPath: values.out };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        minutes: { type: 'string', default: '60' },
        sotw: { type: 'boolean', default: false },
        seed: { type: 'string' },
        out: { type: 'string' },
      },
    }).values;
  } catch (error) {
    throw new SoakUsageError(error instanceof Error ? error.message : String(error));
  }
}
