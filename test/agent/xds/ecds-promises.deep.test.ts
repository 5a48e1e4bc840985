import { describe, test } from 'node:test';
import { playRandom } from './ecds-stories.ts';

describe('many stories of istiod, agent, registry and Envoy', () => {
  for (const kind of ['delta', 'sotw'] as const) {
    test(`keep the promises over ${kind}, other ones each time`, async (t) => {
      await playRandom(t, kind, { numRuns: 10_000 });
    });
  }
});
