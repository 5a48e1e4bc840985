import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { poll } from '../support/polling.ts';

describe('poll', () => {
  test('looks until the answer is done, and takes an error for not yet', async () => {
    let lookCount = 0;
    const value = await poll(
      async () => {
        lookCount += 1;
        if (lookCount === 1) throw new Error('refused');
        return lookCount < 4 ? { done: false, seen: 'not yet' } : { done: true, value: lookCount };
      },
      { what: 'The fourth look', deadlineMs: 5000, intervalMs: 1 },
    );
    assert.equal(value, 4);
  });

  test('says what was waited for and what was seen last when the deadline passes', async () => {
    const look = async (): Promise<{ done: false; seen: string }> => ({ done: false, seen: 'status 503' });
    await assert.rejects(
      poll(look, { what: 'A 200', deadlineMs: 20, intervalMs: 1 }),
      /A 200 did not happen within 20 ms\. Last seen: status 503/,
    );
  });

  test('ends a look that hangs at the deadline', async () => {
    const hang = (signal: AbortSignal): Promise<never> => {
      const { promise, reject } = Promise.withResolvers<never>();
      signal.addEventListener('abort', () => reject(new Error('aborted')));
      return promise;
    };
    const keepAlive = setInterval(() => undefined, 1000);
    await assert.rejects(poll(hang, { what: 'An answer', deadlineMs: 20 }), /nothing was seen/);
    clearInterval(keepAlive);
  });

  test('rejects with the reason of its signal', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const look = async (): Promise<{ done: false; seen: string }> => {
      controller.abort(reason);
      return { done: false, seen: 'x' };
    };
    await assert.rejects(poll(look, { what: 'x', deadlineMs: 5000, signal: controller.signal }), reason);
  });
});
