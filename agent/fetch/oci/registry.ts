import type { Sha256 } from '../../../cache/types.ts';
import { readBounded } from '../bounded-body.ts';
import type { ResolvedCredential } from '../credentials.ts';
import type { HttpClient, HttpResponse } from '../http-client.ts';
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
import { manifestAccept, maxManifestBytes } from './manifest.ts';
import { type OciReference, sha256Of } from './reference.ts';
import { isRegistryStatusRetried, registryStatusFailure } from './registry-status.ts';

export interface RegistryOptions {
  readonly client: HttpClient;
  readonly insecureHosts: InsecureHosts;
  readonly clock: FetchClock;
  /** First wait between tries of one request; the second is three times as long. Default 1000. */
  readonly firstWaitMs?: number;
}

/** A manifest as it was served. */
export interface ManifestAnswer {
  readonly bytes: Uint8Array;
  /** Computed over the bytes; what the server claims is not looked at. */
  readonly digest: Sha256;
  readonly mediaType: string | undefined;
}

/** Which manifest of the repository. */
export type ManifestTarget =
  | { readonly kind: 'tag'; readonly tag: string }
  | { readonly kind: 'digest'; readonly digest: Sha256 };

/** Tries per request, growth and random share of the waits (google/go-containerregistry `pkg/v1/remote/options.go`). */
const maxAttemptCount = 3;
const waitFactor = 3;
const waitJitter = 0.1;

/** How long TLS may take at a host that may also speak plain HTTP, before that is tried. */
const tlsProbeMs = 3_000;

/** Opens sessions with registries; holds nothing but what all of them share. */
export class RegistryClient {
  readonly #options: RegistryOptions;

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /**
   * Finds out how the registry is spoken to, and authenticates. Throws FetchError `network`, `tls`, `timeout`,
   * `aborted`, `blocked_address`, `redirect`, `unauthorized`, `http_status`.
   */
  async open(
    reference: OciReference,
    credential: ResolvedCredential,
    options: { readonly limits: FetchLimits },
  ): Promise<RegistrySession> {
    const session = new RegistrySession(this.#options, reference, credential);
    await session.begin(options);
    return session;
  }
}

/** One way in to one repository with one credential. Holds no connection; each call has its own limits. */
export class RegistrySession {
  readonly #options: RegistryOptions;
  readonly #reference: OciReference;
  readonly #credential: ResolvedCredential;
  readonly #backOff: BackOff;
  readonly #redirects: RedirectRule;
  #origin = '';
  readonly #authorization: RegistryAuthorization;

  constructor(options: RegistryOptions, reference: OciReference, credential: ResolvedCredential) {
    this.#options = options;
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
    });
  }

  /** True when the registry asked for the credential and got it: what was read is then for its holders only. */
  get isCredentialUsed(): boolean {
    return this.#authorization.isCredentialUsed;
  }

  /** See `RegistryClient.open`, which calls it. */
  async begin(options: { readonly limits: FetchLimits }): Promise<void> {
    const { limits } = options;
    await this.#retried(limits, async () => {
      const { origin, response } = await this.#probe(limits.signal);
      this.#origin = origin;
      const { status } = response;
      if (status === 401) await this.#authorize(response, limits.signal);
      else if (isRegistryStatusRetried(status)) throw await this.#failure(response, '/v2/');
      else await response.discard();
    });
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
        failedCount += 1;
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
  ): Promise<Value> {
    const url = `${this.#origin}/v2/${this.#reference.repository}/${path}`;
    return this.#retried(limits, async () => {
      let response = await this.#send(url, headers, limits.signal);
      if (response.status === 401 && response.headers('www-authenticate').length > 0) {
        await this.#authorize(response, limits.signal);
        response = await this.#send(url, headers, limits.signal);
      }
      if (!wanted.includes(response.status)) throw await this.#failure(response, path);
      return read(response);
    });
  }

  async #send(
    url: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const authorization = this.#authorization.value;
    const redirects = this.#redirects;
    return this.#options.client.send({ url, method: 'GET', headers, authorization, redirects }, { signal });
  }

  async #authorize(response: HttpResponse, signal: AbortSignal): Promise<void> {
    await this.#authorization.answer(response, { registryOrigin: this.#origin, signal });
  }

  async #failure(response: HttpResponse, what: string): Promise<FetchError> {
    return registryStatusFailure(response, what, {
      reference: this.#reference,
      credential: this.#credential,
    });
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
