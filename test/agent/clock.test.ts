import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { timeoutSignal } from '../../agent/clock.ts';
import { exposeCollector } from '../../agent/collector.ts';

/** The frame of a function may hold what its loop made last. */
const lastPairCount = 2;

test('a timeout in a signal of signals fires whatever is collected meanwhile, and all of it is freed', async () => {
  const collect = exposeCollector('all');
  const lasting = new AbortController();
  const made: WeakRef<AbortSignal>[] = [];
  const ended: Promise<void>[] = [];
  for (let index = 0; index < 20; index += 1) {
    // As a fetch has it: the time of one attempt inside of the time of all, inside of the life of the client.
    const inner = AbortSignal.any([new AbortController().signal, timeoutSignal(200)]);
    const outer = AbortSignal.any([inner, lasting.signal]);
    const { promise, resolve } = Promise.withResolvers<void>();
    outer.addEventListener('abort', () => resolve());
    ended.push(promise);
    made.push(new WeakRef(inner), new WeakRef(outer));
  }
  await delay(20);
  collect();
  await Promise.all(ended);
  const countLeft = (): number => made.filter((each) => each.deref() !== undefined).length;
  for (let tries = 0; tries < 100 && countLeft() > lastPairCount; tries += 1) {
    await delay(10);
    collect();
  }
  assert.ok(countLeft() <= lastPairCount, `${countLeft()} of ${made.length} are left`);
});

test('a timeout says that it is one, takes fractions and more than a timer holds', async () => {
  const signal = timeoutSignal(1.5);
  const ended = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => ended.resolve());
  await Promise.all([ended.promise, delay(5)]);
  assert.equal((signal.reason as Error).name, 'TimeoutError');
  assert.equal(timeoutSignal(2 ** 40).aborted, false);
});
