import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  addToHistory,
  type HistoryEntry,
  type HistoryFacts,
  maxHistoryLength,
  noteOf,
} from '../../../agent/wasm/plugin-history.ts';
import { shortPluginName } from '../../../agent/wasm/plugin-name.ts';
import { initialRollout, type RolloutEvent, type StandIn } from '../../../agent/wasm/rollout.ts';
import { transition } from '../../../agent/wasm/rollout-transition.ts';
import { preparedConfig } from './prepared-config.ts';

const module = { digest: 'c0ffee'.repeat(10), source: 'oci', sizeBytes: 1234 };
const facts: HistoryFacts = {
  url: 'oci://registry.example/a:1',
  module,
  fetchDurationMs: 56.7,
  fallbackActionOf: () => 'deny',
};

/** What is told of these events, as `what: why`. */
function tell(events: readonly RolloutEvent[]): readonly string[] {
  let state = initialRollout;
  let offers = 0;
  const told: string[] = [];
  for (const event of events) {
    const next = transition(state, event, () => ++offers).state;
    const note = noteOf(event, state, next, facts);
    if (note !== undefined) told.push(note.why === undefined ? note.what : `${note.what}: ${note.why}`);
    state = next;
  }
  return told;
}

const standIns: readonly StandIn[] = [{ content: 'fallback', config: preparedConfig('rbac') }];
const remote = (push: number): RolloutEvent => ({ kind: 'pushed-remote', push, standIns });
const prepared = (push: number): RolloutEvent => ({
  kind: 'prepared',
  push,
  config: preparedConfig(`m${push}`),
});
const failed = (push: number): RolloutEvent => ({
  kind: 'preparation-failed',
  push,
  reason: 'gone',
  isRetryable: true,
  isReplacing: false,
});
const ack = (offer: number): RolloutEvent => ({ kind: 'acknowledged', offer });
const nack = (offer: number): RolloutEvent => ({ kind: 'rejected', offer, reason: 'bad' });

const pushed = 'pushed: module oci://registry.example/a:1';
const offered = 'offered: module c0ffeec0ffee from oci, 1234 bytes in 57 ms';

describe('what is told of a rollout', () => {
  const rows: readonly (readonly [string, readonly RolloutEvent[], readonly string[]])[] = [
    ['a module that comes and runs', [remote(1), prepared(1), ack(1)], [pushed, offered, 'accepted']],
    [
      'a failure, its stand-in, and the healing',
      [remote(1), failed(1), ack(1), { kind: 'retry-due', push: 1 }, prepared(1), ack(2)],
      [pushed, 'failed: gone', 'fallback: all requests are denied', offered, 'accepted'],
    ],
    [
      'what Envoy refuses, and that it goes on with the one before',
      [remote(1), prepared(1), ack(1), remote(2), prepared(2), nack(2), ack(3)],
      [
        pushed,
        offered,
        'accepted',
        pushed,
        offered,
        'rejected: bad',
        'accepted: a config before the newest one',
      ],
    ],
    [
      'an ACK of bytes that Envoy had refused right before',
      [
        { kind: 'pushed-ready', push: 1, config: preparedConfig('a') },
        nack(1),
        { kind: 'pushed-ready', push: 2, config: preparedConfig('a') },
        ack(2),
      ],
      [
        'pushed: needs no download, sent to Envoy',
        'rejected: bad',
        'pushed: needs no download, sent to Envoy',
        'rejected: bad',
      ],
    ],
    [
      'the config from before a restart',
      [remote(1), { kind: 'remembered', push: 1, config: preparedConfig('kept') }, failed(1), ack(1)],
      [pushed, 'failed: gone', 'last-known-good: Envoy had accepted it before the agent was restarted'],
    ],
    [
      'configs that need no download, or cannot be used',
      [
        { kind: 'pushed-ready', push: 1, config: preparedConfig('a') },
        ack(1),
        { kind: 'pushed-refused', push: 2, reason: 'no code', standIns: [] },
      ],
      ['pushed: needs no download, sent to Envoy', 'accepted', 'refused: no code'],
    ],
    [
      'a stream that ends before the answer, and one that ends a wait',
      [
        remote(1),
        prepared(1),
        { kind: 'stream-ended' },
        remote(2),
        failed(2),
        ack(2),
        { kind: 'stream-ended' },
      ],
      [
        pushed,
        offered,
        'interrupted: the stream to Envoy ended before Envoy had answered',
        pushed,
        'failed: gone',
        'fallback: all requests are denied',
        'interrupted: the stream to Envoy ended; it goes on with the next push',
      ],
    ],
    [
      'nothing of what comes too late or changes nothing',
      [
        remote(2),
        prepared(1),
        failed(1),
        ack(9),
        nack(9),
        remote(1),
        { kind: 'retry-due', push: 2 },
        { kind: 'stream-ended' },
      ],
      [pushed],
    ],
    [
      'nothing of a plugin that is withdrawn',
      [remote(1), prepared(1), { kind: 'withdrawn' }, ack(1)],
      [pushed, offered],
    ],
  ];
  for (const [name, events, told] of rows) {
    test(name, () => assert.deepEqual(tell(events), told));
  }

  test('says what an open stand-in does', () => {
    const state = transition(initialRollout, remote(1), () => 1).state;
    const before = transition(state, failed(1), () => 1).state;
    const after = transition(before, ack(1), () => 2).state;
    assert.deepEqual(noteOf(ack(1), before, after, { ...facts, fallbackActionOf: () => 'allow' }), {
      what: 'fallback',
      why: 'all requests pass without the plugin',
    });
  });
});

describe('the list', () => {
  test('counts the same thing in a row once, with its first and last time', () => {
    let history: readonly HistoryEntry[] = [];
    for (const [atMs, why] of [
      [1, 'a'],
      [2, 'a'],
      [3, 'b'],
      [4, 'a'],
    ] as const)
      history = addToHistory(history, { what: 'failed', why }, atMs);
    assert.deepEqual(
      history.map(({ why, count, firstAtMs, lastAtMs }) => [why, count, firstAtMs, lastAtMs]),
      [
        ['a', 2, 1, 2],
        ['b', 1, 3, 3],
        ['a', 1, 4, 4],
      ],
    );
  });

  test('keeps the newest, in order, never more than its length and never an endless reason', () => {
    const note = fc.record({
      what: fc.constantFrom('pushed', 'failed', 'accepted'),
      why: fc.option(fc.constantFrom('a', 'b', 'x'.repeat(5_000)), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(note, { maxLength: 60 }), (notes) => {
        let history: readonly HistoryEntry[] = [];
        notes.forEach((one, index) => {
          const before = history;
          history = addToHistory(history, one, index);
          assert.equal(history.at(-1)?.lastAtMs, index);
          assert.ok(before.length === 0 || history.length >= before.length);
        });
        assert.ok(history.length <= maxHistoryLength);
        const total = history.reduce((sum, { count }) => sum + count, 0);
        if (history.length < maxHistoryLength) assert.equal(total, notes.length);
        for (const { why, firstAtMs, lastAtMs } of history) {
          assert.ok((why?.length ?? 0) <= 1_001);
          assert.ok(firstAtMs <= lastAtMs);
        }
      }),
      { seed: 42, numRuns: 200 },
    );
  });
});

test('a resource name is shortened to namespace and name', () => {
  const rows: readonly (readonly [string, string])[] = [
    ['extensions.istio.io/trafficextension/shop.jwt~istio-translated-wasmplugin', 'shop.jwt'],
    ['extensions.istio.io/trafficextension/shop.lua', 'shop.lua'],
    ['extenstions.istio.io/wasmplugin/shop.jwt', 'shop.jwt'],
    ['my-filter', 'my-filter'],
    ['a/', 'a/'],
    ['~istio-translated-wasmplugin', '~istio-translated-wasmplugin'],
  ];
  for (const [name, short] of rows) assert.equal(shortPluginName(name), short);
});
