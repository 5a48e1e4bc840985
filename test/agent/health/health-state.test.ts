import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countResult, initialHealthCounts } from '../../../agent/health/health-state.ts';

/** Results in a row (`+` and `-`), thresholds, and the events that come of them (`.` for none). */
const rows: readonly (readonly [string, number, number, string])[] = [
  ['+++', 1, 1, '+..'],
  ['---', 1, 1, '-..'],
  ['+-+-', 1, 1, '+-+-'],
  ['++++', 3, 1, '..+.'],
  ['++-+++', 3, 1, '..-..+'],
  ['----', 1, 3, '..-.'],
  ['--+---', 1, 3, '..+..-'],
  ['+--+--', 1, 3, '+.....'],
  ['+---+', 1, 3, '+..-+'],
  ['-++++-', 2, 2, '..+...'],
];

for (const [results, successThreshold, failureThreshold, expected] of rows) {
  test(`${results} with thresholds ${successThreshold} and ${failureThreshold} tells ${expected}`, () => {
    let counts = initialHealthCounts;
    let told = '';
    for (const sign of results) {
      const result =
        sign === '+' ? ({ kind: 'healthy' } as const) : ({ kind: 'unhealthy', reason: 'r' } as const);
      const next = countResult(counts, result, { successThreshold, failureThreshold });
      counts = next.counts;
      if (next.event !== undefined) assert.deepEqual(next.event, result);
      told += next.event === undefined ? '.' : sign;
    }
    assert.equal(told, expected);
  });
}
