// npm run fuzz -- [--seconds N] [--seed N [--path P]] [target ...]
//
// Runs each target for so long (60 seconds for all together by default) with inputs from a new seed, or again from the
// seed and path of a failure. Exit code 0: all held; 1: one did not, and how to see it again is printed; 2: bad use.
import { parseArgs } from 'node:util';
import * as fc from 'fast-check';
import type { FuzzTarget } from './fuzz-target.ts';
import { fuzzTargets } from './fuzz-targets.ts';

const badUseExitCode = 2;
const defaultSeconds = 60;

interface FuzzOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly path: string | undefined;
  readonly targets: readonly FuzzTarget[];
}

/** Throws Error that says what is wrong with the command line. */
function readOptions(args: readonly string[]): FuzzOptions {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { seconds: { type: 'string' }, seed: { type: 'string' }, path: { type: 'string' } },
  });
  const names = fuzzTargets.map(({ name }) => name);
  const unknown = positionals.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new Error(`there is no target ${JSON.stringify(unknown)}; targets: ${names.join(', ')}`);
  const seconds = Number(values.seconds ?? defaultSeconds);
  if (!(seconds > 0 && seconds <= 86_400)) throw new Error('--seconds is a number from 1 to 86400');
  const seed = Number(values.seed ?? Date.now() % 2 ** 31);
  if (!Number.isSafeInteger(seed)) throw new Error('--seed is a whole number');
  if (values.path !== undefined && (values.seed === undefined || positionals.length !== 1)) {
    throw new Error('--path is of one seed and one target: give both');
  }
  const targets = fuzzTargets.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  return { seconds, seed, path: values.path, targets };
}

/** True when the target held. */
async function run(target: FuzzTarget, options: FuzzOptions): Promise<boolean> {
  const { seed, path } = options;
  const timeMs = (options.seconds * 1000) / options.targets.length;
  const details = await fc.check(target.property, {
    seed,
    ...(path === undefined ? {} : { path }),
    numRuns: path === undefined ? Number.MAX_SAFE_INTEGER : 1,
    interruptAfterTimeLimit: timeMs,
    // A failure is made small, but not for ever.
    endOnFailure: false,
  });
  if (!details.failed || details.counterexample === null) {
    process.stdout.write(`${target.name}: ${details.numRuns} inputs held (seed ${seed})\n`);
    return true;
  }
  const again = `npm run fuzz -- --seed ${seed} --path ${details.counterexamplePath} ${target.name}`;
  const cause = details.errorInstance instanceof Error ? details.errorInstance.stack : details.errorInstance;
  process.stdout.write(
    `${target.name}: FAILED\n${fc.defaultReportMessage(details)}\n${String(cause)}\nagain: ${again}\n`,
  );
  return false;
}

try {
  const options = readOptions(process.argv.slice(2));
  for (const target of options.targets) {
    if (!(await run(target, options))) process.exitCode = 1;
  }
} catch (error) {
  process.stderr.write(`fuzz: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = badUseExitCode;
}
