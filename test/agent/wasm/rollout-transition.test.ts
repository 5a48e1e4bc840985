import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  initialRollout,
  type PreparedConfig,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutState,
  type StandIn,
} from '../../../agent/wasm/rollout.ts';
import { transition } from '../../../agent/wasm/rollout-transition.ts';
import { preparedConfig } from './prepared-config.ts';

/** Runs events in order; collects what was done, offers written as `number:text`. */
function run(events: readonly RolloutEvent[]): { state: RolloutState; done: string[] } {
  let state = initialRollout;
  let offers = 0;
  const done: string[] = [];
  for (const event of events) {
    const next = transition(state, event, () => ++offers);
    state = next.state;
    done.push(...next.effects.map(describeEffect));
  }
  return { state, done };
}

function describeEffect(effect: RolloutEffect): string {
  switch (effect.kind) {
    case 'send':
      return `send ${effect.offer.number}:${Buffer.from(effect.offer.config.bytes).toString()}`;
    case 'settle':
      return `settle ${effect.push} ${effect.failure ?? 'ok'}`;
    case 'schedule-retry':
      return `retry ${effect.push} after ${effect.attemptCount}`;
    case 'prepare':
    case 'cancel-preparation':
      return `${effect.kind} ${effect.push}`;
    case 'cancel-retry':
      return effect.kind;
    default:
      return effect satisfies never;
  }
}

const ready = (push: number, text: string): RolloutEvent => ({
  kind: 'pushed-ready',
  push,
  config: preparedConfig(text),
});
const fallback = (text: string): StandIn => ({ content: 'fallback', config: preparedConfig(text) });
const remote = (push: number): RolloutEvent => ({
  kind: 'pushed-remote',
  push,
  standIns: [fallback('rbac')],
});
const remembered = (push: number): RolloutEvent => ({
  kind: 'pushed-remote',
  push,
  standIns: [{ content: 'last-known-good', config: preparedConfig('lkg') }, fallback('rbac')],
});
const prepared = (push: number, text: string): RolloutEvent => ({
  kind: 'prepared',
  push,
  config: preparedConfig(text),
});
const failed = (push: number, isRetryable = true, isReplacing = false): RolloutEvent => ({
  kind: 'preparation-failed',
  push,
  reason: 'gone',
  isRetryable,
  isReplacing,
});
const judged = (
  stopped: readonly number[],
  standIns: readonly StandIn[] = [fallback('rbac')],
): RolloutEvent => ({
  kind: 'judged',
  stopped: new Set(stopped),
  reason: 'forbidden',
  standIns,
});
const reconsidered: RolloutEvent = { kind: 'reconsidered' };
const ack = (offer: number): RolloutEvent => ({ kind: 'acknowledged', offer });
const nack = (offer: number): RolloutEvent => ({ kind: 'rejected', offer, reason: 'bad' });
const renewed = (push: number, text: string): RolloutEvent => ({
  kind: 'renewed',
  push,
  config: preparedConfig(text),
});
const retry = (push: number): RolloutEvent => ({ kind: 'retry-due', push });

describe('the rollout of one extension config', () => {
  const rows: readonly [string, readonly RolloutEvent[], readonly string[]][] = [
    [
      'a config that needs no fetch is sent and settles with the ACK',
      [ready(1, 'a'), ack(1)],
      ['send 1:a', 'settle 1 ok'],
    ],
    [
      'a remote module is sent when it is there',
      [remote(1), prepared(1, 'a'), ack(1)],
      ['prepare 1', 'send 1:a', 'settle 1 ok'],
    ],
    [
      'a first load that fails puts the stand-in there and is tried again',
      [remote(1), failed(1), ack(1)],
      ['prepare 1', 'settle 1 gone', 'retry 1 after 1', 'send 1:rbac'],
    ],
    [
      'a failed load heals: the plugin takes the place of the stand-in and istiod hears it',
      [remote(1), failed(1), ack(1), retry(1), prepared(1, 'a'), ack(2)],
      [
        'prepare 1',
        'settle 1 gone',
        'retry 1 after 1',
        'send 1:rbac',
        'prepare 1',
        'send 2:a',
        'settle 1 ok',
      ],
    ],
    [
      'a second failure sends nothing new',
      [remote(1), failed(1), ack(1), retry(1), failed(1)],
      [
        'prepare 1',
        'settle 1 gone',
        'retry 1 after 1',
        'send 1:rbac',
        'prepare 1',
        'settle 1 gone',
        'retry 1 after 2',
      ],
    ],
    [
      'an update that fails leaves the last good plugin in force',
      [remote(1), prepared(1, 'a'), ack(1), remote(2), failed(2)],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'prepare 2', 'settle 2 gone', 'retry 2 after 1'],
    ],
    [
      'an update that fails over a stand-in of another strategy changes the stand-in',
      [
        remote(1),
        failed(1, false),
        ack(1),
        { kind: 'pushed-remote', push: 2, standIns: [fallback('open')] },
        failed(2, false),
      ],
      ['prepare 1', 'settle 1 gone', 'send 1:rbac', 'prepare 2', 'settle 2 gone', 'send 2:open'],
    ],
    [
      'a newer push supersedes a running fetch, which it joins before it ends it',
      [remote(1), remote(2), prepared(1, 'old'), prepared(2, 'new')],
      ['prepare 1', 'prepare 2', 'cancel-preparation 1', 'send 1:new'],
    ],
    [
      'a newer push ends a waiting retry',
      [remote(1), failed(1), remote(2)],
      ['prepare 1', 'settle 1 gone', 'retry 1 after 1', 'send 1:rbac', 'prepare 2', 'cancel-retry'],
    ],
    ['an older push changes nothing', [ready(2, 'b'), ready(1, 'a')], ['send 1:b']],
    [
      'a rejected update is rolled back to what Envoy ran',
      [ready(1, 'a'), ack(1), ready(2, 'b'), nack(2), ack(3)],
      ['send 1:a', 'settle 1 ok', 'send 2:b', 'settle 2 bad', 'send 3:a'],
    ],
    [
      'the ACK of bytes that Envoy refused right before counts as the same refusal',
      [ready(1, 'a'), ack(1), ready(2, 'b'), ready(3, 'b'), nack(2), ack(3), ack(4)],
      ['send 1:a', 'settle 1 ok', 'send 2:b', 'send 3:b', 'settle 3 bad', 'send 4:a'],
    ],
    [
      'an ACK of the same bytes is true once Envoy has run others',
      [ready(1, 'a'), nack(1), ready(2, 'b'), ack(2), ready(3, 'a'), ack(3)],
      ['send 1:a', 'settle 1 bad', 'send 2:b', 'settle 2 ok', 'send 3:a', 'settle 3 ok'],
    ],
    [
      'a rejected plugin is replaced by its own stand-in, not by that of the config before',
      [
        { kind: 'pushed-remote', push: 1, standIns: [fallback('open')] },
        failed(1, false),
        ack(1),
        remote(2),
        prepared(2, 'b'),
        nack(2),
      ],
      ['prepare 1', 'settle 1 gone', 'send 1:open', 'prepare 2', 'send 2:b', 'settle 2 bad', 'send 3:rbac'],
    ],
    [
      'a rejected first plugin is replaced by its stand-in',
      [remote(1), prepared(1, 'a'), nack(1), ack(2)],
      ['prepare 1', 'send 1:a', 'settle 1 bad', 'send 2:rbac'],
    ],
    [
      'a rejected stand-in is not sent again',
      [remote(1), failed(1, false), nack(1)],
      ['prepare 1', 'settle 1 gone', 'send 1:rbac'],
    ],
    [
      'a rejected config without a stand-in is only reported',
      [ready(1, 'a'), nack(1)],
      ['send 1:a', 'settle 1 bad'],
    ],
    [
      'a rejection behind which a newer offer is on its way needs no repair',
      [ready(1, 'a'), ready(2, 'b'), nack(1), ack(2)],
      ['send 1:a', 'send 2:b', 'settle 2 ok'],
    ],
    [
      'a failed update over an unanswered offer waits for that answer: NACK brings the stand-in',
      [remote(1), prepared(1, 'a'), remote(2), failed(2, false), nack(1)],
      ['prepare 1', 'send 1:a', 'prepare 2', 'settle 2 gone', 'send 2:rbac'],
    ],
    [
      'a failed update over an unanswered offer waits for that answer: ACK keeps it',
      [remote(1), prepared(1, 'a'), remote(2), failed(2, false), ack(1)],
      ['prepare 1', 'send 1:a', 'prepare 2', 'settle 2 gone'],
    ],
    [
      'a refused config says so and puts the stand-in there',
      [{ kind: 'pushed-refused', push: 1, reason: 'no code', standIns: [fallback('rbac')] }],
      ['settle 1 no code', 'send 1:rbac'],
    ],
    [
      'after a restart the last known good config comes before the fallback',
      [remembered(1), failed(1, false), ack(1)],
      ['prepare 1', 'settle 1 gone', 'send 1:lkg'],
    ],
    [
      'a last known good config that Envoy refuses makes way for the fallback',
      [remembered(1), failed(1, false), nack(1), ack(2)],
      ['prepare 1', 'settle 1 gone', 'send 1:lkg', 'send 2:rbac'],
    ],
    [
      'a last known good config in force is kept when the next update fails too',
      [remembered(1), failed(1, false), ack(1), remote(2), failed(2, false)],
      ['prepare 1', 'settle 1 gone', 'send 1:lkg', 'prepare 2', 'settle 2 gone'],
    ],
    [
      'a rejected first plugin is replaced by the last known good config',
      [remembered(1), prepared(1, 'a'), nack(1)],
      ['prepare 1', 'send 1:a', 'settle 1 bad', 'send 2:lkg'],
    ],
    [
      'withdrawal ends a fetch',
      [remote(1), { kind: 'withdrawn' }, prepared(1, 'a')],
      ['prepare 1', 'cancel-preparation 1'],
    ],
    [
      'withdrawal ends a retry',
      [remote(1), failed(1), { kind: 'withdrawn' }, retry(1)],
      ['prepare 1', 'settle 1 gone', 'retry 1 after 1', 'send 1:rbac', 'cancel-retry'],
    ],
    [
      'after a withdrawal the last good plugin is forgotten',
      [ready(1, 'a'), ack(1), { kind: 'withdrawn' }, remote(2), failed(2, false)],
      ['send 1:a', 'settle 1 ok', 'prepare 2', 'settle 2 gone', 'send 2:rbac'],
    ],
    [
      'an answer of an ended stream is nothing',
      [ready(1, 'a'), { kind: 'stream-ended' }, ack(1)],
      ['send 1:a'],
    ],
    [
      'a tag that names another module is rolled to it, of which istiod hears nothing',
      [remote(1), prepared(1, 'a'), ack(1), renewed(1, 'b'), ack(2), renewed(1, 'c'), ack(3)],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'send 2:b', 'send 3:c'],
    ],
    [
      'a tag that names the same module sends nothing, also while Envoy has not answered',
      [remote(1), prepared(1, 'a'), ack(1), renewed(1, 'a'), renewed(1, 'b'), renewed(1, 'b')],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'send 2:b'],
    ],
    [
      'a newer module that Envoy refuses is rolled back, and the plugin stays accepted',
      [remote(1), prepared(1, 'a'), ack(1), renewed(1, 'b'), nack(2), ack(3), renewed(1, 'c')],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'send 2:b', 'send 3:a', 'send 4:c'],
    ],
    [
      'a newer module heals a plugin whose first one Envoy refused',
      [remote(1), prepared(1, 'a'), nack(1), ack(2), renewed(1, 'b'), ack(3)],
      ['prepare 1', 'send 1:a', 'settle 1 bad', 'send 2:rbac', 'send 3:b', 'settle 1 ok'],
    ],
    [
      'a newer module of an older push, or beside a running try, changes nothing',
      [
        remote(1),
        prepared(1, 'a'),
        renewed(1, 'b'),
        ack(1),
        remote(2),
        renewed(1, 'b'),
        renewed(2, 'b'),
        failed(2),
        renewed(2, 'b'),
      ],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'prepare 2', 'settle 2 gone', 'retry 2 after 1'],
    ],
    [
      'a repair that was lost with the stream is sent with the next push that brings nothing else',
      [
        ready(1, 'a'),
        ack(1),
        ready(2, 'bad'),
        nack(2),
        { kind: 'stream-ended' },
        { kind: 'pushed-refused', push: 3, reason: 'known', standIns: [] },
        ack(4),
        { kind: 'pushed-refused', push: 4, reason: 'known', standIns: [] },
      ],
      [
        'send 1:a',
        'settle 1 ok',
        'send 2:bad',
        'settle 2 bad',
        'send 3:a',
        'settle 3 known',
        'send 4:a',
        'settle 4 known',
      ],
    ],
    [
      'it does not wait for a module that is fetched',
      [
        ready(1, 'a'),
        ack(1),
        ready(2, 'bad'),
        nack(2),
        { kind: 'stream-ended' },
        remote(3),
        failed(3, false),
      ],
      [
        'send 1:a',
        'settle 1 ok',
        'send 2:bad',
        'settle 2 bad',
        'send 3:a',
        'prepare 3',
        'send 4:a',
        'settle 3 gone',
      ],
    ],
    [
      'a lost repair by stand-in is sent again, though Envoy runs the same one',
      [
        remote(1),
        failed(1, false),
        ack(1),
        ready(2, 'bad'),
        nack(2),
        { kind: 'stream-ended' },
        remote(3),
        failed(3, false),
      ],
      [
        'prepare 1',
        'settle 1 gone',
        'send 1:rbac',
        'send 2:bad',
        'settle 2 bad',
        'send 3:rbac',
        'prepare 3',
        'settle 3 gone',
        'send 4:rbac',
      ],
    ],
    [
      'a running fetch outlives the stream',
      [remote(1), { kind: 'stream-ended' }, prepared(1, 'a')],
      ['prepare 1', 'send 1:a'],
    ],
    [
      'a first load that takes too long has its stand-in first, and no verdict before its end',
      [remote(1), { kind: 'hold-expired', push: 1 }, ack(1), prepared(1, 'a'), ack(2)],
      ['prepare 1', 'send 1:rbac', 'send 2:a', 'settle 1 ok'],
    ],
    [
      'an update that takes long leaves the running plugin alone',
      [remote(1), prepared(1, 'a'), ack(1), remote(2), { kind: 'hold-expired', push: 2 }],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'prepare 2'],
    ],
    [
      'an update that fails replaces the plugin where its rule wants that',
      [remote(1), prepared(1, 'a'), ack(1), remote(2), failed(2, true, true), ack(2)],
      [
        'prepare 1',
        'send 1:a',
        'settle 1 ok',
        'prepare 2',
        'settle 2 gone',
        'retry 2 after 1',
        'send 2:rbac',
      ],
    ],
    [
      'a running plugin that is stopped makes way for its stand-in, and istiod hears it',
      [remote(1), prepared(1, 'a'), ack(1), judged([1]), ack(2)],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'settle 1 forbidden', 'send 2:rbac'],
    ],
    [
      'a stopped plugin comes back when it is allowed again, without a push',
      [
        remote(1),
        prepared(1, 'a'),
        ack(1),
        judged([1]),
        ack(2),
        judged([]),
        reconsidered,
        prepared(1, 'a'),
        ack(3),
      ],
      [
        'prepare 1',
        'send 1:a',
        'settle 1 ok',
        'settle 1 forbidden',
        'send 2:rbac',
        'prepare 1',
        'send 3:a',
        'settle 1 ok',
      ],
    ],
    [
      'a stopped plugin is not sent again when Envoy refuses an update',
      [remote(1), prepared(1, 'a'), ack(1), remote(2), prepared(2, 'b'), judged([1]), nack(2)],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'prepare 2', 'send 2:b', 'settle 2 bad', 'send 3:rbac'],
    ],
    [
      'a plugin that is stopped while no stream is there is replaced with the next push',
      [
        remote(1),
        prepared(1, 'a'),
        ack(1),
        judged([1]),
        { kind: 'stream-ended' },
        { kind: 'pushed-refused', push: 2, reason: 'forbidden', standIns: [fallback('rbac')] },
        ack(3),
      ],
      [
        'prepare 1',
        'send 1:a',
        'settle 1 ok',
        'settle 1 forbidden',
        'send 2:rbac',
        'settle 2 forbidden',
        'send 3:rbac',
      ],
    ],
    [
      'an offer that is stopped before Envoy answers is replaced too',
      [remote(1), prepared(1, 'a'), judged([1]), ack(1), ack(2)],
      ['prepare 1', 'send 1:a', 'settle 1 forbidden', 'send 2:rbac'],
    ],
    [
      'what is stopped below a newer offer is let go with it',
      [remote(1), prepared(1, 'a'), ack(1), remote(2), prepared(2, 'b'), judged([1]), ack(2)],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'prepare 2', 'send 2:b', 'settle 2 ok'],
    ],
    [
      'a running fetch goes on beside a stop',
      [remote(1), prepared(1, 'a'), ack(1), remote(2), judged([1]), prepared(2, 'b'), ack(3)],
      ['prepare 1', 'send 1:a', 'settle 1 ok', 'prepare 2', 'send 2:rbac', 'send 3:b', 'settle 2 ok'],
    ],
    [
      'a last known good config that is not allowed any more is not used',
      [remembered(1), judged([]), failed(1, false)],
      ['prepare 1', 'settle 1 gone', 'send 1:rbac'],
    ],
    [
      'another policy ends the wait for the next try',
      [remote(1), failed(1), reconsidered, prepared(1, 'a'), ack(2)],
      [
        'prepare 1',
        'settle 1 gone',
        'retry 1 after 1',
        'send 1:rbac',
        'cancel-retry',
        'prepare 1',
        'send 2:a',
        'settle 1 ok',
      ],
    ],
    [
      'another policy changes nothing for what is under way or runs',
      [remote(1), reconsidered, prepared(1, 'a'), reconsidered, ack(1), reconsidered],
      ['prepare 1', 'send 1:a', 'settle 1 ok'],
    ],
  ];
  for (const [name, events, expected] of rows) {
    test(name, () => assert.deepEqual(run(events).done, expected));
  }
});

describe('the rollout over any order of events', () => {
  /** What happens next, drawn at random; made to fit the run so far by `world`. */
  const steps = fc.array(
    fc.oneof(
      // The way of every plugin more often, so that what disturbs it finds something to disturb.
      { arbitrary: fc.constantFrom('remote' as const, 'prepared' as const, 'ack' as const), weight: 16 },
      fc.constant('ready' as const),
      fc.constant('remote' as const),
      fc.constant('refused' as const),
      fc.constant('prepared' as const),
      fc.constant('failed' as const),
      fc.constant('stale-prepared' as const),
      fc.constant('retry' as const),
      fc.constant('renewed' as const),
      fc.constant('ack' as const),
      fc.constant('nack' as const),
      fc.constant('withdrawn' as const),
      fc.constant('stream-ended' as const),
      fc.constant('restart' as const),
      fc.constant('remembered' as const),
      fc.constant('hold-expired' as const),
      fc.constant('failed-replacing' as const),
      fc.constant('policy-stops-newest' as const),
      fc.constant('policy-stops-oldest' as const),
      fc.constant('policy-stops-all' as const),
      fc.constant('policy-relaxed' as const),
    ),
    { maxLength: 60 },
  );

  test('keeps its promises', () => {
    fc.assert(
      fc.property(steps, (choices) => {
        const world = new World();
        for (const choice of choices) world.step(choice);
        world.finish();
      }),
      { numRuns: 2_000, seed: 20_261_121 },
    );
  });
});

/** A model Envoy and a model agent around the machine; each step checks the promises. */
class World {
  #state = initialRollout;
  #offers = 0;
  #push = 0;
  #renewals = 0;
  /** Offers on the wire, oldest first. */
  #wire: { number: number; push: number; text: string }[] = [];
  /** Texts that were prepared (verified) and so may be sent. */
  readonly #verified = new Set<string>();
  /** Positive and negative verdicts by push, in order. */
  readonly #verdicts = new Map<number, string[]>();
  #newestSentPlugin = 0;
  /** What Envoy runs, and whether its last verdict left it with something it refused. */
  #running: string | undefined;
  #isBroken = false;
  /** Texts that the policy of now wants out of Envoy. */
  #forbidden: ReadonlySet<string> = new Set();
  /** Pushes whose plugin was stopped after it was accepted. */
  readonly #stoppedPushes = new Set<number>();
  /** What Envoy accepted last: it is on disk, and outlives a restart. */
  #kept: string | undefined;

  step(choice: string): void {
    switch (choice) {
      case 'ready': {
        const text = `local ${++this.#push}`;
        this.#verified.add(text);
        this.#apply({ kind: 'pushed-ready', push: this.#push, config: preparedConfig(text) });
        return;
      }
      case 'remote':
        this.#push += 1;
        this.#verified.add(`deny ${this.#push}`);
        this.#apply({ kind: 'pushed-remote', push: this.#push, standIns: this.#standIns() });
        return;
      case 'refused':
        this.#push += 1;
        this.#verified.add(`deny ${this.#push}`);
        this.#apply({ kind: 'pushed-refused', push: this.#push, reason: 'no', standIns: this.#standIns() });
        return;
      case 'prepared':
      case 'stale-prepared': {
        const push = choice === 'prepared' ? this.#push : this.#push - 1;
        const isFetching = push === this.#state.push && isFetchingState(this.#state);
        if (choice === 'prepared' && !isFetching) return;
        const text = `module ${push}`;
        if (isFetching) this.#verified.add(text);
        if (this.#forbidden.has(text)) {
          this.#fail(false, false);
          return;
        }
        this.#apply({ kind: 'prepared', push, config: preparedConfig(text) });
        return;
      }
      case 'failed':
        this.#fail(true, false);
        return;
      case 'failed-replacing':
        this.#fail(true, true);
        return;
      case 'hold-expired':
        this.#apply({ kind: 'hold-expired', push: this.#push });
        return;
      case 'remembered': {
        const text = this.#kept;
        if (text === undefined || this.#forbidden.has(text) || this.#state.acknowledged !== undefined) return;
        this.#apply({ kind: 'remembered', push: this.#push, config: preparedConfig(text) });
        return;
      }
      case 'restart':
        this.#wire = [];
        this.#running = undefined;
        this.#isBroken = false;
        this.#state = initialRollout;
        return;
      case 'policy-stops-newest':
      case 'policy-stops-oldest': {
        const text = this.#modules().at(choice === 'policy-stops-newest' ? -1 : 0);
        this.#takePolicy(text === undefined ? this.#forbidden : new Set([...this.#forbidden, text]));
        return;
      }
      case 'policy-stops-all':
        this.#takePolicy(new Set(this.#verified));
        return;
      case 'policy-relaxed':
        this.#takePolicy(new Set());
        return;
      case 'retry':
        this.#apply({ kind: 'retry-due', push: this.#push });
        return;
      case 'renewed': {
        const text = `module ${this.#push} again ${++this.#renewals}`;
        if (this.#forbidden.has(`module ${this.#push}`)) return;
        this.#verified.add(text);
        this.#apply({ kind: 'renewed', push: this.#push, config: preparedConfig(text) });
        return;
      }
      case 'ack':
      case 'nack':
        this.#answer(choice);
        return;
      case 'withdrawn':
        this.#apply({ kind: 'withdrawn' });
        return;
      case 'stream-ended':
        this.#wire = [];
        this.#apply({ kind: 'stream-ended' });
        return;
      default:
        throw new Error(choice);
    }
  }

  /** Every other push has something from before a restart, which Envoy may refuse. */
  #standIns(): StandIn[] {
    const deny = fallback(`deny ${this.#push}`);
    if (this.#push % 2 === 0 || this.#forbidden.has(`kept ${this.#push}`)) return [deny];
    this.#verified.add(`kept ${this.#push}`);
    return [{ content: 'last-known-good', config: preparedConfig(`kept ${this.#push}`) }, deny];
  }

  #fail(isRetryable: boolean, isReplacing: boolean): void {
    if (!isFetchingState(this.#state)) return;
    const { push } = this.#state;
    this.#apply({ kind: 'preparation-failed', push, reason: 'x', isRetryable, isReplacing });
  }

  /** Texts of the modules that Envoy runs or has not answered, the newest last. */
  #modules(): readonly string[] {
    const { acknowledged, inFlight } = this.#state;
    return [...(acknowledged === undefined ? [] : [acknowledged]), ...inFlight]
      .map((offer) => textOf(offer.config))
      .filter(isModule);
  }

  /** As the agent takes another policy: what was given is judged, then what failed is tried again. */
  #takePolicy(forbidden: ReadonlySet<string>): void {
    this.#forbidden = new Set([...forbidden].filter(isModule));
    const { acknowledged, inFlight, standIns, push } = this.#state;
    const offers = acknowledged === undefined ? inFlight : [acknowledged, ...inFlight];
    const stopped = offers.filter((offer) => this.#forbidden.has(textOf(offer.config)));
    if (stopped.length > 0) this.#stoppedPushes.add(push);
    this.#apply({
      kind: 'judged',
      stopped: new Set(stopped.map(({ number }) => number)),
      reason: 'forbidden',
      standIns: standIns.filter((standIn) => !this.#forbidden.has(textOf(standIn.config))),
    });
    this.#apply({ kind: 'reconsidered' });
  }

  #answer(verdict: 'ack' | 'nack'): void {
    const offer = this.#wire.shift();
    if (offer === undefined) return;
    // Envoy takes a stand-in, and what it ran before, always.
    const isAccepted = verdict === 'ack' || offer.text.startsWith('deny') || offer.text === this.#running;
    if (isAccepted) {
      this.#running = offer.text;
      if (isModule(offer.text)) this.#kept = offer.text;
      this.#isBroken = false;
      this.#apply({ kind: 'acknowledged', offer: offer.number });
    } else {
      this.#isBroken = true;
      this.#apply({ kind: 'rejected', offer: offer.number, reason: 'bad' });
      const { acknowledged, standIns, stopped } = this.#state;
      const isGoodThere = acknowledged !== undefined && !stopped.has(acknowledged.number);
      const canRepair = isGoodThere || standIns.length > 0;
      assert.ok(
        this.#wire.length > 0 || !canRepair,
        'a rejected config is followed by one that Envoy can run',
      );
    }
  }

  #apply(event: RolloutEvent): void {
    const before = this.#state;
    const { state, effects } = transition(before, event, () => ++this.#offers);
    this.#state = state;
    for (const effect of effects) {
      if (effect.kind === 'send') {
        const text = textOf(effect.offer.config);
        assert.ok(this.#verified.has(text), `only verified configs are sent: ${text}`);
        assert.ok(!this.#forbidden.has(text), `what policy stops is never sent: ${text}`);
        this.#wire.push({ number: effect.offer.number, push: effect.offer.push, text });
        const isNew = ['prepared', 'pushed-ready', 'renewed'].includes(event.kind);
        if (isNew) {
          assert.ok(effect.offer.push >= this.#newestSentPlugin, 'an older push never overtakes a newer one');
          this.#newestSentPlugin = effect.offer.push;
        }
        const isStopped = before.acknowledged !== undefined && before.stopped.has(before.acknowledged.number);
        if (event.kind === 'preparation-failed' && !event.isReplacing && !isStopped) {
          assert.notEqual(
            before.acknowledged?.content,
            'plugin',
            'a failed update leaves the running plugin alone',
          );
        }
      }
      if (effect.kind === 'settle') {
        assert.equal(effect.push, state.push, 'only the newest push is settled');
        const verdicts = this.#verdicts.get(effect.push) ?? [];
        verdicts.push(effect.failure === undefined ? 'ok' : 'failed');
        this.#verdicts.set(effect.push, verdicts);
      }
    }
    if (event.kind === 'withdrawn') {
      assert.equal(state.progress.kind, 'none');
      assert.ok(
        !effects.some((effect) => effect.kind === 'send' || effect.kind === 'prepare'),
        'withdrawal wins',
      );
    }
  }

  finish(): void {
    for (const [push, verdicts] of this.#verdicts) {
      assert.ok(
        verdicts.every((verdict, index) => verdict !== 'ok' || verdicts[index + 1] !== 'ok'),
        'what was accepted is not accepted again',
      );
      if (this.#stoppedPushes.has(push)) continue;
      const okCount = verdicts.filter((verdict) => verdict === 'ok').length;
      assert.ok(okCount <= 1, 'a push is accepted once');
      if (okCount === 1 && verdicts[0] === 'ok')
        assert.equal(verdicts.length, 1, 'what was accepted stays so');
    }
    // Envoy answers all that is left with an ACK: then nothing rejected stays, where there was something to repair with.
    const hadRepair = this.#wire.length > 0;
    while (this.#wire.length > 0) this.#answer('ack');
    if (hadRepair) assert.equal(this.#isBroken, false);
    assert.deepEqual(this.#state.inFlight, []);
    this.#finishStops();
  }

  /** What is stopped runs at most until the next push: then it has made way for a filter that denies. */
  #finishStops(): void {
    if (this.#state.push === 0 || this.#running === undefined || !this.#forbidden.has(this.#running)) return;
    this.step('refused');
    while (this.#wire.length > 0) this.#answer('ack');
    assert.ok(!this.#forbidden.has(this.#running), `stopped and still running: ${this.#running}`);
  }
}

/** Not a filter that stands in, nor a config without Wasm: what a policy may forbid. */
function isModule(text: string): boolean {
  return text.startsWith('module') || text.startsWith('kept');
}

function textOf({ bytes }: PreparedConfig): string {
  return Buffer.from(bytes).toString();
}

function isFetchingState(state: RolloutState): boolean {
  return (
    state.progress.kind === 'preparing' ||
    (state.progress.kind === 'failed' && state.progress.retry === 'running')
  );
}
