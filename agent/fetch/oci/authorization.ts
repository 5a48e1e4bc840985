import { basicValue } from '../basic-authorization.ts';
import { readBounded } from '../bounded-body.ts';
import type { ResolvedCredential } from '../credentials.ts';
import type { HttpClient, HttpResponse } from '../http-client.ts';
import type { RedirectRule } from '../redirect.ts';
import { FetchError } from '../types.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { OciReference } from './reference.ts';
import { registryStatusFailure } from './registry-status.ts';
import { checkRealm, maxTokenAnswerBytes, parseTokenAnswer, tokenRequest } from './token.ts';

/** Answers the challenges of one registry for one repository with one credential. */
export class RegistryAuthorization {
  readonly #client: HttpClient;
  readonly #redirects: RedirectRule;
  readonly #reference: OciReference;
  readonly #credential: ResolvedCredential;
  #value: string | undefined;
  #isCredentialUsed = false;

  constructor(options: {
    readonly client: HttpClient;
    readonly redirects: RedirectRule;
    readonly reference: OciReference;
    readonly credential: ResolvedCredential;
  }) {
    this.#client = options.client;
    this.#redirects = options.redirects;
    this.#reference = options.reference;
    this.#credential = options.credential;
  }

  /** Value of the `authorization` header; undefined until a challenge was answered. A secret. */
  get value(): string | undefined {
    return this.#value;
  }

  /** True when the registry asked for the credential and got it: what is read is then for its holders only. */
  get isCredentialUsed(): boolean {
    return this.#isCredentialUsed;
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
    const { credential, origin } = this.#credential;
    const bearer = challenges.find((challenge) => challenge.scheme === 'bearer');
    if (bearer !== undefined) {
      const isDirect = credential.kind === 'registry-token';
      this.#value = `Bearer ${isDirect ? credential.token : await this.#token(bearer, options)}`;
    } else if (challenges.some((challenge) => challenge.scheme === 'basic')) {
      if (credential.kind !== 'basic') {
        throw new FetchError(
          'unauthorized',
          `the registry ${this.#reference.registry} asks for a user and password, but ${origin}${credential.kind === 'anonymous' ? '' : ' gives a token'}; add them`,
        );
      }
      this.#value = basicValue(credential.username, credential.password);
    } else {
      const schemes = challenges.map((challenge) => challenge.scheme).join(', ') || 'none';
      throw new FetchError(
        'unauthorized',
        `the registry ${this.#reference.registry} offers no way to authenticate that is known (offered: ${schemes.slice(0, 100)}; known: Bearer, Basic)`,
      );
    }
    this.#isCredentialUsed = credential.kind !== 'anonymous';
  }

  async #token(
    challenge: Challenge,
    options: { readonly registryOrigin: string; readonly signal: AbortSignal },
  ): Promise<string> {
    const realm = checkRealm(challenge.parameters.get('realm'), {
      registryOrigin: options.registryOrigin,
      isPlainHttpAllowed: this.#redirects.isPlainHttpAllowed,
    });
    if (realm.kind === 'unsafe') {
      throw new FetchError('blocked_address', `rejected unsafe bearer realm: ${realm.reason}`);
    }
    const request = tokenRequest(
      realm.url,
      challenge,
      this.#reference.repository,
      this.#credential.credential,
    );
    const response = await this.#client.send({ ...request, redirects: this.#redirects }, options);
    if (response.status !== 200) {
      const asked = { reference: this.#reference, credential: this.#credential };
      throw await registryStatusFailure(response, `token from ${realm.url.host}`, asked);
    }
    const answer = await readBounded(response.body, {
      maxSizeBytes: maxTokenAnswerBytes,
      what: `the answer of the token server ${realm.url.host}`,
    });
    return parseTokenAnswer(answer.toString('utf8'));
  }
}
