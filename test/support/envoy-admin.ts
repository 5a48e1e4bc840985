import { httpGet } from './http-get.ts';
import { poll } from './polling.ts';

/** Talks to the admin port of an Envoy on this machine. All calls throw Error when Envoy does not answer 200. */
export class EnvoyAdmin {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;

  constructor(port: number) {
    this.url = `http://127.0.0.1:${port}`;
  }

  /** The body of a GET. */
  async get(path: string, options: { readonly signal?: AbortSignal } = {}): Promise<string> {
    return this.#call('GET', path, options);
  }

  /** The body of a POST, for example to `/logging?wasm=debug` or `/drain_listeners`. */
  async post(path: string, options: { readonly signal?: AbortSignal } = {}): Promise<string> {
    return this.#call('POST', path, options);
  }

  /** Counters and gauges by name whose name matches `filter` (RE2), those never written included. */
  async stats(
    filter: string,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<ReadonlyMap<string, number>> {
    const text = await this.get(`/stats?filter=${encodeURIComponent(filter)}`, options);
    const stats = new Map<string, number>();
    for (const line of text.split('\n')) {
      const [, name, value] = /^(.+): (\d+)$/.exec(line) ?? [];
      if (name !== undefined) stats.set(name, Number(value));
    }
    return stats;
  }

  /** What Envoy runs, as parsed JSON; `query` such as `resource=dynamic_listeners` or `mask=...` narrows it. */
  async configDump(query = '', options: { readonly signal?: AbortSignal } = {}): Promise<unknown> {
    return JSON.parse(await this.get(`/config_dump${query === '' ? '' : `?${query}`}`, options));
  }

  /** Resolves once Envoy is live, which includes that its workers have started. */
  async waitUntilLive(options: {
    readonly deadlineMs: number;
    readonly signal?: AbortSignal;
  }): Promise<void> {
    await poll(
      async (signal) => {
        const answer = await httpGet(`${this.url}/ready`, { signal });
        return answer.status === 200
          ? { done: true, value: undefined }
          : { done: false, seen: `${answer.status} ${answer.text.trim()}` };
      },
      { what: `Envoy's admin port ${this.url} saying LIVE`, ...options },
    );
  }

  /** Resolves with the value once the stat of exactly this name satisfies `isReached`; a missing one counts as 0. */
  async waitForStat(
    name: string,
    isReached: (value: number) => boolean,
    options: { readonly deadlineMs: number; readonly signal?: AbortSignal },
  ): Promise<number> {
    const filter = `^${name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`;
    return poll(
      async (signal) => {
        const value = (await this.stats(filter, { signal })).get(name) ?? 0;
        return isReached(value) ? { done: true, value } : { done: false, seen: `${name} is ${value}` };
      },
      { what: `The expected value of Envoy's stat ${name}`, ...options },
    );
  }

  async #call(method: string, path: string, options: { readonly signal?: AbortSignal }): Promise<string> {
    const answer = await httpGet(`${this.url}${path}`, { method, ...options });
    if (answer.status !== 200) {
      throw new Error(
        `Envoy's admin answered ${method} ${path} with ${answer.status}: ${answer.text.trim()}`,
      );
    }
    return answer.text;
  }
}
