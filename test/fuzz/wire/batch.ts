import * as fc from 'fast-check';
import { SeededRandom } from '../../support/seeded-random.ts';
import type { FuzzTarget } from '../fuzz-target.ts';

/** Inputs that one run of a property looks at: the generator is ours, and far faster than a run. */
const batchSize = 200;
/** Batches in the tests of each change: a second at most. */
const testRunCount = 20;

/**
 * A target whose inputs come from our own generator. Each run of the property is a batch; its number and the batch's
 * seed are the counterexample, so a failure comes again from the seed and path that the runner prints.
 */
export function batchTarget(name: string, check: (random: SeededRandom) => Promise<void> | void): FuzzTarget {
  return {
    name,
    testRunCount,
    property: fc.asyncProperty(fc.noShrink(fc.integer({ min: 1, max: 2 ** 31 - 1 })), async (seed) => {
      const random = new SeededRandom(seed);
      for (let index = 0; index < batchSize; index += 1) {
        try {
          const checked = check(random);
          if (checked !== undefined) await checked;
        } catch (error) {
          throw new Error(`input ${index} of batch ${seed}: ${describe(error)}`, { cause: error });
        }
      }
    }),
  };
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
