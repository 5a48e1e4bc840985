import { systemClock, unlessAborted, wait as waitOn } from '../clock.ts';
import type { ReadinessProbe } from '../config/readiness-probe.ts';
import { describeError, type Logger } from '../log.ts';
import {
  countResult,
  type HealthCounts,
  initialHealthCounts,
  type ProbeResult,
  type WorkloadHealth,
} from './health-state.ts';
import { HttpProbe } from './http-probe.ts';
import { withProbeDeadline } from './probe-deadline.ts';
import { ProbeDialer } from './probe-dialer.ts';
import { probeWorkload, type WorkloadProbeParts } from './workload-probe.ts';

export interface WorkloadHealthOptions {
  readonly probe: ReadinessProbe;
  /** All addresses of this machine, its first one leading. */
  readonly instanceIps: readonly string[];
  /** `REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION`: probes without a host go to `localhost`, not to the first address. */
  readonly isLocalhostProbed: boolean;
  /** Why Envoy is not ready, asked before each probe; undefined without Envoy. Bounds its own time. */
  readonly checkEnvoy: (() => Promise<string | undefined>) | undefined;
  /** Called with every change of state, the first state included. */
  readonly onChange: (health: WorkloadHealth) => void;
  readonly log: Logger;
  /** Resolves after a time; rejects when aborted. */
  readonly wait?: (delayMs: number, options: { readonly signal: AbortSignal }) => Promise<void>;
}

/** A reason goes to istiod and into the status of a WorkloadEntry. */
const maxReasonCharacters = 1024;

/**
 * Probes the workload from construction on: after the initial delay at once, then once a period, and tells changes.
 * A probe that takes longer than the period makes the next one late, never a second one.
 */
export class WorkloadHealthChecker {
  readonly #options: WorkloadHealthOptions;
  readonly #parts: WorkloadProbeParts;
  readonly #end = new AbortController();
  readonly #done: Promise<void>;
  #counts: HealthCounts = initialHealthCounts;

  constructor(options: WorkloadHealthOptions) {
    this.#options = options;
    const { instanceIps, isLocalhostProbed } = options;
    const dialer = new ProbeDialer({ ownAddresses: instanceIps });
    this.#parts = {
      dialer,
      http: new HttpProbe({ dialer, isHttp2Offered: false, isConnectionKept: false }),
      defaultHost: isLocalhostProbed ? 'localhost' : (instanceIps[0] ?? 'localhost'),
    };
    this.#done = this.#run();
  }

  /** Ends a probe that runs; resolves when nothing is left of it. */
  async close(): Promise<void> {
    this.#end.abort(new Error('the agent is shutting down'));
    await this.#done;
    await this.#parts.http.close();
  }

  async #run(): Promise<void> {
    const { probe, log, wait = (delayMs, options) => waitOn(systemClock, delayMs, options) } = this.#options;
    const { signal } = this.#end;
    log.info('starting health checks of the workload', {
      method: probe.method.kind,
      initialDelayMs: probe.initialDelayMs,
      periodMs: probe.periodMs,
    });
    try {
      await wait(probe.initialDelayMs, { signal });
      let nextMs = performance.now();
      for (;;) {
        const result = await this.#probe();
        signal.throwIfAborted();
        this.#count(result);
        // Missed turns are left out, as a ticker leaves them out.
        const nowMs = performance.now();
        nextMs = Math.max(nextMs + probe.periodMs, nowMs);
        await wait(nextMs - nowMs, { signal });
      }
    } catch (error) {
      if (!signal.aborted)
        log.error('health checks of the workload have ended', { reason: describeError(error) });
    }
  }

  async #probe(): Promise<ProbeResult> {
    const { probe, checkEnvoy } = this.#options;
    const { timeoutMs, method } = probe;
    try {
      const { signal } = this.#end;
      const envoyReason =
        checkEnvoy === undefined ? undefined : await unlessAborted(checkEnvoy(), { signal });
      if (envoyReason !== undefined) return unhealthy(envoyReason);
      await withProbeDeadline({ timeoutMs, signal }, (signal) =>
        probeWorkload(method, this.#parts, { timeoutMs, signal }),
      );
      return { kind: 'healthy' };
    } catch (error) {
      return unhealthy(describeError(error));
    }
  }

  #count(result: ProbeResult): void {
    const { probe, onChange, log } = this.#options;
    const { counts, event } = countResult(this.#counts, result, probe);
    this.#counts = counts;
    switch (result.kind) {
      case 'healthy':
        log.debug('probe completed with healthy status');
        if (event !== undefined) log.info('success threshold hit, marking as healthy');
        break;
      case 'unhealthy':
        log.debug('probe completed with unhealthy status', { reason: result.reason });
        if (event !== undefined)
          log.info('failure threshold hit, marking as unhealthy', { reason: result.reason });
        break;
      default:
        result satisfies never;
    }
    if (event !== undefined) onChange(event);
  }
}

function unhealthy(reason: string): ProbeResult {
  return {
    kind: 'unhealthy',
    reason: reason.length > maxReasonCharacters ? `${reason.slice(0, maxReasonCharacters)}...` : reason,
  };
}
