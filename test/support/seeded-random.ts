/** Choices that a seed makes again: xorshift32 (G. Marsaglia, Xorshift RNGs, 2003). Not for secrets. */
export class SeededRandom {
  #state: number;

  /** Any whole number but zero. */
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
    // Near seeds begin alike.
    for (let index = 0; index < 16; index += 1) this.next();
  }

  /** In [0, 1). */
  next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state / 2 ** 32;
  }

  /** A whole number from `from` to `to`, both included. */
  integer(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  /** One of them. Throws RangeError when there is none. */
  pick<Item>(items: readonly Item[]): Item {
    const item = items[Math.floor(this.next() * items.length)];
    if (item === undefined) throw new RangeError('There is nothing to pick from.');
    return item;
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }
}
