import { basicValue } from '../basic-authorization.ts';
import { readBounded } from '../bounded-body.ts';
import type { CredentialHelpers } from '../credential-helper.ts';
import type { ResolvedCredential } from '../credentials.ts';
import type { GivenCredential } from '../docker-config.ts';
import type { HttpClient, HttpResponse } from '../http-client.ts';
import type { RedirectRule } from '../redirect.ts';
import { FetchError } from '../types.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { OciReference } from './reference.ts';
import { registryStatusFailure } from './registry-status.ts';
import {
  checkRealm,
  isOauthUnknown,
  maxTokenAnswerBytes,
  parseTokenAnswer,
  type Token,
  tokenRequests,
} from './token.ts';
import type { KnownAuthorization, TokenCache } from './token-cache.ts';

export interface RegistryAuthorizationOptions {
  readonly client: HttpClient;
  readonly redirects: RedirectRule;
  readonly reference: OciReference;
  readonly credential: ResolvedCredential;
  readonly helpers: CredentialHelpers;
  readonly tokens: TokenCache;
}

/** A password is offered again without being asked for it for this long. */
const basicLifetimeMs = 5 * 60_000;

/** Answers the challenges of one registry for one repository with one credential. */
export class RegistryAuthorization {
  readonly #options: RegistryAuthorizationOptions;
  readonly #cacheKey: string;
  #known: KnownAuthorization | undefined;

  constructor(options: RegistryAuthorizationOptions) {
    this.#options = options;
    const { registry, repository } = options.reference;
    this.#cacheKey = options.tokens.keyOf(registry, repository, options.credential.credential);
    this.#known = options.tokens.get(this.#cacheKey);
  }

  /** Value of the `authorization` header; undefined until a challenge was answered. A secret. */
  get value(): string | undefined {
    return this.#known?.value;
  }

  /** True when the registry asked for the credential and got it: what is read is then for its holders only. */
  get isCredentialUsed(): boolean {
    return this.#known?.isCredentialUsed === true;
  }

  /**
   * Answers a 401 so that the next request may succeed; frees it. Throws FetchError `unauthorized`,
   * `blocked_address`, and what a request throws.
   */
  async answer(
    response: HttpResponse,
    options: { readonly registryOrigin: string; readonly signal: AbortSignal },
  ): Promise<void> {
    const challenges = parseChallenges(response.headers('www-authenticate'));
    await response.discard();
    this.forget();
    const credential = await this.#given(options.signal);
    const bearer = challenges.find((challenge) => challenge.scheme === 'bearer');
    if (bearer !== undefined) {
      const token =
        credential.kind === 'registry-token'
          ? { value: credential.token, lifetimeMs: 0 }
          : await this.#token(bearer, credential, options);
      this.#learn(`Bearer ${token.value}`, credential, token.lifetimeMs);
    } else if (challenges.some((challenge) => challenge.scheme === 'basic')) {
      this.#answerBasic(credential);
    } else {
      const schemes = challenges.map((challenge) => challenge.scheme).join(', ') || 'none';
      throw new FetchError(
        'unauthorized',
        `the registry ${this.#options.reference.registry} offers no way to authenticate that is known (offered: ${schemes.slice(0, 100)}; known: Bearer, Basic)`,
      );
    }
  }

  /**
   * Offers user and password to a registry that refuses without a challenge. False when there are none, or when they
   * have been offered already.
   */
  async offer(options: { readonly signal: AbortSignal }): Promise<boolean> {
    if (this.#known !== undefined) return false;
    const credential = await this.#given(options.signal);
    if (credential.kind !== 'basic') return false;
    this.#answerBasic(credential);
    return true;
  }

  /** Forgets what was accepted before: it is not any more. */
  forget(): void {
    this.#known = undefined;
    this.#options.tokens.delete(this.#cacheKey);
  }

  #answerBasic(credential: GivenCredential): void {
    const { origin } = this.#options.credential;
    if (credential.kind !== 'basic') {
      throw new FetchError(
        'unauthorized',
        `the registry ${this.#options.reference.registry} asks for a user and password, but ${origin}${credential.kind === 'anonymous' ? '' : ' gives a token'}; add them`,
      );
    }
    this.#learn(basicValue(credential.username, credential.password), credential, basicLifetimeMs);
  }

  #learn(value: string, credential: GivenCredential, lifetimeMs: number): void {
    this.#known = { value, isCredentialUsed: credential.kind !== 'anonymous' };
    this.#options.tokens.set(this.#cacheKey, this.#known, lifetimeMs);
  }

  async #given(signal: AbortSignal): Promise<GivenCredential> {
    const { credential } = this.#options.credential;
    return credential.kind === 'helper' ? this.#options.helpers.get(credential, { signal }) : credential;
  }

  async #token(
    challenge: Challenge,
    credential: GivenCredential,
    options: { readonly registryOrigin: string; readonly signal: AbortSignal },
  ): Promise<Token> {
    const { client, redirects, reference } = this.#options;
    const realm = checkRealm(challenge.parameters.get('realm'), {
      registryOrigin: options.registryOrigin,
      isPlainHttpAllowed: redirects.isPlainHttpAllowed,
    });
    if (realm.kind === 'unsafe') {
      throw new FetchError('blocked_address', `rejected unsafe bearer realm: ${realm.reason}`);
    }
    const { first, fallback } = tokenRequests(realm.url, challenge, reference.repository, credential);
    let response = await client.send({ ...first, redirects }, options);
    if (fallback !== undefined && isOauthUnknown(response.status)) {
      await response.discard();
      response = await client.send({ ...fallback, redirects }, options);
    }
    if (response.status !== 200) {
      const asked = { reference, credential: this.#options.credential };
      if (this.#options.credential.credential.kind === 'helper') {
        this.#options.helpers.forget(this.#options.credential.credential);
      }
      throw await registryStatusFailure(response, `token from ${realm.url.host}`, asked);
    }
    const answer = await readBounded(response.body, {
      maxSizeBytes: maxTokenAnswerBytes,
      what: `the answer of the token server ${realm.url.host}`,
    });
    return parseTokenAnswer(answer.toString('utf8'));
  }
}
