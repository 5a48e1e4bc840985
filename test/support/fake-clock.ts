import type { Clock } from '../../agent/clock.ts';

interface Timer {
  readonly atMs: number;
  readonly callback: () => void;
}

/** A clock that stands still until a test moves it. */
export class FakeClock implements Clock {
  #nowMs: number;
  readonly #timers = new Set<Timer>();
  readonly #onScheduled = new Set<() => void>();

  constructor(nowMs = Date.now()) {
    this.#nowMs = nowMs;
  }

  now(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, callback: () => void): Disposable {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    for (const wake of this.#onScheduled) wake();
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  }

  /** How far away each timer is, in ms, the next first. */
  get pendingDelaysMs(): readonly number[] {
    return [...this.#timers].map(({ atMs }) => atMs - this.#nowMs).sort((a, b) => a - b);
  }

  /** Moves on, and calls back what is due by then, in order. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs;
    for (;;) {
      const [next] = [...this.#timers].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
    }
    this.#nowMs = untilMs;
  }

  /** Sets the time without calling anybody back, as an operator or a suspended machine does. */
  jump(byMs: number): void {
    const moved = [...this.#timers];
    this.#timers.clear();
    this.#nowMs += byMs;
    for (const { atMs, callback } of moved) this.#timers.add({ atMs: atMs + byMs, callback });
  }

  /** Resolves when a timer waits that is not further away than this; its delay. */
  async waitForTimer(withinMs = Number.POSITIVE_INFINITY): Promise<number> {
    for (;;) {
      const [nextMs] = this.pendingDelaysMs;
      if (nextMs !== undefined && nextMs <= withinMs) return nextMs;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onScheduled.add(resolve);
      await promise;
      this.#onScheduled.delete(resolve);
    }
  }
}
