import { LRUCache } from 'lru-cache';
import { CredentialHelpers } from '../credential-helper.ts';
import type { ResolvedCredential } from '../credentials.ts';
import { HostRest } from '../host-rest.ts';
import type { HttpClient } from '../http-client.ts';
import type { InsecureHosts } from '../insecure-hosts.ts';
import type { FetchClock, FetchLimits } from '../retry.ts';
import type { OciReference } from './reference.ts';
import { RegistryExchange, type SharedState } from './registry-exchange.ts';
import { RegistrySession } from './registry-session.ts';
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

/** Far more registries than one pod asks. */
const maxOriginCount = 256;
/** A registry that got TLS is found out about after this long. */
const originLifetimeMs = 10 * 60_000;

/** First wait between tries of one request. */
export const defaultFirstWaitMs = 1_000;

/** Opens sessions with registries; holds nothing but what all of them share: tokens, and who is to be left alone. */
export class RegistryClient {
  readonly #shared: SharedState;

  constructor(options: RegistryOptions) {
    const { client, insecureHosts, clock } = options;
    this.#shared = {
      client,
      insecureHosts,
      clock,
      firstWaitMs: options.firstWaitMs ?? defaultFirstWaitMs,
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
    const { namespace } = options;
    const exchange = new RegistryExchange({ shared: this.#shared, reference, credential, namespace });
    await exchange.begin(options);
    return new RegistrySession(exchange);
  }
}
