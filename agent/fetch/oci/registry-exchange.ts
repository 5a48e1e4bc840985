import type { LRUCache } from 'lru-cache';
import type { CredentialHelpers } from '../credential-helper.ts';
import type { ResolvedCredential } from '../credentials.ts';
import type { HostRest } from '../host-rest.ts';
import type { HttpClient, HttpRequest, HttpResponse } from '../http-client.ts';
import type { InsecureHosts } from '../insecure-hosts.ts';
import { isTransient } from '../network-failure.ts';
import type { RedirectRule } from '../redirect.ts';
import {
  type Attempt,
  type BackOff,
  type FetchClock,
  type FetchLimits,
  pause,
  retry,
  StatusFailure,
} from '../retry.ts';
import { FetchError } from '../types.ts';
import { RegistryAuthorization } from './authorization.ts';
import type { OciReference } from './reference.ts';
import { probeRegistry } from './registry-probe.ts';
import { isRegistryStatusRetried, registryStatusFailure } from './registry-status.ts';
import type { TokenCache } from './token-cache.ts';

/** What the sessions of one client share. */
export interface SharedState {
  readonly client: HttpClient;
  readonly insecureHosts: InsecureHosts;
  readonly clock: FetchClock;
  /** First wait between tries of one request; the second is three times as long. */
  readonly firstWaitMs: number;
  readonly tokens: TokenCache;
  readonly helpers: CredentialHelpers;
  readonly rest: HostRest;
  /** How a registry was last spoken to: scheme and host. */
  readonly origins: LRUCache<string, string>;
}

/** Tries per request, growth and random share of the waits (google/go-containerregistry `pkg/v1/remote/options.go`). */
export const maxAttemptCount = 3;
const waitFactor = 3;
const waitJitter = 0.1;

/** Wait after the given number of failed tries of a request, in ms; `random` is in [0, 1). Pure. */
export function registryWaitMs(firstWaitMs: number, failedCount: number, random: number): number {
  return firstWaitMs * waitFactor ** (failedCount - 1) * (1 - waitJitter + 2 * waitJitter * random);
}

const tooManyRequests = 429;

/** One request to a repository. */
export interface Question {
  /** After `/v2/<repository>/`. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Statuses that are an answer; any other is a failure. */
  readonly wanted: readonly number[];
  readonly method?: 'GET' | 'HEAD';
}

/** Requests to one repository with one credential: how it is spoken to, who is let in, what is tried again. */
export class RegistryExchange {
  readonly #shared: SharedState;
  readonly #reference: OciReference;
  readonly #credential: ResolvedCredential;
  readonly #namespace: string | undefined;
  readonly #backOff: BackOff;
  readonly #redirects: RedirectRule;
  #origin = '';
  readonly #authorization: RegistryAuthorization;

  /** `namespace` is sent with each request. To be used after `begin`. */
  constructor(options: {
    readonly shared: SharedState;
    readonly reference: OciReference;
    readonly credential: ResolvedCredential;
    readonly namespace: string | undefined;
  }) {
    const { shared, reference, credential } = options;
    this.#shared = shared;
    this.#namespace = options.namespace;
    this.#reference = reference;
    this.#credential = credential;
    const { firstWaitMs } = shared;
    this.#backOff = {
      maxAttemptCount,
      waitMs: (failedCount, random) => registryWaitMs(firstWaitMs, failedCount, random),
    };
    this.#redirects = {
      isInternalLiteralRefused: true,
      isPlainHttpAllowed: (hostText) => shared.insecureHosts.isPlainHttpAllowed(hostText),
    };
    const { client } = shared;
    this.#authorization = new RegistryAuthorization({
      client,
      redirects: this.#redirects,
      reference,
      credential,
      helpers: shared.helpers,
      tokens: shared.tokens,
    });
  }

  /** True when the registry asked for the credential and got it: what was read is then for its holders only. */
  get isCredentialUsed(): boolean {
    return this.#authorization.isCredentialUsed;
  }

  /** See `RegistryClient.open`, which calls it. */
  async begin(options: { readonly limits: FetchLimits }): Promise<void> {
    const { limits } = options;
    const { registry } = this.#reference;
    const { insecureHosts } = this.#shared;
    const known = this.#shared.origins.get(registry);
    if (known !== undefined) {
      this.#origin = known;
    } else if (insecureHosts.isPlainHttpMeant(registry)) {
      this.#origin = new URL(`http://${registry}`).origin;
    } else if (!insecureHosts.isPlainHttpAllowed(registry)) {
      // There is one way only: the first request will tell whether it works.
      this.#origin = new URL(`https://${registry}`).origin;
    } else {
      await this.#retried(limits, async () => {
        const ping = async (origin: string, signal: AbortSignal): Promise<HttpResponse> =>
          this.#send(`${origin}/v2/`, {}, signal);
        const { origin, response } = await probeRegistry(registry, ping, { signal: limits.signal });
        this.#origin = origin;
        await this.#takePing(response, limits.signal);
      });
      this.#shared.origins.set(registry, this.#origin);
    }
  }

  /**
   * Asks for something of the repository, and again after a failure that may pass. `read` gets an answer with one of
   * the wanted statuses and must read or discard it. Throws FetchError.
   */
  async ask<Value>(
    question: Question,
    limits: FetchLimits,
    read: (response: HttpResponse) => Promise<Value>,
  ): Promise<Value> {
    const { path, headers, wanted, method = 'GET' } = question;
    const url = this.#url(path);
    const { registry, repository } = this.#reference;
    return this.#retried(limits, async () => {
      await this.#awaitRest(limits);
      let response = await this.#send(url, headers, limits.signal, method);
      if (await this.#isAnswered(response, limits.signal)) {
        response = await this.#send(url, headers, limits.signal, method);
      }
      if (!wanted.includes(response.status)) throw await this.#failure(response, path);
      this.#shared.rest.served(registry, repository);
      return read(response);
    });
  }

  /**
   * Waits before going on after a failure. False when it cannot pass, or there have been too many, or no time is left.
   */
  async mayGoOn(error: unknown, failedCount: number, limits: FetchLimits): Promise<boolean> {
    if (!(error instanceof FetchError) || !isRetryable(error, limits)) return false;
    if (failedCount >= maxAttemptCount) return false;
    const waitMs = this.#backOff.waitMs(failedCount, this.#shared.clock.random());
    return pause(waitMs, error, limits, this.#shared.clock);
  }

  #url(path: string): string {
    const url = `${this.#origin}/v2/${this.#reference.repository}/${path}`;
    if (this.#namespace === undefined) return url;
    return `${url}${path.includes('?') ? '&' : '?'}ns=${encodeURIComponent(this.#namespace)}`;
  }

  /** True when the refusal was answered, and freed: the request is to be sent again. */
  async #isAnswered(response: HttpResponse, signal: AbortSignal): Promise<boolean> {
    const { status } = response;
    if (status === 401 && response.headers('www-authenticate').length > 0) {
      await this.#authorize(response, signal);
      return true;
    }
    // Some hide what nobody may see, and ask for credentials nowhere but here.
    const isHidden = status === 401 || status === 403 || status === 404;
    if (!isHidden || this.#credential.credential.kind === 'anonymous') return false;
    if (this.#authorization.value !== undefined) return false;
    const ping = await this.#send(`${this.#origin}/v2/`, {}, signal);
    if (ping.status === 401 && ping.headers('www-authenticate').length > 0) {
      await response.discard();
      await this.#authorize(ping, signal);
      return true;
    }
    await ping.discard();
    if (!this.#origin.startsWith('https:') || !(await this.#authorization.offer({ signal }))) return false;
    await response.discard();
    return true;
  }

  async #takePing(response: HttpResponse, signal: AbortSignal): Promise<void> {
    const { status } = response;
    if (status === 401) await this.#authorize(response, signal);
    else if (isRegistryStatusRetried(status)) throw await this.#failure(response, '/v2/');
    else await response.discard();
  }

  /** Waits while the registry wants to be left alone. Throws FetchError `http_status` when that is for too long. */
  async #awaitRest(limits: FetchLimits): Promise<void> {
    const { registry, repository } = this.#reference;
    const restMs = this.#shared.rest.restMs(registry, repository);
    if (restMs === 0) return;
    const seconds = Math.ceil(restMs / 1000);
    const limited = new StatusFailure(
      tooManyRequests,
      `${registry}/${repository}: not asked, the registry has answered with status code 429 (too many requests) and wants to be left alone for another ${seconds} s`,
      restMs,
    );
    if (!(await pause(restMs, limited, limits, this.#shared.clock))) throw limited;
  }

  async #send(
    url: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    method: HttpRequest['method'] = 'GET',
  ): Promise<HttpResponse> {
    const authorization = this.#authorization.value;
    const redirects = this.#redirects;
    try {
      return await this.#shared.client.send({ url, method, headers, authorization, redirects }, { signal });
    } catch (error) {
      // It may be spoken to in another way by now.
      this.#shared.origins.delete(this.#reference.registry);
      throw error;
    }
  }

  async #authorize(response: HttpResponse, signal: AbortSignal): Promise<void> {
    await this.#authorization.answer(response, { registryOrigin: this.#origin, signal });
  }

  async #failure(response: HttpResponse, what: string): Promise<FetchError> {
    const { registry, repository } = this.#reference;
    const { credential } = this.#credential;
    const failure = await registryStatusFailure(response, what, {
      reference: this.#reference,
      credential: this.#credential,
    });
    if (response.status === tooManyRequests) {
      const restMs = failure.retryAfterMs ?? this.#backOff.waitMs(1, this.#shared.clock.random());
      this.#shared.rest.limited(registry, repository, restMs);
    }
    if (response.status === 401) {
      this.#authorization.forget();
      if (credential.kind === 'helper') this.#shared.helpers.forget(credential);
    }
    return failure;
  }

  /** Runs one exchange with up to three tries. */
  async #retried<Value>(limits: FetchLimits, exchange: () => Promise<Value>): Promise<Value> {
    const outcome = await retry(
      this.#backOff,
      async (): Promise<Attempt<Value>> => {
        try {
          return { kind: 'done', value: await exchange() };
        } catch (error) {
          if (!(error instanceof FetchError)) throw error;
          return { kind: 'failed', error, isRetryable: isRetryable(error, limits) };
        }
      },
      limits,
      this.#shared.clock,
    );
    if (outcome.kind === 'done') return outcome.value;
    throw outcome.error;
  }
}

function isRetryable(error: FetchError, limits: FetchLimits): boolean {
  if (limits.signal.aborted) return false;
  return isTransient(error) || (error instanceof StatusFailure && isRegistryStatusRetried(error.status));
}
