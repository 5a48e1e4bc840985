import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { median, percentile, relativeSpread } from './statistics.ts';

const samples = fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), {
  minLength: 1,
  maxLength: 200,
});
const seed = 20_261_121;

describe('median', () => {
  test('is the middle sample, or the mean of the two in the middle', () => {
    assert.equal(median([7]), 7);
    assert.equal(median([9, 1, 5]), 5);
    assert.equal(median([10, 2, 4, 100]), 7);
  });

  test('sorts numbers as numbers and leaves the samples in their order', () => {
    const given = [100, 9, 20];
    assert.equal(median(given), 20);
    assert.deepEqual(given, [100, 9, 20]);
  });

  test('refuses to make a figure of nothing', () => {
    assert.throws(() => median([]), RangeError);
  });
});

describe('percentile', () => {
  test('takes the nearest rank', () => {
    const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
    assert.equal(percentile(hundred, 50), 50);
    assert.equal(percentile(hundred, 99), 99);
    assert.equal(percentile(hundred, 100), 100);
    assert.equal(percentile(hundred, 0.5), 1);
  });

  test('of 99 is the largest sample when there are fewer than 100', () => {
    assert.equal(percentile(Float64Array.of(3, 8, 1), 99), 8);
  });

  test('is a sample that enough others do not exceed', () => {
    fc.assert(
      fc.property(samples, fc.integer({ min: 1, max: 100 }), (given, percent) => {
        const value = percentile(given, percent);
        const coveredCount = given.filter((sample) => sample <= value).length;
        const belowCount = given.filter((sample) => sample < value).length;
        return (
          given.includes(value) &&
          coveredCount * 100 >= percent * given.length &&
          belowCount * 100 < percent * given.length
        );
      }),
      { seed },
    );
  });

  test('refuses to make a figure of nothing, and ranks that do not exist', () => {
    assert.throws(() => percentile([], 50), RangeError);
    assert.throws(() => percentile([1], 0), RangeError);
    assert.throws(() => percentile([1], 101), RangeError);
    assert.throws(() => percentile([1], Number.NaN), RangeError);
  });
});

describe('relativeSpread', () => {
  test('is the distance of the extremes as a part of the median', () => {
    assert.equal(relativeSpread([8, 10, 13]), 0.5);
    assert.equal(relativeSpread([-13, -10, -8]), 0.5);
  });

  test('is 0 for samples that agree, also when they are 0', () => {
    assert.equal(relativeSpread([4]), 0);
    assert.equal(relativeSpread([0, 0]), 0);
  });

  test('is without bound around a median of 0', () => {
    assert.equal(relativeSpread([-1, 0, 1]), Number.POSITIVE_INFINITY);
  });
});
