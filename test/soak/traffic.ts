import { setTimeout as sleep } from 'node:timers/promises';

/** What one kind of requests came to. */
export interface TrafficCount {
  requestCount: number;
  /** By status; `failed` without an answer. */
  readonly outcomes: Record<string, number>;
}

/** Requests of one kind, sent one after the other. */
export interface TrafficSource {
  readonly name: string;
  /** Between an answer and the next request. */
  readonly intervalMs: number;
  /** Sends one; gives the status. Rejects when there is no answer. */
  readonly send: () => Promise<string>;
  /** `answer`: any answer will do; else this one. */
  readonly promised: string;
}

/** Reasons that are kept in words; all failures are counted. */
const keptReasonCount = 5;

/** Requests from the start to `stop`. What was promised of them and did not come is a problem. */
export class Traffic {
  readonly counts: Record<string, TrafficCount> = {};
  readonly #broken = new Map<string, { count: number; readonly reasons: Set<string> }>();
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;

  constructor(sources: readonly TrafficSource[]) {
    this.#running = Promise.all(sources.map((source) => this.#repeat(source)));
  }

  /** Broken promises, in words. */
  get problems(): readonly string[] {
    return [...this.#broken].map(
      ([name, { count, reasons }]) => `${name}: ${count} not as promised (${[...reasons].join('; ')})`,
    );
  }

  /** Resolves when the last request is over. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #repeat({ name, intervalMs, send, promised }: TrafficSource): Promise<void> {
    const count: TrafficCount = { requestCount: 0, outcomes: {} };
    this.counts[name] = count;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      count.requestCount += 1;
      let reason = '';
      const outcome = await send().catch((error: unknown) => {
        reason = error instanceof Error ? error.message : String(error);
        return 'failed';
      });
      count.outcomes[outcome] = (count.outcomes[outcome] ?? 0) + 1;
      const isKept = promised === 'answer' ? outcome !== 'failed' : outcome === promised;
      if (!isKept && !signal.aborted)
        this.#breakPromise(name, `${new Date().toISOString()} ${reason || outcome}`);
      await sleep(intervalMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #breakPromise(name: string, reason: string): void {
    const entry = this.#broken.get(name) ?? { count: 0, reasons: new Set() };
    this.#broken.set(name, entry);
    entry.count += 1;
    if (entry.reasons.size < keptReasonCount) entry.reasons.add(reason);
  }
}
