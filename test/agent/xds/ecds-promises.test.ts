import { describe, test } from 'node:test';
import { type EcdsStory, play, playRandom } from './ecds-stories.ts';

/** What the property has found so far, shrunk. Each was a bug. */
const found: readonly (readonly [what: string, story: EcdsStory])[] = [
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
    'such an ACK is not believed on the next stream either, when the refusal was long ago',
    [
      ['answer', 0],
      ['answer', 0],
      ['change', 0],
      ['answer', 0],
      ['clock-set', 0],
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
  [
    'a listener that was refused comes again also when the refused config is no longer asked for',
    [
      ['change', 4],
      ['answer', 0],
      ['answer', 0],
      ['fetched', 0],
      ['answer', 0],
      ['disconnect', 0],
      ['answer', 0],
      ['subscribe', 0],
    ],
  ],
  [
    'a verdict waits for the answer to names also when Envoy has dropped them meanwhile',
    [
      ['change', 6],
      ['change', 21],
      ['restart', 0],
      ['policy', 21],
      ['subscribe', 3],
      ['remove', 15],
    ],
  ],
  [
    'names that two empty pushes have overtaken are told a third time',
    [
      ['change', 15],
      ['subscribe', 3],
      ['change', 59],
      ['push', 0],
      ['change', 0],
    ],
  ],
  [
    'a name that was dropped behind an addition can be asked for again',
    [
      ['change', 0],
      ['change', 15],
      ['subscribe', 43],
      ['subscribe', 0],
      ['subscribe', 0],
    ],
  ],
  [
    'a name that istiod has taken away is not held to be there because another one never came',
    [
      ['change', 9],
      ['subscribe', 13],
      ['remove', 9],
      ['change', 0],
      ['failed', 0],
    ],
  ],
  [
    'a repair that was lost with the stream is sent on the next, where Envoy runs a plugin',
    [
      ['answer', 0],
      ['answer', 0],
      ['change', 50],
      ['change', 0],
      ['answer', 0],
      ['answer', 0],
      ['disconnect', 0],
    ],
  ],
  [
    'what istiod sends of a name that Envoy has dropped meanwhile decides no verdict',
    [
      ['change', 0],
      ['answer', 0],
      ['answer', 0],
      ['answer', 0],
      ['disconnect', 47],
      ['subscribe', 0],
    ],
  ],
];

describe('whatever happens between istiod, agent, registry and Envoy', () => {
  for (const kind of ['delta', 'sotw'] as const) {
    test(`the promises are kept over ${kind}`, async (t) => {
      await playRandom(t, kind, { numRuns: 600, seed: 20_261_121 });
    });

    for (const [what, story] of found) {
      test(`${what}, over ${kind}`, async (t) => {
        t.mock.timers.enable({ apis: ['setTimeout'] });
        await play(t, kind, story);
      });
    }
  }
});
