import { median } from '../bench/statistics.ts';

/** One measured value at a time. */
export interface TimedValue {
  /** Minutes since the soak began. */
  readonly atMinutes: number;
  readonly value: number;
}

/** How a quantity moves over time, and how sure that is. */
export interface Trend {
  readonly sampleCount: number;
  readonly spanMinutes: number;
  /** Theil-Sen: the median of the slopes between all pairs, which a few odd samples do not move. Per hour. */
  readonly slopePerHour: number;
  /** With 99 % confidence the slope is at least this. Per hour; -Infinity with too few samples. */
  readonly lowestSlopePerHour: number;
  /** What the slope makes over the whole span. */
  readonly growth: number;
  /** The least it makes, with that confidence. */
  readonly lowestGrowth: number;
}

/** The first part of a soak is warm-up: caches fill, code is compiled, the heap finds its size. */
export const warmUpPart = 0.3;
/** Fewer tell nothing. */
const minSampleCount = 8;
/** One-sided 99 %: of 100 steady soaks one is taken for growing, and then the allowance still stands before a failure. */
const normalQuantile = 2.326;
const minutesPerHour = 60;

/** The samples after the warm-up. */
export function afterWarmUp(samples: readonly TimedValue[]): readonly TimedValue[] {
  const last = samples.at(-1)?.atMinutes ?? 0;
  return samples.filter(({ atMinutes }) => atMinutes >= last * warmUpPart);
}

/**
 * The trend of samples taken in order of time. The bound is the rank of the pairwise slopes that Kendall's statistic
 * gives (P. K. Sen, Journal of the American Statistical Association 63, 1968), without ties in time.
 */
export function trendOf(samples: readonly TimedValue[]): Trend {
  const first = samples[0]?.atMinutes ?? 0;
  const spanMinutes = (samples.at(-1)?.atMinutes ?? first) - first;
  const slopes = pairSlopes(samples);
  if (samples.length < minSampleCount || slopes.length === 0) {
    return {
      sampleCount: samples.length,
      spanMinutes,
      slopePerHour: 0,
      lowestSlopePerHour: Number.NEGATIVE_INFINITY,
      growth: 0,
      lowestGrowth: Number.NEGATIVE_INFINITY,
    };
  }
  const count = samples.length;
  const deviation = Math.sqrt((count * (count - 1) * (2 * count + 5)) / 18);
  const rank = Math.floor((slopes.length - normalQuantile * deviation) / 2);
  const lowest = rank >= 1 ? (slopes[rank - 1] ?? Number.NEGATIVE_INFINITY) : Number.NEGATIVE_INFINITY;
  const middle = median(slopes);
  return {
    sampleCount: count,
    spanMinutes,
    slopePerHour: middle * minutesPerHour,
    lowestSlopePerHour: lowest * minutesPerHour,
    growth: middle * spanMinutes,
    lowestGrowth: lowest * spanMinutes,
  };
}

/** Sorted, per minute. */
function pairSlopes(samples: readonly TimedValue[]): readonly number[] {
  const slopes: number[] = [];
  samples.forEach((later, index) => {
    for (const earlier of samples.slice(0, index)) {
      const minutes = later.atMinutes - earlier.atMinutes;
      if (minutes > 0) slopes.push((later.value - earlier.value) / minutes);
    }
  });
  return slopes.sort((a, b) => a - b);
}

/**
 * True when a quantity surely grows, and by more than it may: the confidence bound of its slope must make more than
 * `allowance` over the span. So noise alone does not fail a short soak, and a slow leak fails a long one.
 */
export function isGrowing(trend: Trend, allowance: number): boolean {
  return trend.lowestGrowth > allowance;
}
