import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { wireTargets } from './wire-targets.ts';

/** For all targets together, in ms. */
const timeMs = 20_000;

describe('what reads the bytes of istiod and Envoy', () => {
  for (const { name, property } of wireTargets) {
    test(`keeps its promises for any ${name}, with new inputs each time`, async (t) => {
      const seed = Date.now() % 2 ** 31;
      t.diagnostic(`npm run fuzz -- --seed ${seed} ${name}`);
      await fc.assert(property, {
        seed,
        numRuns: Number.MAX_SAFE_INTEGER,
        interruptAfterTimeLimit: timeMs / wireTargets.length,
        includeErrorInReport: true,
      });
    });
  }
});
