/**
 * Push versions as istiod makes them: `<RFC 3339 time>/<counter>`, the counter from 1 with each start.
 * Source: istio/istio `pilot/pkg/xds/discovery.go` (NextVersion).
 */

/** Gives each version once, in growing order, also across restarts within one second. */
export class VersionSource {
  readonly #now: () => Date;
  #counter = 0;
  #lastTimeMs = 0;
  #earliestTimeMs = 0;

  constructor(now: () => Date) {
    this.#now = now;
  }

  next(): string {
    this.#counter += 1;
    this.#lastTimeMs = Math.max(this.#now().getTime(), this.#earliestTimeMs, this.#lastTimeMs);
    return `${new Date(this.#lastTimeMs).toISOString().replace(/\.\d+Z$/, 'Z')}/${this.#counter}`;
  }

  /** Counts from 1 again, under a later second: a version must not come twice. */
  restart(): void {
    this.#counter = 0;
    this.#earliestTimeMs = this.#lastTimeMs + 1000;
  }
}

/** True when `version` was made after `floor`; false when one of them is no version of this form. */
export function isVersionAfter(version: string, floor: string): boolean {
  const [a, b] = [parse(version), parse(floor)];
  if (a === undefined || b === undefined) return false;
  return a.time === b.time ? a.counter > b.counter : a.time > b.time;
}

function parse(version: string): { time: string; counter: number } | undefined {
  const match = /^(?<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\/(?<counter>\d+)$/.exec(version);
  const { time, counter } = match?.groups ?? {};
  return time === undefined || counter === undefined ? undefined : { time, counter: Number(counter) };
}
