import { randomBytes } from 'node:crypto';
import type { Answer, RecordedRequest } from './scripted-server.ts';

export interface RegistryUser {
  readonly username: string;
  readonly password: string;
}

/** Who may pull. */
export type RegistryAuth =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'basic'; readonly user: RegistryUser }
  /** Tokens come from `/token` of the same server, as the distribution project specifies them. */
  | {
      readonly kind: 'bearer';
      /** Who gets a token; absent: anyone. */
      readonly user?: RegistryUser;
      /** Accepted as a refresh token (docker's `identitytoken`). */
      readonly identityToken?: string;
      /** In the challenge in place of the server's own `/token`. */
      readonly realm?: string;
      /** The name of the token's field: registries use either. */
      readonly tokenField?: 'token' | 'access_token';
    };

/** Path of the token endpoint. */
export const tokenPath = '/token';

const service = 'ferry-test-registry';

/** Decides about one request: undefined lets it pass. Tokens are random and good for one scope until the end. */
export class RegistryGate {
  readonly #auth: RegistryAuth;
  readonly #serverUrl: () => string;
  /** Scope text by token. */
  readonly #scopeOfToken = new Map<string, string>();

  /** `serverUrl` is asked late: the port is known only once the server listens. */
  constructor(auth: RegistryAuth, serverUrl: () => string) {
    this.#auth = auth;
    this.#serverUrl = serverUrl;
  }

  /** How many tokens were given. */
  get tokenCount(): number {
    return this.#scopeOfToken.size;
  }

  /** A token that pulls from one repository, as docker's `registrytoken` carries it. */
  issueToken(repository: string): string {
    return this.#issue(pullScope(repository));
  }

  /** The refusal of a request to `/v2/...`; `repository` is absent for the ping. */
  refuse(request: RecordedRequest, repository: string | undefined): Answer | undefined {
    const authorization = request.headers['authorization'];
    switch (this.#auth.kind) {
      case 'anonymous':
        return undefined;
      case 'basic':
        return isUser(this.#auth.user, authorization) ? undefined : unauthorized('Basic realm="ferry"');
      case 'bearer': {
        const scope = this.#scopeOfToken.get(/^Bearer (.+)$/i.exec(authorization ?? '')?.[1] ?? '');
        const needed = repository === undefined ? undefined : pullScope(repository);
        if (scope !== undefined && (needed === undefined || scope === needed)) return undefined;
        const realm = this.#auth.realm ?? `${this.#serverUrl()}${tokenPath}`;
        const scopePart = needed === undefined ? '' : `,scope="${needed}"`;
        return unauthorized(`Bearer realm="${realm}",service="${service}"${scopePart}`);
      }
      default:
        return this.#auth satisfies never;
    }
  }

  /** Answers the token endpoint: GET with basic credentials, or POST with a refresh token. */
  answerToken(request: RecordedRequest): Answer {
    if (this.#auth.kind !== 'bearer') return refusal(404, 'NAME_UNKNOWN', 'this registry gives no tokens');
    const fields =
      request.method === 'POST' ? new URLSearchParams(request.body.toString('utf8')) : request.query;
    const isAdmitted =
      request.method === 'POST'
        ? fields.get('grant_type') === 'refresh_token' &&
          this.#auth.identityToken !== undefined &&
          fields.get('refresh_token') === this.#auth.identityToken
        : this.#auth.user === undefined || isUser(this.#auth.user, request.headers['authorization']);
    if (!isAdmitted || fields.get('service') !== service) {
      return refusal(401, 'UNAUTHORIZED', 'the credentials or the service are wrong');
    }
    const token = this.#issue(fields.get('scope') ?? '');
    const document = { [this.#auth.tokenField ?? 'token']: token, expires_in: 300 };
    return json(200, document);
  }

  #issue(scope: string): string {
    const token = randomBytes(24).toString('base64url');
    this.#scopeOfToken.set(token, scope);
    return token;
  }
}

function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

function isUser(user: RegistryUser, authorization: string | undefined): boolean {
  const expected = Buffer.from(`${user.username}:${user.password}`).toString('base64');
  return authorization === `Basic ${expected}`;
}

function unauthorized(challenge: string): Answer {
  const answer = refusal(401, 'UNAUTHORIZED', 'authentication required');
  return { ...answer, headers: { ...answer.headers, 'www-authenticate': challenge } };
}

/** An error in the form of the distribution specification. */
export function refusal(status: number, code: string, message: string): Answer {
  return json(status, { errors: [{ code, message }] });
}

/** A JSON answer. */
export function json(status: number, document: unknown): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    content: { kind: 'bytes', bytes: Buffer.from(JSON.stringify(document)) },
  };
}
