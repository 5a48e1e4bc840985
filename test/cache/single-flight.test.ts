import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { SingleFlight } from '../../cache/single-flight.ts';

/** Work whose end the test decides. It counts its runs and keeps the signal of each. */
class Work {
  readonly runs: { readonly signal: AbortSignal; readonly end: PromiseWithResolvers<string> }[] = [];

  readonly start = (signal: AbortSignal): Promise<string> => {
    const end = Promise.withResolvers<string>();
    this.runs.push({ signal, end });
    return end.promise;
  };

  run(position: number) {
    const run = this.runs[position];
    assert.ok(run !== undefined, `run ${position} was started`);
    return run;
  }
}

describe('callers of one key', () => {
  test('share one run and its result', async () => {
    const flights = new SingleFlight<string>();
    const work = new Work();
    const joined = [1, 2, 3].map(() => flights.join('key', work.start));
    assert.equal(work.runs.length, 1);
    assert.equal(flights.flightCount, 1);
    work.run(0).end.resolve('result');
    assert.deepEqual(await Promise.all(joined), ['result', 'result', 'result']);
    assert.equal(flights.flightCount, 0);
  });

  test('all get the error, one that is thrown at once included, and the key is free again', async () => {
    const flights = new SingleFlight<string>();
    const work = new Work();
    const error = new Error('no route');
    const joined = [1, 2].map(() => flights.join('key', work.start));
    work.run(0).end.reject(error);
    for (const { status, ...rest } of await Promise.allSettled(joined)) {
      assert.deepEqual({ status, ...rest }, { status: 'rejected', reason: error });
    }
    const throwing = (): Promise<string> => {
      throw error;
    };
    await assert.rejects(flights.join('key', throwing), error);
    const again = flights.join('key', work.start);
    work.run(1).end.resolve('later');
    assert.equal(await again, 'later');
  });

  test('do not wait for those of another key', async () => {
    const flights = new SingleFlight<string>();
    const work = new Work();
    const slow = flights.join('slow', work.start);
    const fast = flights.join('fast', work.start);
    work.run(1).end.resolve('fast');
    assert.equal(await fast, 'fast');
    work.run(0).end.resolve('slow');
    assert.equal(await slow, 'slow');
  });
});

describe('a caller whose signal aborts', () => {
  test('leaves at once with its own reason, and the run goes on for the others', async () => {
    const flights = new SingleFlight<string>();
    const work = new Work();
    const leaver = new AbortController();
    const left = flights.join('key', work.start, { signal: leaver.signal });
    const stayed = flights.join('key', work.start);
    const reason = new Error('my deadline');
    leaver.abort(reason);
    await assert.rejects(left, reason);
    assert.equal(work.run(0).signal.aborted, false);
    work.run(0).end.resolve('result');
    assert.equal(await stayed, 'result');
  });

  test('stops the run when it is the last, and a later caller starts anew', async () => {
    const flights = new SingleFlight<string>();
    const work = new Work();
    const controllers = [new AbortController(), new AbortController()];
    const joined = controllers.map(({ signal }) => flights.join('key', work.start, { signal }));
    for (const [position, controller] of controllers.entries()) controller.abort(`reason ${position}`);
    const outcomes = await Promise.allSettled(joined);
    assert.deepEqual(outcomes, [
      { status: 'rejected', reason: 'reason 0' },
      { status: 'rejected', reason: 'reason 1' },
    ]);
    assert.equal(work.run(0).signal.aborted, true);
    assert.equal(work.run(0).signal.reason, 'reason 1');

    const later = flights.join('key', work.start);
    assert.equal(work.runs.length, 2);
    // The stopped run ends late: that must not free the key of the new one or reach its caller.
    work.run(0).end.reject(new Error('stopped'));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(flights.flightCount, 1);
    work.run(1).end.resolve('fresh');
    assert.equal(await later, 'fresh');
  });

  test('starts nothing when it had aborted before', async () => {
    const flights = new SingleFlight<string>();
    const work = new Work();
    await assert.rejects(flights.join('key', work.start, { signal: AbortSignal.abort('gone') }), (reason) => {
      return reason === 'gone';
    });
    assert.equal(work.runs.length, 0);
  });

  test('leaves also when the start of the work aborts it', async () => {
    const flights = new SingleFlight<string>();
    const controller = new AbortController();
    const stopped = Promise.withResolvers<void>();
    const start = async (signal: AbortSignal): Promise<string> => {
      signal.addEventListener('abort', () => stopped.resolve());
      controller.abort('inside');
      await stopped.promise;
      return 'never seen';
    };
    await assert.rejects(
      flights.join('key', start, { signal: controller.signal }),
      (reason) => reason === 'inside',
    );
    await stopped.promise;
  });
});

test('closing stops every run, waits for its end, and refuses later callers', async () => {
  const flights = new SingleFlight<string>();
  const work = new Work();
  const joined = ['a', 'b'].map((key) => flights.join(key, work.start));
  const order: string[] = [];
  const closed = flights.close().then(() => order.push('closed'));
  for (const caller of joined) await assert.rejects(caller, { name: 'AbortError' });
  for (const { signal, end } of work.runs) {
    assert.equal(signal.aborted, true);
    order.push('ended');
    end.reject(signal.reason);
  }
  await closed;
  assert.deepEqual(order, ['ended', 'ended', 'closed']);
  await assert.rejects(flights.join('a', work.start), { name: 'AbortError' });
  assert.equal(work.runs.length, 2);
});

/** One caller as the model knows it; `outcome` is what it must see. */
interface ModelCaller {
  readonly key: string;
  readonly controller: AbortController;
  readonly seen: Promise<PromiseSettledResult<string>>;
  readonly run: number;
  outcome: PromiseSettledResult<string> | undefined;
}

test('in any order of joins, leaves and ends, each caller sees its own outcome and runs are never shared wrongly', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('join' as const), key: fc.constantFrom('a', 'b') }),
    fc.record({ kind: fc.constant('leave' as const), caller: fc.nat(20) }),
    fc.record({ kind: fc.constant('end' as const), run: fc.nat(20), isSuccess: fc.boolean() }),
    fc.record({ kind: fc.constant('turn' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const flights = new SingleFlight<string>();
      const work = new Work();
      const callers: ModelCaller[] = [];
      /** The run that a caller of the key joins now. */
      const current = new Map<string, number>();
      const ended = new Set<number>();
      const waiting = (run: number) =>
        callers.filter((each) => each.run === run && each.outcome === undefined);
      const free = (run: number) => {
        for (const [key, joined] of current) if (joined === run) current.delete(key);
      };
      const turn = () => new Promise((resolve) => setImmediate(resolve));

      for (const each of steps) {
        switch (each.kind) {
          case 'join': {
            const controller = new AbortController();
            const joined = flights.join(each.key, work.start, { signal: controller.signal });
            const seen = Promise.allSettled([joined]).then(([outcome]) => outcome);
            const run = current.get(each.key) ?? work.runs.length - 1;
            current.set(each.key, run);
            callers.push({ key: each.key, controller, seen, run, outcome: undefined });
            break;
          }
          case 'leave': {
            const caller = callers[each.caller];
            if (caller === undefined) break;
            caller.controller.abort(`left ${each.caller}`);
            if (caller.outcome !== undefined) break;
            caller.outcome = { status: 'rejected', reason: `left ${each.caller}` };
            if (waiting(caller.run).length === 0) free(caller.run);
            break;
          }
          case 'end': {
            const run = work.runs[each.run];
            if (run === undefined || ended.has(each.run)) break;
            ended.add(each.run);
            if (each.isSuccess) run.end.resolve(`run ${each.run}`);
            else run.end.reject(`run ${each.run}`);
            // Between the end of the work and its news to the callers lies a turn; the model knows the state after it.
            await turn();
            for (const caller of waiting(each.run)) {
              const text = `run ${each.run}`;
              caller.outcome = each.isSuccess
                ? { status: 'fulfilled', value: text }
                : { status: 'rejected', reason: text };
            }
            free(each.run);
            break;
          }
          case 'turn':
            await turn();
            break;
          default:
            each satisfies never;
        }
        assert.equal(flights.flightCount, current.size);
        const expectedRuns = new Set(callers.map(({ run }) => run)).size;
        assert.equal(work.runs.length, expectedRuns);
        for (const [position, { signal }] of work.runs.entries()) {
          const isAbandoned = waiting(position).length === 0 && !ended.has(position);
          if (!ended.has(position)) assert.equal(signal.aborted, isAbandoned, `signal of run ${position}`);
        }
      }

      for (const { end } of work.runs) end.resolve('at the end');
      for (const caller of callers) {
        assert.deepEqual(await caller.seen, caller.outcome ?? { status: 'fulfilled', value: 'at the end' });
      }
      await flights.close();
    }),
    { numRuns: 300, seed: 11, interruptAfterTimeLimit: 3_000 },
  );
});
