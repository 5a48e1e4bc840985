import { LRUCache } from 'lru-cache';
import type { Sha256 } from '../../../cache/types.ts';
import { readBounded } from '../bounded-body.ts';
import { CredentialHelpers } from '../credential-helper.ts';
import type { ResolvedCredential } from '../credentials.ts';
import { HostRest } from '../host-rest.ts';
import type { HttpClient, HttpRequest, HttpResponse } from '../http-client.ts';
import type { InsecureHosts } from '../insecure-hosts.ts';
import { isTlsAbsent, isTransient } from '../network-failure.ts';
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
import type { ImageSession, ManifestAnswer, ManifestTarget } from './image-session.ts';
import { manifestAccept, maxManifestBytes } from './manifest.ts';
import { type OciReference, sha256Of } from './reference.ts';
import { isRegistryStatusRetried, registryStatusFailure } from './registry-status.ts';
import { TokenCache } from './token-cache.ts';

export type { ManifestAnswer, ManifestTarget } from './image-session.ts';

export interface RegistryOptions {
  readonly client: HttpClient;
  readonly insecureHosts: InsecureHosts;
  readonly clock: FetchClock;
  /** First wait between tries of one request; the second is three times as long. Default 1000. */
  readonly firstWaitMs?: number;
  /** Default: its own. */
  readonly helpers?: CredentialHelpers;
  /** Default: its own. */
  readonly rest?: HostRest;
}

/** What the sessions of one client share. */
interface SharedState {
  readonly tokens: TokenCache;
  readonly helpers: CredentialHelpers;
  readonly rest: HostRest;
  /** How a registry was last spoken to: scheme and host. */
  readonly origins: LRUCache<string, string>;
}

/** Tries per request, growth and random share of the waits (google/go-containerregistry `pkg/v1/remote/options.go`). */
const maxAttemptCount = 3;
const waitFactor = 3;
const waitJitter = 0.1;

const tooManyRequests = 429;

/** How long TLS may take at a host that may also speak plain HTTP, before that is tried. */
const tlsProbeMs = 3_000;

/** Far more registries than one pod asks. */
const maxOriginCount = 256;
/** A registry that got TLS is found out about after this long. */
const originLifetimeMs = 10 * 60_000;
/** After this much of a blob a broken connection is not counted with those before. */
const progressBytes = 64 * 1024;

/** Opens sessions with registries; holds nothing but what all of them share: tokens, and who is to be left alone. */
export class RegistryClient {
  readonly #options: RegistryOptions;
  readonly #shared: SharedState;

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#shared = {
      tokens: new TokenCache(),
      helpers: options.helpers ?? new CredentialHelpers(),
      rest: options.rest ?? new HostRest({ nowMs: options.clock.nowMs }),
      origins: new LRUCache({ max: maxOriginCount, ttl: originLifetimeMs }),
    };
  }

  /**
   * Finds out how the registry is spoken to; no request is made where that is clear. `namespace` is sent with each
   * request, for mirrors of several registries. Throws FetchError `network`, `tls`, `timeout`, `aborted`,
   * `blocked_address`, `redirect`, `unauthorized`, `http_status`.
   */
  async open(
    reference: OciReference,
    credential: ResolvedCredential,
    options: { readonly limits: FetchLimits; readonly namespace?: string | undefined },
  ): Promise<RegistrySession> {
    const session = new RegistrySession(
      this.#options,
      this.#shared,
      reference,
      credential,
      options.namespace,
    );
    await session.begin(options);
    return session;
  }
}

/** One way in to one repository with one credential. Holds no connection; each call has its own limits. */
export class RegistrySession implements ImageSession {
  readonly #options: RegistryOptions;
  readonly #shared: SharedState;
  readonly #reference: OciReference;
  readonly #credential: ResolvedCredential;
  readonly #namespace: string | undefined;
  readonly #backOff: BackOff;
  readonly #redirects: RedirectRule;
  #origin = '';
  readonly #authorization: RegistryAuthorization;

  constructor(
    options: RegistryOptions,
    shared: SharedState,
    reference: OciReference,
    credential: ResolvedCredential,
    namespace: string | undefined,
  ) {
    this.#options = options;
    this.#shared = shared;
    this.#namespace = namespace;
    this.#reference = reference;
    this.#credential = credential;
    const firstWaitMs = options.firstWaitMs ?? 1_000;
    this.#backOff = {
      maxAttemptCount,
      waitMs: (failedCount, random) =>
        firstWaitMs * waitFactor ** (failedCount - 1) * (1 - waitJitter + 2 * waitJitter * random),
    };
    this.#redirects = {
      isInternalLiteralRefused: true,
      isPlainHttpAllowed: (hostText) => options.insecureHosts.isPlainHttpAllowed(hostText),
    };
    const { client } = options;
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
    const { insecureHosts } = this.#options;
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
        const { origin, response } = await this.#probe(limits.signal);
        this.#origin = origin;
        await this.#takePing(response, limits.signal);
      });
      this.#shared.origins.set(registry, this.#origin);
    }
  }

  /**
   * The digest that a tag has, as the registry claims it; undefined when it claims none, or does not answer this kind
   * of request. Only good for telling that nothing has changed: `knownDigest` is sent as the condition. Throws
   * FetchError.
   */
  async claimedDigest(
    tag: string,
    options: { readonly knownDigest: Sha256; readonly limits: FetchLimits },
  ): Promise<Sha256 | undefined> {
    const { knownDigest, limits } = options;
    const headers = { accept: manifestAccept, 'if-none-match': `"sha256:${knownDigest}"` };
    const wanted = [200, 304, 400, 404, 405, 501];
    return this.#get(
      `manifests/${tag}`,
      headers,
      wanted,
      limits,
      async (response) => {
        await response.discard();
        if (response.status === 304) return knownDigest;
        if (response.status !== 200) return undefined;
        return /^sha256:([0-9a-f]{64})$/.exec(response.header('docker-content-digest') ?? '')?.[1];
      },
      'HEAD',
    );
  }

  /** Reads a manifest whole and verifies the digest that was asked for. Throws FetchError. */
  async manifest(target: ManifestTarget, options: { readonly limits: FetchLimits }): Promise<ManifestAnswer> {
    const name = target.kind === 'tag' ? target.tag : `sha256:${target.digest}`;
    const headers = { accept: manifestAccept };
    return this.#get(`manifests/${name}`, headers, [200], options.limits, async (response) => {
      const bytes = await readBounded(response.body, {
        maxSizeBytes: maxManifestBytes,
        what: `manifest ${name}`,
      });
      const digest = sha256Of(bytes);
      if (target.kind === 'digest' && digest !== target.digest) {
        throw new FetchError(
          'digest_mismatch',
          `the registry answered for manifest sha256:${target.digest} with bytes of sha256:${digest}; do not trust it`,
        );
      }
      return { bytes, digest, mediaType: response.header('content-type') };
    });
  }

  /**
   * The bytes of a blob; not verified, the reader does that. When the connection breaks, the rest is asked for.
   * Throws FetchError.
   */
  async *blob(digest: Sha256, options: { readonly limits: FetchLimits }): AsyncGenerator<Uint8Array> {
    const { limits } = options;
    let receivedBytes = 0;
    for (let failedCount = 0; ; ) {
      const startBytes = receivedBytes;
      const headers: Record<string, string> = startBytes > 0 ? { range: `bytes=${startBytes}-` } : {};
      const wanted = startBytes > 0 ? [200, 206] : [200];
      const response = await this.#get(
        `blobs/sha256:${digest}`,
        headers,
        wanted,
        limits,
        async (answer) => answer,
      );
      // A server that knows no ranges starts over: what is known already is dropped.
      let position = rangeStart(response, startBytes);
      try {
        for await (const chunk of response.body) {
          const known = Math.min(chunk.byteLength, Math.max(0, receivedBytes - position));
          position += chunk.byteLength;
          receivedBytes = Math.max(receivedBytes, position);
          if (known < chunk.byteLength) yield chunk.subarray(known);
        }
        return;
      } catch (error) {
        failedCount = receivedBytes - startBytes >= progressBytes ? 1 : failedCount + 1;
        if (!(error instanceof FetchError) || !isRetryable(error, limits)) throw error;
        if (failedCount >= maxAttemptCount) throw error;
        const waitMs = this.#backOff.waitMs(failedCount, this.#options.clock.random());
        if (!(await pause(waitMs, error, limits, this.#options.clock))) throw error;
      }
    }
  }

  /** The first answer of the registry, over https, or over http where that is allowed and TLS is not there. */
  async #probe(signal: AbortSignal): Promise<{ readonly origin: string; readonly response: HttpResponse }> {
    const { registry } = this.#reference;
    const isPlainHttpAllowed = this.#options.insecureHosts.isPlainHttpAllowed(registry);
    const ping = async (origin: string, pingSignal: AbortSignal) => ({
      origin: new URL(origin).origin,
      response: await this.#send(`${origin}/v2/`, {}, pingSignal),
    });
    const overTls = `https://${registry}`;
    if (!isPlainHttpAllowed) return ping(overTls, signal);
    let tlsError: FetchError;
    try {
      return await ping(overTls, AbortSignal.any([signal, AbortSignal.timeout(tlsProbeMs)]));
    } catch (error) {
      if (!(error instanceof FetchError) || signal.aborted) throw error;
      if (!isTlsAbsent(error) && error.code !== 'timeout') throw error;
      tlsError = error;
    }
    try {
      const plain = await ping(`http://${registry}`, signal);
      // 400 is the usual answer of a TLS port to plain http.
      if (plain.response.status !== 400) return plain;
      await plain.response.discard();
    } catch (error) {
      if (!(error instanceof FetchError) || signal.aborted) throw error;
      const both = `${tlsError.message}; and over plain http: ${error.message}`;
      if (tlsError.code !== 'timeout') throw new FetchError(error.code, both, { cause: error });
    }
    // It is TLS, and slow.
    return ping(overTls, signal);
  }

  async #get<Value>(
    path: string,
    headers: Readonly<Record<string, string>>,
    wanted: readonly number[],
    limits: FetchLimits,
    read: (response: HttpResponse) => Promise<Value>,
    method: 'GET' | 'HEAD' = 'GET',
  ): Promise<Value> {
    const query = this.#namespace === undefined ? '' : `?ns=${encodeURIComponent(this.#namespace)}`;
    const url = `${this.#origin}/v2/${this.#reference.repository}/${path}${query}`;
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
    if (!(await pause(restMs, limited, limits, this.#options.clock))) throw limited;
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
      return await this.#options.client.send({ url, method, headers, authorization, redirects }, { signal });
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
      const restMs = failure.retryAfterMs ?? this.#backOff.waitMs(1, this.#options.clock.random());
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
      this.#options.clock,
    );
    if (outcome.kind === 'done') return outcome.value;
    throw outcome.error;
  }
}

function isRetryable(error: FetchError, limits: FetchLimits): boolean {
  if (limits.signal.aborted) return false;
  return isTransient(error) || (error instanceof StatusFailure && isRegistryStatusRetried(error.status));
}

/** Offset of the first byte of a blob answer. Throws FetchError `network` when it is not the one asked for. */
function rangeStart(response: HttpResponse, askedBytes: number): number {
  if (response.status !== 206) return 0;
  const [, start] = /^bytes (\d+)-/.exec(response.header('content-range') ?? '') ?? [];
  if (start !== undefined && Number(start) === askedBytes) return askedBytes;
  throw new FetchError(
    'network',
    `asked for the rest of a blob from byte ${askedBytes}, the registry sends another part`,
  );
}
