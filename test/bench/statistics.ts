/** The middle sample, or the mean of the two in the middle. Throws RangeError when there is none. */
export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  if (upper === undefined) throw new RangeError('A median needs at least one sample.');
  if (sorted.length % 2 === 1) return upper;
  return ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/**
 * The smallest sample that at least `percent` of all samples do not exceed (nearest rank): with fewer than 100
 * samples the 99th percentile is the largest. Throws RangeError without samples or outside 0 < percent <= 100.
 */
export function percentile(samples: ArrayLike<number>, percent: number): number {
  if (!(percent > 0 && percent <= 100)) {
    throw new RangeError(`A percentile is over 0 and at most 100, not ${percent}.`);
  }
  const sorted = Array.from(samples).sort((a, b) => a - b);
  const value = sorted[Math.ceil((percent / 100) * sorted.length) - 1];
  if (value === undefined) throw new RangeError('A percentile needs at least one sample.');
  return value;
}

/** How far the samples lie apart, as a part of their median: (largest - smallest) / |median|. 0 for one sample. */
export function relativeSpread(samples: readonly number[]): number {
  const width = Math.max(...samples) - Math.min(...samples);
  return width === 0 ? 0 : width / Math.abs(median(samples));
}
