import { exposeCollector } from './collector.ts';
import type { Logger } from './log.ts';

/** What one look at the process showed. */
export interface Look {
  /** CPU time of the process since the look before, ms. */
  readonly cpuMs: number;
  readonly residentBytes: number;
  /** Resident bytes after the last collection; undefined before the first one. */
  readonly baselineBytes: number | undefined;
}

const periodMs = 2_000;
/** 2 % of the period: a scrape or a keepalive is quiet, a push is not. */
const quietCpuMs = 40;
/** A collection costs about 30 ms of CPU: less than this is not worth it. */
const minGrowthBytes = 2 * 1024 * 1024;
const bytesPerKib = 1024;

/** Whether to collect now: the process has nothing to do, and has grown since the last time, or just started. */
export function isCollectionDue({ cpuMs, residentBytes, baselineBytes }: Look): boolean {
  if (cpuMs >= quietCpuMs) return false;
  return baselineBytes === undefined || residentBytes - baselineBytes >= minGrowthBytes;
}

/**
 * Gives memory back when the agent has nothing to do. V8 collects when a process allocates: an agent that has started,
 * or has relayed a large push, and then rests for hours would keep the garbage of both.
 */
export class IdleCollection implements Disposable {
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  #cpu = process.cpuUsage();
  #baselineBytes: number | undefined;
  #isBaselineDue = false;

  /** Starts to look; does not keep the process alive. */
  constructor(options: { readonly log: Logger }) {
    this.#log = options.log;
    this.#timer = setInterval(() => this.#look(), periodMs).unref();
  }

  /** Stops looking. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const { user, system } = process.cpuUsage(this.#cpu);
    this.#cpu = process.cpuUsage();
    const residentBytes = process.memoryUsage.rss();
    // Not at once after a collection: other threads give the pages back.
    if (this.#isBaselineDue) this.#baselineBytes = residentBytes;
    this.#isBaselineDue = false;
    const look = { cpuMs: (user + system) / 1_000, residentBytes, baselineBytes: this.#baselineBytes };
    if (!isCollectionDue(look)) return;
    // Not kept: its context would be.
    exposeCollector('all')();
    this.#isBaselineDue = true;
    // The time of the collection is not work.
    this.#cpu = process.cpuUsage();
    this.#log.debug('gave memory back', {
      residentKibBefore: Math.round(residentBytes / bytesPerKib),
      residentKib: Math.round(process.memoryUsage.rss() / bytesPerKib),
    });
  }
}
