import { BackOff, defaultBackOff } from '../back-off.ts';
import { type Clock, wait } from '../clock.ts';
import { describeError, type Logger } from '../log.ts';
import type { SecretSource } from './certificate-store.ts';
import { workloadName, workloadRootName } from './secret-name.ts';

export interface WarmUpOptions {
  readonly source: SecretSource;
  readonly log: Logger;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
}

/**
 * Asks for the workload's certificate and roots without Envoy: at start, so that Envoy need not wait for the CA, and at
 * each change where they are written for others. Tries with growing waits until it has both.
 */
export class WarmUp {
  readonly #options: WarmUpOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  #isWanted = false;

  constructor(options: WarmUpOptions) {
    this.#options = options;
  }

  /** In the background; once more when it is going on already. */
  start(): void {
    this.#isWanted = true;
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { source, log, clock, random } = this.#options;
    const { signal } = this.#closing;
    const backOff = new BackOff({ ...defaultBackOff, random });
    try {
      while (this.#isWanted) {
        this.#isWanted = false;
        try {
          await source.generate(workloadName, { signal });
          await source.generate(workloadRootName, { signal });
          backOff.reset();
        } catch (error) {
          signal.throwIfAborted();
          this.#isWanted = true;
          const waitMs = backOff.nextMs();
          log.warn('failed to warm certificate', {
            waitMs: Math.round(waitMs),
            reason: describeError(error),
          });
          await wait(clock, waitMs, { signal });
        }
      }
    } catch {
      // Only the abort comes here.
    } finally {
      this.#running = undefined;
    }
  }
}
