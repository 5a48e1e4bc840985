import type { StatusMetrics } from '../../metrics/status-metrics.ts';
import { describeError, type Logger } from '../log.ts';

/** One condition of readiness. */
export interface ReadinessCheck {
  /** For the reason when the check itself breaks or hangs. */
  readonly name: string;
  /** Undefined when the condition holds, else the reason. Bounds its own time; latches are its own too. */
  check(): Promise<string | undefined>;
}

/** What Readiness is built from. */
export interface ReadinessOptions {
  /** Asked in this order; the first reason decides. */
  readonly checks: readonly ReadinessCheck[];
  readonly metrics: StatusMetrics;
  readonly log: Logger;
  /** Seconds since the process started. */
  readonly uptimeSeconds?: () => number;
  /** How long a probe waits for checks that hang. */
  readonly patienceMs?: number;
}

/** Above the sum of the stock checks' own limits (1 s and 3 s). */
const defaultPatienceMs = 5000;

type Verdict = { readonly kind: 'ready' } | { readonly kind: 'unready'; readonly reason: string };

/**
 * The answer to `/healthz/ready`. Probes that come while checks run share their result, so that the state is never
 * changed by two at once. Log lines are the stock agent's (`pilot/cmd/pilot-agent/status/server.go`).
 */
export class Readiness {
  readonly #options: ReadinessOptions;
  #running: Promise<Verdict> | undefined;
  #currentCheck = '';
  #wasReady = false;
  #hasBeenReady = false;

  constructor(options: ReadinessOptions) {
    this.#options = options;
  }

  /** True when every check holds. Logs the reason, or the change to ready. Never throws. */
  async probe(): Promise<boolean> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    const { patienceMs = defaultPatienceMs } = this.#options;
    const timer = Promise.withResolvers<Verdict>();
    const timeout = setTimeout(() => {
      timer.resolve({ kind: 'unready', reason: `${this.#currentCheck}: no result within ${patienceMs} ms` });
    }, patienceMs);
    try {
      return this.#settle(await Promise.race([this.#running, timer.promise]));
    } finally {
      clearTimeout(timeout);
    }
  }

  async #run(): Promise<Verdict> {
    for (const check of this.#options.checks) {
      this.#currentCheck = check.name;
      const reason = await askCheck(check);
      if (reason !== undefined) return { kind: 'unready', reason };
    }
    return { kind: 'ready' };
  }

  #settle(verdict: Verdict): boolean {
    const { log, metrics, uptimeSeconds = () => process.uptime() } = this.#options;
    switch (verdict.kind) {
      case 'unready':
        this.#wasReady = false;
        log.warn(`Envoy proxy is NOT ready: ${verdict.reason}`);
        return false;
      case 'ready':
        if (!this.#hasBeenReady) {
          const seconds = uptimeSeconds();
          metrics.startupDurationSeconds(seconds);
          // The words of the stock agent, which start-up times are taken from.
          log.info(`Readiness succeeded in ${seconds}s`);
        }
        this.#hasBeenReady = true;
        if (!this.#wasReady) log.info('Envoy proxy is ready');
        this.#wasReady = true;
        return true;
      default:
        return verdict satisfies never;
    }
  }
}

async function askCheck(check: ReadinessCheck): Promise<string | undefined> {
  try {
    return await check.check();
  } catch (error) {
    return `${check.name}: ${describeError(error)}`;
  }
}
