import { LRUCache } from 'lru-cache';

interface Resting {
  /** When each of its parts may be asked again, on the clock's scale. */
  readonly untilMs: Map<string, number>;
}

/** Hosts that are remembered; far more than one pod asks. */
const maxHostCount = 256;
const maxPartCount = 64;
/** A longer rest is cut: one wrong header must not close a host for a day. */
const maxRestMs = 10 * 60_000;
/** Limited parts after which it is the host that is limited, not one repository. */
const limitedPartCount = 2;

/**
 * Which hosts have said 429 (too many requests) and until when they are left alone. A limit that one repository meets
 * holds for that repository; when a second one of the same host meets it, it holds for the host.
 */
export class HostRest {
  readonly #hosts = new LRUCache<string, Resting>({ max: maxHostCount });
  readonly #nowMs: () => number;

  constructor(options: { readonly nowMs: () => number }) {
    this.#nowMs = options.nowMs;
  }

  /** Notes a 429. `part` names a repository or file of the host. */
  limited(host: string, part: string, retryAfterMs: number): void {
    const resting = this.#hosts.get(host) ?? { untilMs: new Map<string, number>() };
    this.#drop(resting);
    if (resting.untilMs.size < maxPartCount || resting.untilMs.has(part)) {
      resting.untilMs.set(part, this.#nowMs() + Math.min(retryAfterMs, maxRestMs));
    }
    this.#hosts.set(host, resting);
  }

  /** Notes that the host serves a part again. */
  served(host: string, part: string): void {
    this.#hosts.peek(host)?.untilMs.delete(part);
  }

  /** How long this part of the host is still to be left alone; 0 when it may be asked. */
  restMs(host: string, part: string): number {
    const resting = this.#hosts.get(host);
    if (resting === undefined) return 0;
    this.#drop(resting);
    const { untilMs } = resting;
    const until = untilMs.size >= limitedPartCount ? Math.max(...untilMs.values()) : (untilMs.get(part) ?? 0);
    return Math.max(0, until - this.#nowMs());
  }

  #drop(resting: Resting): void {
    for (const [part, untilMs] of resting.untilMs) {
      if (untilMs <= this.#nowMs()) resting.untilMs.delete(part);
    }
  }
}
