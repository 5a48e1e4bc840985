import type { BlobStore } from '../../cache/types.ts';
import type { Logger } from '../log.ts';
import { basicAuthorization } from './basic-authorization.ts';
import { HostRest } from './host-rest.ts';
import type { HttpClient, HttpResponse } from './http-client.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import { type ReceivedModule, type RejectedBytes, receiveModule, servedTooLarge } from './module-receiver.ts';
import { displayUrl } from './module-url.ts';
import { isTransient } from './network-failure.ts';
import {
  type Attempt,
  type BackOff,
  type FetchClock,
  type FetchLimits,
  parseRetryAfter,
  pause,
  retry,
  StatusFailure,
} from './retry.ts';
import { FetchError } from './types.ts';

export interface HttpSourceOptions {
  readonly client: HttpClient;
  readonly store: BlobStore;
  readonly insecureHosts: InsecureHosts;
  readonly log: Logger;
  readonly clock: FetchClock;
  /** Per attempt, headers and body. */
  readonly attemptTimeoutMs: number;
  /** 0 counts as 1. */
  readonly maxAttemptCount: number;
  readonly maxModuleBytes: () => number;
  /** Default: its own. */
  readonly rest?: HostRest;
  /** First wait; the following ones grow. Default 500. */
  readonly firstWaitMs?: number;
}

/** Growth of the wait, its random share, and its cap (istio/istio `pkg/backoff`). */
const waitFactor = 1.5;
const waitJitter = 0.5;
const maxWaitMs = 60_000;
const tooManyRequests = 429;

/** Wait after the given number of failed attempts. Pure. */
export function httpWaitMs(firstWaitMs: number, failedCount: number, random: number): number {
  const meanMs = Math.min(maxWaitMs, firstWaitMs * waitFactor ** (failedCount - 1));
  return meanMs * (1 - waitJitter + 2 * waitJitter * random);
}

/** True for an answer after which a later one may be better: 408, 429, and 5xx but 501, 505 and 511. Pure. */
export function isHttpStatusRetried(status: number): boolean {
  if (status === 408 || status === 429) return true;
  return status >= 500 && ![501, 505, 511].includes(status);
}

/** Downloads modules from http and https URLs (istio/istio `pkg/wasm/httpfetcher.go`). */
export class HttpSource {
  readonly #options: HttpSourceOptions;
  readonly #backOff: BackOff;
  readonly #rest: HostRest;

  constructor(options: HttpSourceOptions) {
    this.#options = options;
    this.#rest = options.rest ?? new HostRest({ nowMs: options.clock.nowMs });
    const firstWaitMs = options.firstWaitMs ?? 500;
    this.#backOff = {
      maxAttemptCount: Math.max(1, options.maxAttemptCount),
      waitMs: (failedCount, random) => httpWaitMs(firstWaitMs, failedCount, random),
    };
  }

  /**
   * The module, received but not kept yet, or what was served instead. `isPinned`: the caller will verify a digest,
   * so a redirect to plain http does no harm. Throws FetchError with the result `download_failure`.
   */
  async download(
    url: string,
    options: { readonly isPinned: boolean; readonly limits: FetchLimits },
  ): Promise<ReceivedModule | RejectedBytes> {
    const { limits } = options;
    const outcome = await retry(
      this.#backOff,
      async () => this.#attempt(url, options.isPinned, limits),
      limits,
      this.#options.clock,
    );
    if (outcome.kind === 'done') return outcome.value;
    const { error, attemptCount, stoppedBy } = outcome;
    const attempts = `wasm module download failed after ${attemptCount} attempts, last error: ${error.message}`;
    throw new FetchError(
      error.code,
      stoppedBy === 'deadline' ? `${attempts} (no time is left for another attempt)` : attempts,
      {
        cause: error,
        result: 'download_failure',
        ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
      },
    );
  }

  async #attempt(
    url: string,
    isPinned: boolean,
    limits: FetchLimits,
  ): Promise<Attempt<ReceivedModule | RejectedBytes>> {
    const { client, store, attemptTimeoutMs } = this.#options;
    const maxModuleBytes = this.#options.maxModuleBytes();
    const { host, pathname } = new URL(url);
    const signal = AbortSignal.any([limits.signal, AbortSignal.timeout(attemptTimeoutMs)]);
    try {
      await this.#awaitRest(host, pathname, limits);
      const response = await client.send(
        {
          url,
          method: 'GET',
          headers: { accept: '*/*' },
          authorization: basicAuthorization(new URL(url)),
          redirects: {
            isInternalLiteralRefused: false,
            isPlainHttpAllowed: (hostText) =>
              isPinned || this.#options.insecureHosts.isPlainHttpAllowed(hostText),
          },
        },
        { signal },
      );
      if (response.status !== 200) return await this.#unwanted(url, response);
      this.#rest.served(host, pathname);
      if (Number(response.header('content-length')) > maxModuleBytes) {
        await response.discard();
        return { kind: 'failed', error: servedTooLarge(maxModuleBytes), isRetryable: false };
      }
      const value = await receiveModule(response.body, {
        store,
        tarRule: 'module-bytes',
        maxSizeBytes: maxModuleBytes,
        signal: limits.signal,
      });
      return { kind: 'done', value };
    } catch (error) {
      if (!(error instanceof FetchError)) throw error;
      this.#options.log.debug('wasm module download attempt failed', {
        url: displayUrl(url),
        error: error.message,
      });
      return { kind: 'failed', error, isRetryable: isTransient(error) };
    }
  }

  /** Waits while the host wants to be left alone. Throws FetchError `http_status` when that is for too long. */
  async #awaitRest(host: string, part: string, limits: FetchLimits): Promise<void> {
    const restMs = this.#rest.restMs(host, part);
    if (restMs === 0) return;
    const seconds = Math.ceil(restMs / 1000);
    const message = `${host}: not asked, it has answered with status code ${tooManyRequests} (too many requests) and wants to be left alone for another ${seconds} s`;
    const limited = new StatusFailure(tooManyRequests, message, restMs);
    if (!(await pause(restMs, limited, limits, this.#options.clock))) throw limited;
  }

  async #unwanted(url: string, response: HttpResponse): Promise<Attempt<never>> {
    const { status } = response;
    const retryAfterMs = parseRetryAfter(response.header('retry-after'), Date.now());
    await response.discard();
    this.#options.log.debug('wasm module download answered', { url: displayUrl(url), status });
    const message = `wasm module download request failed: status code ${status}`;
    const isRetryable = isHttpStatusRetried(status);
    if (status === tooManyRequests) {
      const { host, pathname } = new URL(url);
      const waitMs = this.#backOff.waitMs(1, this.#options.clock.random());
      this.#rest.limited(host, pathname, retryAfterMs ?? waitMs);
    }
    const error = new StatusFailure(status, message, isRetryable ? retryAfterMs : undefined);
    return { kind: 'failed', error, isRetryable };
  }
}
