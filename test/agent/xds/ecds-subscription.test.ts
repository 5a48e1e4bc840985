import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DownstreamRequest } from '../../../agent/xds/ecds-dialect.ts';
import { EcdsSubscription } from '../../../agent/xds/ecds-subscription.ts';
import type { StreamKind } from '../../../agent/xds/interceptor.ts';

/** Envoy's request, or the names in a response of istiod. */
type Step =
  | { readonly names: string }
  | { readonly add?: string; readonly drop?: string }
  | { readonly comes: string; readonly withdraws: string; readonly isLost?: true };

const list = (text = ''): readonly string[] => text.split(' ').filter((name) => name !== '');

function requestOf(step: Exclude<Step, { readonly comes: string }>): DownstreamRequest {
  const answer = { nonce: '', failure: undefined };
  if ('names' in step) return { ...answer, kind: 'sotw', version: '', names: list(step.names) };
  const [subscribe, unsubscribe] = [list(step.add), list(step.drop)];
  return { ...answer, kind: 'delta', subscribe, unsubscribe };
}

/** Names are known from the response that has them until one withdraws them, or Envoy drops them. */
function run(kind: StreamKind, steps: readonly Step[]): void {
  const subscription = new EcdsSubscription(kind);
  let known = new Set<string>();
  for (const [index, step] of steps.entries()) {
    if ('comes' in step) {
      const present = list(step.comes);
      const { withdrawn, areNamesLost } = subscription.read(present, [...known]);
      assert.equal(areNamesLost, step.isLost === true, `step ${index}`);
      if (areNamesLost) subscription.toldAgain();
      assert.deepEqual([...withdrawn].sort(), [...list(step.withdraws)], `step ${index}`);
      known = new Set([...known, ...present]).difference(new Set(withdrawn));
    } else {
      const dropped = subscription.change(requestOf(step)).droppedNames([...known]);
      known = known.difference(new Set(dropped));
    }
  }
}

const rows: readonly (readonly [string, readonly Step[]])[] = [
  [
    'delta: the answer to a subscribe says nothing of other names, a push does',
    [
      { add: 'a' },
      { comes: 'a', withdraws: '' },
      { add: 'b' },
      { comes: 'b', withdraws: '' },
      { comes: 'b', withdraws: 'a' },
    ],
  ],
  [
    'delta: the empty answer to an unsubscribe withdraws nothing, an empty push does',
    [
      { add: 'a b' },
      { comes: 'a b', withdraws: '' },
      { comes: 'a', withdraws: 'b' },
      { drop: 'b' },
      { comes: '', withdraws: '' },
      { comes: '', withdraws: 'a' },
    ],
  ],
  [
    'delta: a push that overtakes the empty answer leaves it one',
    [
      { add: 'a b' },
      { comes: 'a b', withdraws: '' },
      { drop: 'b' },
      { comes: 'a', withdraws: '' },
      { comes: '', withdraws: '' },
    ],
  ],
  [
    'delta: the answer to a subscribe that was taken back says nothing of other names',
    [
      { add: 'a' },
      { comes: 'a', withdraws: '' },
      { add: 'b' },
      { drop: 'b' },
      { comes: 'b', withdraws: '' },
      { comes: '', withdraws: '' },
      { comes: 'a', withdraws: 'b' },
    ],
  ],
  [
    'delta: a name that istiod does not have is withdrawn by the answer',
    [{ add: 'a b' }, { comes: 'a b', withdraws: '' }, { add: 'b' }, { comes: '', withdraws: 'b' }],
  ],
  [
    'delta: the push of an istiod without plugins may come before the answer to a subscribe',
    [
      { add: 'a' },
      { comes: '', withdraws: '' },
      { add: 'b' },
      { comes: '', withdraws: '' },
      { comes: 'a', withdraws: '' },
      { comes: 'b', withdraws: '' },
    ],
  ],
  [
    'delta: to drop what was never asked for has no answer',
    [{ add: 'a' }, { comes: 'a', withdraws: '' }, { drop: 'x' }, { comes: '', withdraws: 'a' }],
  ],
  [
    'state of the world: the answer to added names has them alone',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: 'a b' },
      { comes: 'b', withdraws: '' },
      { comes: 'b', withdraws: 'a' },
    ],
  ],
  [
    'state of the world: dropped names have no answer',
    [{ names: 'a b' }, { comes: 'a b', withdraws: '' }, { names: 'a' }, { comes: '', withdraws: 'a' }],
  ],
  [
    'state of the world: requests that istiod has passed over are answered together',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: 'a b' },
      { names: 'a b c' },
      { comes: 'a', withdraws: '', isLost: true },
      { comes: 'b c', withdraws: '' },
      { comes: 'b c', withdraws: 'a' },
    ],
  ],
  [
    'state of the world: the second of two requests is passed over while the first is answered',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: 'a b' },
      { names: 'a b c' },
      { comes: 'b', withdraws: '', isLost: true },
      { comes: 'c', withdraws: '' },
    ],
  ],
  [
    'state of the world: an empty response may have passed over what was asked for',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: 'a b' },
      { comes: '', withdraws: '', isLost: true },
      { comes: 'a b', withdraws: '' },
    ],
  ],
  [
    'state of the world: of an empty response and one with the new name alone, one was a push',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: 'a b' },
      { comes: '', withdraws: '', isLost: true },
      { comes: 'b', withdraws: 'a' },
    ],
  ],
  [
    'state of the world: an addition may be overtaken by one empty push after the other',
    [
      { names: 'a' },
      { comes: '', withdraws: '' },
      { names: 'a b' },
      { comes: '', withdraws: '', isLost: true },
      { comes: '', withdraws: '', isLost: true },
      { comes: 'b', withdraws: '' },
      { comes: '', withdraws: 'b' },
    ],
  ],
  [
    'state of the world: of two empty responses one is a push, also while a name has not come',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: 'a b' },
      { comes: '', withdraws: '', isLost: true },
      { comes: 'a', withdraws: '', isLost: true },
      { comes: '', withdraws: '', isLost: true },
      { comes: '', withdraws: 'a', isLost: true },
      { comes: 'b', withdraws: '' },
    ],
  ],
  [
    'state of the world: what comes behind an addition is passed over with its answer',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: 'a b' },
      { names: 'b' },
      { comes: 'b', withdraws: '', isLost: true },
      { names: 'b a' },
      { comes: 'a', withdraws: '' },
    ],
  ],
  [
    'state of the world: names that change before the first response are each answered in full',
    [
      { names: 'a' },
      { names: 'a b' },
      { comes: 'a', withdraws: '' },
      { comes: 'a b', withdraws: '' },
      { comes: 'b', withdraws: 'a' },
    ],
  ],
  [
    'state of the world: no names end the subscription, whatever has crossed them',
    [
      { names: 'a' },
      { comes: 'a', withdraws: '' },
      { names: '' },
      { names: 'b' },
      { comes: 'a', withdraws: '' },
      { comes: 'b', withdraws: '' },
    ],
  ],
  [
    'state of the world: a response with a name that was dropped shows that istiod does not know',
    [
      { names: 'a b' },
      { comes: 'a b', withdraws: '' },
      { names: 'a' },
      { comes: 'a b', withdraws: '', isLost: true },
      { comes: 'a', withdraws: '' },
    ],
  ],
  [
    'state of the world: the answer may have all names',
    [{ names: 'a' }, { comes: 'a', withdraws: '' }, { names: 'a b' }, { comes: 'a b', withdraws: '' }],
  ],
];

describe('what a response of istiod withdraws', () => {
  for (const [name, steps] of rows) test(name, () => run(name.startsWith('delta') ? 'delta' : 'sotw', steps));
});
