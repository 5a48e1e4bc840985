import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { test } from 'node:test';
import { Traffic, type TrafficSource } from './traffic.ts';

test('what was promised of requests and did not come is a problem, the rest is counted', async () => {
  const events = new EventEmitter();
  const outcomes = ['200', '503', 'failed', '200'];
  const source = (name: string, promised: string): TrafficSource => {
    let sentCount = 0;
    return {
      name,
      promised,
      intervalMs: 1,
      send: async () => {
        const outcome = outcomes[sentCount] ?? '200';
        sentCount += 1;
        if (sentCount === outcomes.length + 1) events.emit(name);
        if (outcome === 'failed') throw new Error('reset');
        return await Promise.resolve(outcome);
      },
    };
  };
  const rounds = ['strict', 'lenient'].map((name) => once(events, name));
  const traffic = new Traffic([source('strict', '200'), source('lenient', 'answer')]);
  await Promise.all(rounds);
  await traffic.stop();
  assert.equal(traffic.problems.length, 2);
  const text = traffic.problems.join('\n');
  assert.match(text, /^strict: 2 not as promised \(.* 503; .* reset\)$/m);
  assert.match(text, /^lenient: 1 not as promised \(.* reset\)$/m);
  const { requestCount = 0, outcomes: seen = {} } = traffic.counts['strict'] ?? {};
  assert.deepEqual([seen['503'], seen['failed']], [1, 1]);
  assert.equal(
    Object.values(seen).reduce((sum, count) => sum + count, 0),
    requestCount,
  );
});
