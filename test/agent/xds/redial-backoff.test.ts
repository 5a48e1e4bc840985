import assert from 'node:assert/strict';
import test from 'node:test';
import { RedialBackoff, redialDelayMs } from '../../../agent/xds/redial-backoff.ts';

test('the delay doubles with each failure up to a few seconds, and half of it is random', () => {
  assert.equal(redialDelayMs(0, 0.9), 0);
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6, 1000].map((count) => redialDelayMs(count, 1)),
    [250, 500, 1000, 2000, 4000, 4000, 4000],
  );
  assert.deepEqual(
    [1, 5].map((count) => redialDelayMs(count, 0)),
    [125, 2000],
  );
});

test('the delay runs from the last failure and is gone with the first success', async () => {
  let nowMs = 1000;
  const backoff = new RedialBackoff({ now: () => nowMs, random: () => 0 });
  const { signal } = new AbortController();
  assert.equal(backoff.pendingDelayMs, 0);
  backoff.recordFailure();
  assert.equal(backoff.pendingDelayMs, 125);
  nowMs += 100;
  assert.equal(backoff.pendingDelayMs, 25);
  nowMs += 100;
  assert.equal(backoff.pendingDelayMs, 0);
  await backoff.wait({ signal });
  backoff.recordFailure();
  assert.equal(backoff.failureCount, 2);
  assert.equal(backoff.pendingDelayMs, 250);
  backoff.recordSuccess();
  assert.equal(backoff.pendingDelayMs, 0);
  assert.equal(backoff.failureCount, 0);
});

test('a wait is aborted at once', async () => {
  const backoff = new RedialBackoff({ now: () => 0 });
  for (let count = 0; count < 10; count += 1) backoff.recordFailure();
  const abort = new AbortController();
  const waited = backoff.wait({ signal: abort.signal });
  abort.abort();
  await assert.rejects(waited, { name: 'AbortError' });
  await assert.rejects(backoff.wait({ signal: abort.signal }), { name: 'AbortError' });
});
