import type { BlobStore } from '../../cache/types.ts';
import { timeoutSignal } from '../clock.ts';
import type { Logger } from '../log.ts';
import { basicAuthorization } from './basic-authorization.ts';
import type { ByteStream } from './byte-stream.ts';
import { HostRest } from './host-rest.ts';
import type { HttpClient, HttpResponse } from './http-client.ts';
import {
  conditionHeaders,
  type HttpValidators,
  isSameFile,
  rangeValidator,
  readValidators,
} from './http-validators.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import {
  type ReceivedModule,
  type RejectedBytes,
  receiveModule,
  type ServedWatch,
  servedTooLarge,
} from './module-receiver.ts';
import { displayUrl } from './module-url.ts';
import { isTransient } from './network-failure.ts';
import { rangeHeader, readResumed } from './resumed-body.ts';
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
  readonly watch?: ServedWatch | undefined;
}

/** What a URL gave. */
export interface HttpDownload {
  readonly received: ReceivedModule | RejectedBytes | { readonly kind: 'unchanged' };
  /** By which the server will know whether it has changed; undefined when it gives nothing for that. */
  readonly validators: HttpValidators | undefined;
}

/** One file that is being downloaded. */
interface Target {
  readonly url: string;
  readonly isPinned: boolean;
  readonly limits: FetchLimits;
  /** Requests that were made. */
  sentCount: number;
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
   * The module, received but not kept yet, or what was served instead, or word that it is the one that is `known`.
   * A body that breaks off is taken up where it broke, when the server says how to tell that the rest belongs to it.
   * `isPinned`: the caller will verify a digest, so a redirect to plain http does no harm. Throws FetchError with the
   * result `download_failure`.
   */
  async download(
    url: string,
    options: {
      readonly isPinned: boolean;
      readonly known?: HttpValidators | undefined;
      readonly limits: FetchLimits;
    },
  ): Promise<HttpDownload> {
    const { limits } = options;
    const target: Target = { url, isPinned: options.isPinned, limits, sentCount: 0 };
    const outcome = await retry(
      this.#backOff,
      async (attemptCount) => this.#attempt(target, options.known, attemptCount),
      limits,
      this.#options.clock,
    );
    if (outcome.kind === 'done') return outcome.value;
    const { error, stoppedBy } = outcome;
    // What was not even sent counts too.
    const attemptCount = Math.max(target.sentCount, outcome.attemptCount);
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
    target: Target,
    known: HttpValidators | undefined,
    attemptCount: number,
  ): Promise<Attempt<HttpDownload>> {
    const { store } = this.#options;
    const maxModuleBytes = this.#options.maxModuleBytes();
    let isExhausted = false;
    try {
      const response = await this.#ask(target, conditionHeaders(known), [200, ...(known ? [304] : [])]);
      const validators = readValidators(response);
      if (response.status === 304) {
        await response.discard();
        return { kind: 'done', value: { received: { kind: 'unchanged' }, validators: validators ?? known } };
      }
      if (Number(response.header('content-length')) > maxModuleBytes) {
        await response.discard();
        return { kind: 'failed', error: servedTooLarge(maxModuleBytes), isRetryable: false };
      }
      const onExhausted = (): void => {
        isExhausted = true;
      };
      const received = await receiveModule(this.#body(target, response, attemptCount, onExhausted), {
        store,
        tarRule: 'module-bytes',
        maxSizeBytes: maxModuleBytes,
        signal: target.limits.signal,
        announcedBytes: Number(response.header('content-length')) || undefined,
        watch: this.#options.watch,
      });
      return { kind: 'done', value: { received, validators } };
    } catch (error) {
      if (!(error instanceof FetchError)) throw error;
      this.#options.log.debug('wasm module download attempt failed', {
        url: displayUrl(target.url),
        error: error.message,
      });
      return { kind: 'failed', error, isRetryable: isRetryable(error) && !isExhausted };
    }
  }

  /** The bytes of an answer, and where they break off the rest. `onExhausted`: no more tries are to be made. */
  #body(target: Target, first: HttpResponse, attemptCount: number, onExhausted: () => void): ByteStream {
    const validator = rangeValidator(first);
    if (validator === undefined) return first.body;
    const { limits } = target;
    let isFirstTaken = false;
    return readResumed({
      failedCount: attemptCount - 1,
      ask: async (startBytes, failedCount) => {
        // A body that broke before its first byte has ended: read again it would be taken for an empty file.
        if (!isFirstTaken) {
          isFirstTaken = true;
          return first;
        }
        const headers = startBytes === 0 ? {} : { ...rangeHeader(startBytes), 'if-range': validator };
        const outcome = await retry(
          { ...this.#backOff, maxAttemptCount: Math.max(1, this.#backOff.maxAttemptCount - failedCount) },
          async () => this.#attemptRest(target, headers),
          limits,
          this.#options.clock,
        );
        if (outcome.kind === 'failed') {
          onExhausted();
          throw outcome.error;
        }
        const next = outcome.value;
        if (next.status !== 416 && isSameFile(first, next)) return next;
        await next.discard();
        throw new FetchError('network', `${displayUrl(target.url)}: the file has changed while it was read`);
      },
      mayGoOn: async (error, failedCount) => {
        if (!(error instanceof FetchError) || !isRetryable(error) || limits.signal.aborted) return false;
        const { maxAttemptCount, waitMs } = this.#backOff;
        const { clock } = this.#options;
        const mayGoOn =
          failedCount < maxAttemptCount &&
          (await pause(waitMs(failedCount, clock.random()), error, limits, clock));
        if (!mayGoOn) onExhausted();
        return mayGoOn;
      },
    });
  }

  /** Status 416: the file is shorter now. */
  async #attemptRest(
    target: Target,
    headers: Readonly<Record<string, string>>,
  ): Promise<Attempt<HttpResponse>> {
    try {
      return { kind: 'done', value: await this.#ask(target, headers, [200, 206, 416]) };
    } catch (error) {
      if (!(error instanceof FetchError)) throw error;
      return { kind: 'failed', error, isRetryable: isRetryable(error) };
    }
  }

  /** One request. Throws FetchError, a StatusFailure for a status that is not wanted. */
  async #ask(
    target: Target,
    headers: Readonly<Record<string, string>>,
    wanted: readonly number[],
  ): Promise<HttpResponse> {
    const { client, attemptTimeoutMs, insecureHosts } = this.#options;
    const { url, isPinned, limits } = target;
    const { host, pathname } = new URL(url);
    await this.#awaitRest(host, pathname, limits);
    // Not before the rest, which may be longer than an attempt.
    const signal = AbortSignal.any([limits.signal, timeoutSignal(attemptTimeoutMs)]);
    target.sentCount += 1;
    const response = await client.send(
      {
        url,
        method: 'GET',
        headers: { accept: '*/*', ...headers },
        authorization: basicAuthorization(new URL(url)),
        redirects: {
          isInternalLiteralRefused: false,
          isPlainHttpAllowed: (hostText) => isPinned || insecureHosts.isPlainHttpAllowed(hostText),
        },
      },
      { signal },
    );
    if (!wanted.includes(response.status)) throw await this.#unwanted(url, response);
    this.#rest.served(host, pathname);
    return response;
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

  async #unwanted(url: string, response: HttpResponse): Promise<StatusFailure> {
    const { status } = response;
    const retryAfterMs = parseRetryAfter(response.header('retry-after'), Date.now());
    await response.discard();
    this.#options.log.debug('wasm module download answered', { url: displayUrl(url), status });
    const message = `wasm module download request failed: status code ${status}`;
    if (status === tooManyRequests) {
      const { host, pathname } = new URL(url);
      const waitMs = this.#backOff.waitMs(1, this.#options.clock.random());
      this.#rest.limited(host, pathname, retryAfterMs ?? waitMs);
    }
    return new StatusFailure(status, message, isHttpStatusRetried(status) ? retryAfterMs : undefined);
  }
}

function isRetryable(error: FetchError): boolean {
  return isTransient(error) || (error instanceof StatusFailure && isHttpStatusRetried(error.status));
}
