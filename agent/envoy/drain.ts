import { systemClock, wait as waitFor } from '../clock.ts';
import { describeError, type Logger } from '../log.ts';
import type { AdminClient } from './admin.ts';
import { parseStats } from './stats-text.ts';

/** How Envoy is emptied before it is killed; a part of EnvoyConfig. */
export interface DrainPlan {
  readonly isInboundDrainOnly: boolean;
  readonly terminationDrainMs: number;
  readonly minimumDrainMs: number;
  readonly exitOnZeroActiveConnections: boolean;
  readonly ownListenerPorts: readonly number[];
}

export interface DrainDependencies {
  readonly admin: AdminClient;
  readonly log: Logger;
  /** Resolves after `ms`; rejects when `signal` aborts first. */
  readonly wait?: (ms: number, options: { readonly signal: AbortSignal }) => Promise<void>;
}

/** Why the wait is over; Envoy is to be killed in each case but `envoy_gone`. */
export type DrainOutcome =
  /** `/drain` came before: no second drain and no wait. */
  | 'already_drained'
  /** `terminationDrainDuration` has passed. */
  | 'time_over'
  | 'no_connections'
  /** Envoy has no such stat: nothing ever connected, or the stat is not kept. */
  | 'no_stats'
  /** Connections could not be counted several times in a row. */
  | 'stats_failed'
  /** The caller's signal: Envoy ended meanwhile. */
  | 'envoy_gone';

/** Envoy answers the drain call at once; without an answer it is stuck, and the sequence goes on. */
const drainCallTimeoutMs = 10_000;
const pollPeriodMs = 1000;
const pollTimeoutMs = 2000;
const maxFailureCount = 5;

/**
 * The drain sequence of one Envoy (istio/istio `pkg/envoy/agent.go`): at most one drain call, then a wait for
 * connections to end.
 */
export class Drain {
  readonly #plan: DrainPlan;
  readonly #admin: AdminClient;
  readonly #log: Logger;
  readonly #wait: NonNullable<DrainDependencies['wait']>;
  #isSkipped = false;

  constructor(plan: DrainPlan, { admin, log, wait }: DrainDependencies) {
    this.#plan = plan;
    this.#admin = admin;
    this.#log = log;
    this.#wait = wait ?? ((ms, signal) => waitFor(systemClock, ms, signal));
  }

  /** `/drain`: Envoy drains and stays; a later termination neither drains again nor waits. Never throws. */
  async drainNow({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#log.info('Agent draining proxy');
    await this.#callDrain({ skipExit: true, ...(signal === undefined ? {} : { signal }) });
    this.#isSkipped = true;
  }

  /** `/quitquitquit`: a later termination neither drains nor waits. */
  skip(): void {
    this.#isSkipped = true;
  }

  /**
   * Drains and waits as the plan says; resolves when Envoy may be killed. `signal` is to abort when Envoy has
   * ended by itself. Never throws.
   */
  async drainForTermination({ signal }: { readonly signal: AbortSignal }): Promise<DrainOutcome> {
    this.#log.info('Agent draining Proxy for termination');
    if (this.#isSkipped) {
      this.#log.info('Agent already drained, exiting immediately');
      return 'already_drained';
    }
    await this.#callDrain({ skipExit: false, signal });
    if (signal.aborted) return 'envoy_gone';
    const outcome = this.#plan.exitOnZeroActiveConnections
      ? await this.#waitForConnections(signal)
      : await this.#waitForTime(signal);
    if (outcome === 'envoy_gone') {
      this.#log.info('Graceful termination logic ended prematurely, envoy process terminated early');
    }
    return outcome;
  }

  async #callDrain(options: { readonly skipExit: boolean; readonly signal?: AbortSignal }): Promise<void> {
    const query = [
      ...(this.#plan.isInboundDrainOnly ? ['inboundonly'] : []),
      'graceful',
      ...(options.skipExit ? ['skip_exit'] : []),
    ].join('&');
    try {
      await this.#admin.post(`/drain_listeners?${query}`, {
        timeoutMs: drainCallTimeoutMs,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
    } catch (error) {
      this.#log.warn('Error in invoking drain listeners endpoint', { error: describeError(error) });
    }
  }

  async #waitForTime(signal: AbortSignal): Promise<DrainOutcome> {
    this.#log.info('Graceful termination period starts', { durationMs: this.#plan.terminationDrainMs });
    if (!(await this.#pause(this.#plan.terminationDrainMs, signal))) return 'envoy_gone';
    this.#log.info('Graceful termination period complete, terminating remaining proxies.');
    return 'time_over';
  }

  async #waitForConnections(signal: AbortSignal): Promise<DrainOutcome> {
    this.#log.info('Agent draining proxy, then waiting for active connections to terminate', {
      durationMs: this.#plan.minimumDrainMs,
    });
    if (!(await this.#pause(this.#plan.minimumDrainMs, signal))) return 'envoy_gone';
    this.#log.info('Checking for active connections...');
    let failureCount = 0;
    // The stock agent has no bound here either: the pod's grace period is the bound.
    while (await this.#pause(pollPeriodMs, signal)) {
      try {
        const count = await this.#countConnections(signal);
        failureCount = 0;
        if (count === undefined) {
          this.#log.info('downstream_cx_active is not available: no connection yet, or the stat is not kept');
          return 'no_stats';
        }
        if (count === 0) {
          this.#log.info('There are no more active connections. terminating proxy...');
          return 'no_connections';
        }
        this.#log.info('There are still active connections', { count });
      } catch (error) {
        if (signal.aborted) break;
        failureCount += 1;
        this.#log.error('unable to get listener stats from Envoy', {
          error: describeError(error),
          failureCount,
        });
        if (failureCount >= maxFailureCount) return 'stats_failed';
      }
    }
    return 'envoy_gone';
  }

  async #countConnections(signal: AbortSignal): Promise<number | undefined> {
    const path = '/stats?usedonly&filter=downstream_cx_active$';
    return countActiveConnections(
      await this.#admin.get(path, { timeoutMs: pollTimeoutMs, signal }),
      this.#plan.ownListenerPorts,
    );
  }

  /** False when the signal came first. */
  async #pause(ms: number, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#wait(ms, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    return !signal.aborted;
  }
}

/**
 * Client connections in a `/stats` body filtered by `downstream_cx_active$`; undefined for an empty body. Counted are
 * `listener.` stats but those of workers (parts of a sum), of internal listeners, of admin and of the agent's own
 * listeners. The own listeners are excluded in their IPv6 spelling too, which the stock agent forgets.
 */
export function countActiveConnections(
  body: string,
  ownListenerPorts: readonly number[],
): number | undefined {
  if (body.trim() === '') return undefined;
  const excluded = new Set([
    'listener.admin.downstream_cx_active',
    'listener.admin.main_thread.downstream_cx_active',
    ...ownListenerPorts.flatMap((port) =>
      ['0.0.0.0', '127.0.0.1', '[__]', '[__1]'].map(
        (host) => `listener.${host}_${port}.downstream_cx_active`,
      ),
    ),
  ]);
  return parseStats(body)
    .filter(
      ({ name }) =>
        name.startsWith('listener.') &&
        !name.includes('worker_') &&
        !name.startsWith('listener.envoy_internal_') &&
        !excluded.has(name),
    )
    .reduce((sum, { value }) => sum + value, 0);
}
