import { setTimeout as sleep } from 'node:timers/promises';
import { httpGet } from '../support/http-get.ts';

/** What one kind of requests came to. */
export interface TrafficCount {
  requestCount: number;
  /** By status; `failed` without an answer. */
  readonly outcomes: Record<string, number>;
}

/** Pages that are asked for all the time, as the kubelet, Prometheus and users do. */
const intervalsMs: Readonly<Record<string, number>> = {
  readiness: 250,
  stats: 500,
  'plugin page': 400,
  'application request': 50,
};

/**
 * Requests from the start to `stop`. The status port must answer whatever goes on: an answer of its own that does not
 * come is a problem. Requests through Envoy may fail while Envoy stands still or a listener changes.
 */
export class Traffic {
  readonly counts: Record<string, TrafficCount> = {};
  /** Requests to the agent itself that got no answer. */
  unansweredCount = 0;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;

  constructor(urls: { readonly statusUrl: string; readonly applicationUrl: string }) {
    const { statusUrl, applicationUrl } = urls;
    this.#running = Promise.all([
      this.#repeat('readiness', `${statusUrl}/healthz/ready`, true),
      this.#repeat('stats', `${statusUrl}/stats/prometheus`, true),
      this.#repeat('plugin page', `${statusUrl}/debug/wasm`, true),
      this.#repeat('application request', applicationUrl, false),
    ]);
  }

  /** Resolves when the last request is over. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #repeat(name: string, url: string, isAgents: boolean): Promise<void> {
    const count: TrafficCount = { requestCount: 0, outcomes: {} };
    this.counts[name] = count;
    while (!this.#stop.signal.aborted) {
      count.requestCount += 1;
      const outcome = await httpGet(url, { timeoutMs: 20_000 }).then(
        (answer) => String(answer.status),
        () => 'failed',
      );
      count.outcomes[outcome] = (count.outcomes[outcome] ?? 0) + 1;
      if (isAgents && outcome === 'failed' && !this.#stop.signal.aborted) this.unansweredCount += 1;
      await sleep(intervalsMs[name] ?? 0, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }
}
