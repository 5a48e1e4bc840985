import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { afterWarmUp, isGrowing, type TimedValue, trendOf } from './trend.ts';

/** A generator of its own, so that the tests see the same noise each time. */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function series(options: {
  readonly count: number;
  readonly perMinute: number;
  readonly noise: number;
  readonly seed: number;
}): readonly TimedValue[] {
  const random = noise(options.seed);
  return Array.from({ length: options.count }, (_, index) => ({
    atMinutes: index / 8,
    value: 40 + (index / 8) * options.perMinute + (random() - 0.5) * options.noise,
  }));
}

describe('the trend', () => {
  test('of a straight line is its slope, with no doubt', () => {
    const trend = trendOf(series({ count: 40, perMinute: 0.5, noise: 0, seed: 1 }));
    assert.ok(Math.abs(trend.slopePerHour - 30) < 1e-9);
    assert.ok(Math.abs(trend.lowestSlopePerHour - 30) < 1e-9);
    assert.ok(Math.abs(trend.growth - (0.5 * 39) / 8) < 1e-9);
  });

  test('is not moved by a few odd samples', () => {
    const samples = series({ count: 40, perMinute: 0, noise: 1, seed: 2 });
    const odd = samples.map((sample, index) => (index > 36 ? { ...sample, value: 500 } : sample));
    assert.ok(Math.abs(trendOf(odd).slopePerHour) < 20);
    assert.ok(!isGrowing(trendOf(odd), 4));
  });

  test('of few samples says nothing', () => {
    const trend = trendOf(series({ count: 7, perMinute: 100, noise: 0, seed: 3 }));
    assert.equal(trend.lowestGrowth, Number.NEGATIVE_INFINITY);
    assert.ok(!isGrowing(trend, 0));
    assert.equal(trendOf([]).sampleCount, 0);
  });

  test('of steady noise is taken for growth in about one of a hundred', () => {
    let growingCount = 0;
    for (let seed = 1; seed <= 500; seed += 1) {
      if (isGrowing(trendOf(series({ count: 40, perMinute: 0, noise: 6, seed })), 0)) growingCount += 1;
    }
    assert.ok(growingCount <= 15, `${growingCount} of 500`);
  });

  test('of a leak under noise is found, and within the allowance forgiven', () => {
    for (let seed = 1; seed <= 50; seed += 1) {
      // 2 MiB a minute for five minutes.
      const leak = trendOf(series({ count: 40, perMinute: 2, noise: 6, seed }));
      assert.ok(isGrowing(leak, 4), `${seed}: ${JSON.stringify(leak)}`);
      assert.ok(!isGrowing(leak, 12));
    }
  });

  test('does not depend on where the values lie', () => {
    const samples = series({ count: 20, perMinute: 1, noise: 3, seed: 9 });
    fc.assert(
      fc.property(fc.double({ min: -1e6, max: 1e6, noNaN: true }), (offset) => {
        const moved = samples.map((sample) => ({ ...sample, value: sample.value + offset }));
        return Math.abs(trendOf(moved).slopePerHour - trendOf(samples).slopePerHour) < 1e-3;
      }),
      { seed: 7, numRuns: 50 },
    );
  });

  test('leaves the warm-up out', () => {
    const samples = series({ count: 41, perMinute: 0, noise: 0, seed: 1 });
    assert.equal(afterWarmUp(samples)[0]?.atMinutes, 1.5);
    assert.deepEqual(afterWarmUp([]), []);
  });
});
