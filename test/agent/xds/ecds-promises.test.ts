import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { type EcdsStep, EcdsWorld, ecdsSteps } from './ecds-world.ts';

/** The steps that every plugin takes come more often, so that the others find something to disturb. */
const weights: Readonly<Partial<Record<(typeof ecdsSteps)[number], number>>> = {
  change: 4,
  fetched: 5,
  answer: 7,
  failed: 2,
  subscribe: 2,
};

const steps = fc.array(
  fc.tuple(
    fc.oneof(...ecdsSteps.map((step) => ({ arbitrary: fc.constant(step), weight: weights[step] ?? 1 }))),
    fc.nat(59),
  ),
  { maxLength: 60 },
);

/** What the property has found so far, shrunk. Each was a bug. */
const found: readonly (readonly [what: string, steps: readonly (readonly [EcdsStep, number])[]])[] = [
  ['a second empty response before the answer to the first gets its verdict', [['change', 1]]],
  [
    'the ACK of bytes that Envoy refused right before is no ACK',
    [
      ['change', 0],
      ['change', 31],
    ],
  ],
  [
    'such an ACK repairs nothing: a refused listener waits for the real repair',
    [
      ['answer', 0],
      ['change', 0],
      ['push', 0],
      ['listener', 0],
      ['answer', 0],
    ],
  ],
  [
    'what Envoy refuses of a name that went and came back is repaired',
    [
      ['change', 0],
      ['subscribe', 0],
      ['subscribe', 0],
    ],
  ],
  [
    'the stand-in of a FAIL_OPEN config does not stand in for the FAIL_CLOSE config after it',
    [
      ['answer', 0],
      ['answer', 0],
      ['change', 0],
      ['answer', 0],
      ['change', 4],
    ],
  ],
  [
    'a listener that is refused at the start of the next stream comes again',
    [
      ['answer', 0],
      ['answer', 0],
      ['change', 0],
      ['answer', 0],
      ['disconnect', 0],
    ],
  ],
  [
    'a change of names that settles a push goes up before the verdict',
    [
      ['answer', 0],
      ['answer', 0],
      ['change', 0],
      ['change', 31],
      ['subscribe', 15],
      ['failed', 0],
      ['subscribe', 0],
    ],
  ],
];

describe('whatever happens between istiod, agent, registry and Envoy', () => {
  for (const kind of ['delta', 'sotw'] as const) {
    const run = async (
      timers: { readonly tick: (ms: number) => void },
      choices: readonly (readonly [EcdsStep, number])[],
    ): Promise<void> => {
      const world = new EcdsWorld(kind, (ms) => timers.tick(ms));
      await world.step('subscribe', 0);
      for (const [step, pick] of choices) await world.step(step, pick);
      await world.finish();
    };

    test(`the promises are kept over ${kind}`, async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout'] });
      await fc.assert(
        fc.asyncProperty(steps, (choices) => run(t.mock.timers, choices)),
        { numRuns: 600, seed: 20_261_121 },
      );
    });

    for (const [what, choices] of found) {
      test(`${what}, over ${kind}`, async (t) => {
        t.mock.timers.enable({ apis: ['setTimeout'] });
        await run(t.mock.timers, choices);
      });
    }
  }
});
