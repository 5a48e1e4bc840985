import type { MetricRegistry } from './registry.ts';

/** Which part of a merged page was missing or cut. */
export type ScrapePart = 'envoy' | 'application' | 'agent';

/** What the status server does. Names, types and labels are the stock agent's (`pilot/cmd/pilot-agent/metrics`). */
export class StatusMetrics {
  /** Seconds from the start of the process to the first time it was ready. */
  readonly startupDurationSeconds: (seconds: number) => void;
  /** Each request for the merged page that is allowed, before anything is gathered. */
  readonly scraped: () => void;
  readonly scrapeFailed: (part: ScrapePart) => void;

  constructor(registry: MetricRegistry) {
    const startup = registry.gauge({
      name: 'startup_duration_seconds',
      help: 'The time from the process starting to being marked ready.',
    });
    this.startupDurationSeconds = (seconds) => startup(seconds);
    const scrapes = registry.counter({ name: 'scrapes_total', help: 'The total number of scrapes.' });
    this.scraped = () => scrapes();
    const failures = registry.counter({
      name: 'scrape_failures_total',
      help: 'The total number of failed scrapes.',
      labelNames: ['type'],
    });
    this.scrapeFailed = (part) => failures({ type: part });
  }
}
