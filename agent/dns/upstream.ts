import type { DnsMetrics } from '../../metrics/dns-metrics.ts';
import { describeError, type Logger } from '../log.ts';
import type { DnsProtocol } from './dns-answer.ts';
import type { DnsQuery } from './dns-query.ts';
import type { DnsEndpoint } from './dns-settings.ts';
import type { OwnQueries } from './own-queries.ts';
import { shuffle } from './shuffle.ts';
import { exchangeOverTcp, exchangeOverUdp } from './upstream-exchange.ts';

export interface UpstreamOptions {
  readonly upstreams: readonly DnsEndpoint[];
  /** `DNS_FORWARD_TIMEOUT`. */
  readonly timeoutMs: number;
  /** `DNS_FORWARD_PARALLEL`: all are asked at once, the first answer counts. */
  readonly isParallel: boolean;
  readonly ownQueries: OwnQueries;
  readonly metrics: DnsMetrics;
  readonly log: Logger;
  /** At least 0, below 1. */
  readonly random: () => number;
}

/**
 * Each query that waits holds a socket for each upstream it asks. With dead upstreams and the usual 5 s this is
 * 200 queries a second, after which they fail at once instead of late.
 */
const maxRunningCount = 1_000;

/** An application asks again at once where a nameserver is down: the log gets the newest failure this often. */
const failureLineMs = 10_000;

/** Asks the nameservers of resolv.conf what the name table does not know. */
export class UpstreamResolver {
  readonly #options: UpstreamOptions;
  readonly #end = new AbortController();
  readonly #running = new Set<Promise<unknown>>();
  #isOverloadTold = false;
  #failureToldAtMs = Number.NEGATIVE_INFINITY;
  /** Since the last line. */
  #untoldCount = 0;

  constructor(options: UpstreamOptions) {
    this.#options = options;
  }

  /**
   * The answer of an upstream, whatever it says, over the protocol the query came by. Undefined when none answered:
   * counted as a failure.
   */
  async resolve(query: DnsQuery, protocol: DnsProtocol): Promise<Buffer | undefined> {
    const { metrics, log } = this.#options;
    if (this.#running.size >= maxRunningCount) {
      if (!this.#isOverloadTold) {
        log.error('too many DNS queries wait for upstreams; more of them fail at once', { maxRunningCount });
      }
      this.#isOverloadTold = true;
      metrics.failed();
      return undefined;
    }
    if (this.#running.size < maxRunningCount / 2) this.#isOverloadTold = false;
    metrics.forwarded();
    const startMs = performance.now();
    const work = this.#ask(query, protocol);
    this.#running.add(work);
    try {
      return await work;
    } catch (error) {
      metrics.failed();
      this.#tellFailure({ protocol, name: query.question.name, error: describeError(error) });
      return undefined;
    } finally {
      this.#running.delete(work);
      metrics.upstreamDurationSeconds((performance.now() - startMs) / 1000);
    }
  }

  /** Ends all that waits; resolves when its sockets are closed. */
  async close(): Promise<void> {
    this.#end.abort(new Error('the DNS proxy is closing'));
    await Promise.allSettled(this.#running);
  }

  #tellFailure(fields: {
    readonly protocol: DnsProtocol;
    readonly name: string;
    readonly error: string;
  }): void {
    const { log } = this.#options;
    const nowMs = performance.now();
    if (nowMs - this.#failureToldAtMs < failureLineMs) {
      this.#untoldCount += 1;
      log.debug('upstream failure', fields);
      return;
    }
    const untold = this.#untoldCount === 0 ? {} : { untoldCount: this.#untoldCount };
    log.info('upstream failure', { ...fields, ...untold });
    this.#failureToldAtMs = nowMs;
    this.#untoldCount = 0;
  }

  async #ask(query: DnsQuery, protocol: DnsProtocol): Promise<Buffer> {
    const { upstreams, isParallel, random } = this.#options;
    if (upstreams.length === 0) throw new Error('there is no nameserver to ask');
    if (isParallel) return this.#askAll(query, protocol);
    const failures: string[] = [];
    for (const upstream of shuffle(upstreams, random)) {
      try {
        return await this.#exchange(query, protocol, upstream, this.#end.signal);
      } catch (error) {
        this.#end.signal.throwIfAborted();
        failures.push(`${upstream.address}: ${describeError(error)}`);
      }
    }
    throw new Error(failures.join('; '));
  }

  async #askAll(query: DnsQuery, protocol: DnsProtocol): Promise<Buffer> {
    const answered = new AbortController();
    const onEnd = (): void => answered.abort(this.#end.signal.reason);
    this.#end.signal.addEventListener('abort', onEnd, { once: true });
    const asked = this.#options.upstreams.map((upstream) =>
      this.#exchange(query, protocol, upstream, answered.signal),
    );
    try {
      return await Promise.any(asked);
    } finally {
      this.#end.signal.removeEventListener('abort', onEnd);
      answered.abort(new Error('another upstream has answered'));
      await Promise.allSettled(asked);
    }
  }

  async #exchange(
    query: DnsQuery,
    protocol: DnsProtocol,
    upstream: DnsEndpoint,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const { timeoutMs, ownQueries } = this.#options;
    const options = { upstream, timeoutMs, ownQueries, signal };
    return protocol === 'udp' ? exchangeOverUdp(query, options) : exchangeOverTcp(query, options);
  }
}
