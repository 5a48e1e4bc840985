import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FileBlobStore } from '../../cache/blob-store.ts';
import { type ExpiryTimers, startExpiry } from '../../cache/expiry.ts';
import { temporaryFolder } from '../support/test-end.ts';
import { content, ingestBytes, ManualClock } from './store-fixture.ts';

/** Timers that fire when told. */
class ManualTimers implements ExpiryTimers {
  readonly pending = new Map<object, { readonly run: () => void; readonly delayMs: number }>();
  unrefCount = 0;

  setTimeout(run: () => void, delayMs: number) {
    const timer = {
      unref: () => {
        this.unrefCount += 1;
      },
    };
    this.pending.set(timer, { run, delayMs });
    return timer;
  }

  clearTimeout(timer: object): void {
    this.pending.delete(timer);
  }

  /** Fires the one timer that must be pending and tells its delay. */
  fire(): number {
    assert.equal(this.pending.size, 1);
    for (const [timer, { run, delayMs }] of this.pending) {
      this.pending.delete(timer);
      run();
      return delayMs;
    }
    return assert.fail();
  }
}

/** Keeps each call's argument and resolves the test's wait for it. */
function calls<Argument>() {
  const seen: Argument[] = [];
  let next = Promise.withResolvers<Argument>();
  return {
    seen,
    call: (argument: Argument): void => {
      seen.push(argument);
      next.resolve(argument);
      next = Promise.withResolvers();
    },
    next: () => next.promise,
  };
}

describe('the purge loop', () => {
  test('deletes what was not used for the expiry time, at each interval, and tells it', async (t) => {
    const clock = new ManualClock();
    const store = await FileBlobStore.open({ folder: await temporaryFolder(t), clock, graceMs: 0 });
    t.after(() => store.close());
    const old = await ingestBytes(store, content('old', 10));
    const timers = new ManualTimers();
    const expired = calls<readonly string[]>();
    const loop = startExpiry({
      store,
      expiryMs: 24_000,
      intervalMs: 1_000,
      onExpired: expired.call,
      now: () => clock.epochMs(),
      timers,
    });
    for (const [elapsedMs, digests] of [
      [24_000, []],
      [1, [old.digest]],
      [1, []],
    ] as const) {
      clock.advance(elapsedMs);
      const told = expired.next();
      assert.equal(timers.fire(), 1_000);
      assert.deepEqual(await told, digests);
      // The next timer is set when the purge has ended.
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(timers.unrefCount, 4);
    await loop.close();
    assert.equal(timers.pending.size, 0);
    assert.equal(store.blobCount, 0);
  });

  test('goes on after a failed purge and after a failed listener', async () => {
    const timers = new ManualTimers();
    const failures = calls<string>();
    let tickCount = 0;
    const loop = startExpiry({
      store: {
        expire: async () => {
          tickCount += 1;
          if (tickCount === 1) throw new Error('the disk is on fire');
          return [];
        },
      },
      expiryMs: 1,
      intervalMs: 1,
      onExpired: () => {
        throw new Error('the gauge is gone');
      },
      timers,
      log: { debug() {}, info() {}, warn: (_, fields) => failures.call(String(fields?.error)) },
    });
    for (const expected of ['the disk is on fire', 'the gauge is gone']) {
      const told = failures.next();
      timers.fire();
      assert.equal(await told, expected);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await loop.close();
    assert.equal(tickCount, 2);
  });

  test('close waits for the purge that runs, and no other follows', async () => {
    const timers = new ManualTimers();
    const purge = Promise.withResolvers<readonly string[]>();
    const order: string[] = [];
    const loop = startExpiry({
      store: { expire: () => purge.promise },
      expiryMs: 1,
      intervalMs: 1,
      onExpired: () => order.push('purged'),
      timers,
    });
    timers.fire();
    const closed = loop.close().then(() => order.push('closed'));
    purge.resolve([]);
    await closed;
    assert.deepEqual(order, ['purged', 'closed']);
    assert.equal(timers.pending.size, 0);
  });

  test('an interval longer than a timer can be is cut to the longest, not to nothing', async () => {
    const timers = new ManualTimers();
    const store = { expire: async () => [] };
    const common = { store, onExpired: () => undefined, timers };
    const loop = startExpiry({ ...common, expiryMs: 1, intervalMs: 1e12 });
    assert.equal(timers.fire(), 2 ** 31 - 1);
    await loop.close();
  });

  test('durations that are not positive are refused by name', () => {
    const common = { store: { expire: async () => [] }, onExpired: () => undefined };
    for (const value of [0, -1, Number.NaN]) {
      assert.throws(() => startExpiry({ ...common, expiryMs: 1, intervalMs: value }), /intervalMs must be/);
      assert.throws(() => startExpiry({ ...common, expiryMs: value, intervalMs: 1 }), /expiryMs must be/);
    }
  });

  test('its real timer does not keep the process alive', async () => {
    const timerCount = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    const before = timerCount();
    const common = { store: { expire: async () => [] }, onExpired: () => undefined };
    const loop = startExpiry({ ...common, expiryMs: 1, intervalMs: 3_600_000 });
    assert.equal(timerCount(), before);
    await loop.close();
  });
});
