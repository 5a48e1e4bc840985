/** Runs work on one key strictly one after the other; work on different keys runs side by side. */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>();

  /**
   * Resolves or rejects as `work` does. Work must not ask for a lock itself: two such runs could wait for each
   * other for ever.
   */
  async run<Result>(key: string, work: () => Promise<Result>): Promise<Result> {
    const before = this.#tails.get(key);
    const turn = Promise.withResolvers<void>();
    this.#tails.set(key, turn.promise);
    try {
      if (before !== undefined) await before;
      return await work();
    } finally {
      turn.resolve();
      if (this.#tails.get(key) === turn.promise) this.#tails.delete(key);
    }
  }

  /** True while work on this key runs or waits. */
  isHeld(key: string): boolean {
    return this.#tails.has(key);
  }

  /** Resolves when no work runs or waits. */
  async idle(): Promise<void> {
    while (this.#tails.size > 0) await Promise.all(this.#tails.values());
  }
}
