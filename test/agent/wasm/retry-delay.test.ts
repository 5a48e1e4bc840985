import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isRetryable, retryDelayMs } from '../../../agent/wasm/retry-delay.ts';

/** The bounds of a wait over all chances. */
function boundsOf(attemptCount: number, retryAfterMs?: number, code: 'network' | 'not_wasm' = 'network') {
  const wait = (random: number) => retryDelayMs(code, attemptCount, retryAfterMs, () => random);
  return [wait(0), wait(1)];
}

describe('the wait before a failed fetch is tried again', () => {
  test('doubles from a second to a minute, half to one and a half of it', () => {
    assert.deepEqual(boundsOf(1), [500, 1_500]);
    assert.deepEqual(boundsOf(2), [1_000, 3_000]);
    assert.deepEqual(boundsOf(7), [30_000, 90_000]);
    assert.deepEqual(boundsOf(1_000), [30_000, 90_000]);
  });

  test('is five minutes for faults of the content', () => {
    assert.deepEqual(boundsOf(1, undefined, 'not_wasm'), [150_000, 450_000]);
  });

  test('is never below what a server asks for, up to ten minutes, and pods that were told the same are spread', () => {
    assert.deepEqual(boundsOf(1, 30_000), [30_000, 45_000]);
    assert.deepEqual(boundsOf(1, 10 * 3_600_000), [600_000, 900_000]);
    assert.deepEqual(boundsOf(7, 1_000), [30_000, 90_000]);
  });

  test('is not there for what only another push can mend', () => {
    assert.ok(!isRetryable('bad_url'));
    assert.ok(isRetryable('network'));
  });
});
