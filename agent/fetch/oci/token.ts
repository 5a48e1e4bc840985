import { basicValue } from '../basic-authorization.ts';
import type { GivenCredential } from '../docker-config.ts';
import type { HttpRequest } from '../http-client.ts';
import { isInternalLiteral } from '../ip-literal.ts';
import { hostTextOf } from '../module-url.ts';
import { FetchError } from '../types.ts';
import type { Challenge } from './challenge.ts';

/** Whether a realm may be asked for a token. */
export type RealmVerdict =
  | { readonly kind: 'safe'; readonly url: URL }
  | { readonly kind: 'unsafe'; readonly reason: string };

/** A token answer is a small JSON (google/go-containerregistry `transport/bearer.go`). */
export const maxTokenAnswerBytes = 64 * 1024;

/** What this agent calls itself at token servers. */
const clientId = 'ferry-agent';

/**
 * Decides on a Bearer realm, which a server chooses freely (istio/istio `pkg/wasm/imagefetcher.go`): http or https
 * with a host, no metadata service, no `localhost`, no internal literal address; plain http only where that is
 * allowed. The registry's own origin is always good: it is spoken to already. Pure.
 */
export function checkRealm(
  realm: string | undefined,
  context: { readonly registryOrigin: string; readonly isPlainHttpAllowed: (hostText: string) => boolean },
): RealmVerdict {
  if (realm === undefined || realm === '') return { kind: 'unsafe', reason: 'realm is missing' };
  if (!URL.canParse(realm)) return { kind: 'unsafe', reason: 'realm is not an absolute URL' };
  const url = new URL(realm);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    return { kind: 'unsafe', reason: `realm scheme "${url.protocol.slice(0, -1)}" not allowed` };
  }
  url.username = '';
  url.password = '';
  url.hash = '';
  if (url.origin === context.registryOrigin) return { kind: 'safe', url };
  const host = url.hostname.replace(/\.$/, '');
  if (host === 'metadata.google.internal')
    return { kind: 'unsafe', reason: 'realm targets cloud metadata service' };
  if (host === 'localhost') return { kind: 'unsafe', reason: 'realm targets localhost' };
  if (isInternalLiteral(host)) {
    return { kind: 'unsafe', reason: 'realm targets private/loopback/link-local IP' };
  }
  if (url.protocol === 'http:' && !context.isPlainHttpAllowed(hostTextOf(realm))) {
    return {
      kind: 'unsafe',
      reason: 'realm uses plain http; list its host in WASM_INSECURE_REGISTRIES to allow that',
    };
  }
  return { kind: 'safe', url };
}

/** A request for a token, and what to send where the server does not know that kind. */
export interface TokenRequests {
  readonly first: Omit<HttpRequest, 'redirects'>;
  readonly fallback: Omit<HttpRequest, 'redirects'> | undefined;
}

/** Answers of servers that do not know the OAuth request (containerd/containerd `remotes/docker/authorizer.go`). */
const unknownRequestStatuses: readonly number[] = [401, 404, 405, 501];

/** True when the fallback is to be sent. */
export function isOauthUnknown(status: number): boolean {
  return unknownRequestStatuses.includes(status);
}

/**
 * The requests that get a pull token for one repository (distribution spec, token authentication): GET with the
 * user's credentials; for an identity token an OAuth refresh, and GET with it as password where that is unknown. Pure.
 */
export function tokenRequests(
  realm: URL,
  challenge: Challenge,
  repository: string,
  credential: GivenCredential,
): TokenRequests {
  const service = challenge.parameters.get('service');
  const scopes = pullScopes(challenge, repository);
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const get = (authorization: string | undefined): TokenRequests['first'] => ({
    url: url.href,
    method: 'GET',
    headers: { accept: 'application/json' },
    authorization,
  });
  switch (credential.kind) {
    case 'anonymous':
    case 'registry-token':
      return { first: get(undefined), fallback: undefined };
    case 'basic':
      return { first: get(basicValue(credential.username, credential.password)), fallback: undefined };
    case 'identity-token': {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        refresh_token: credential.token,
        client_id: clientId,
        scope: scopes.join(' '),
      });
      if (service !== undefined) form.set('service', service);
      const headers = { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' };
      const first = { url: realm.href, method: 'POST', headers, body: form.toString() } as const;
      return { first, fallback: get(basicValue(credential.username ?? '<token>', credential.token)) };
    }
    default:
      return credential satisfies never;
  }
}

const maxScopeCount = 4;

/** Our own scope, and other repositories that the challenge names (virtual ones have another name behind). Only pull. */
function pullScopes(challenge: Challenge, repository: string): readonly string[] {
  const named = (challenge.parameters.get('scope') ?? '')
    .split(/\s+/)
    .map((scope) => /^repository:([a-z0-9][a-z0-9._/-]*):(?:[a-z,*]*)$/.exec(scope)?.[1])
    .filter((name) => name !== undefined);
  return [...new Set([repository, ...named])]
    .slice(0, maxScopeCount)
    .map((name) => `repository:${name}:pull`);
}

/** A token and how long it may be used. */
export interface Token {
  /** A secret. */
  readonly value: string;
  readonly lifetimeMs: number;
}

/** What the specification says when the answer does not. */
const defaultLifetimeSeconds = 60;
const maxLifetimeSeconds = 3600;
/** It is not used in its last tenth: it must last for the request too. */
const usedShare = 0.9;

/** The token of a token server's answer. Throws FetchError `unauthorized`; the answer is never quoted. */
export function parseTokenAnswer(text: string): Token {
  const refuse = (reason: string): FetchError =>
    new FetchError('unauthorized', `the answer of the token server ${reason}`);
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw refuse('is not JSON');
  }
  if (typeof answer !== 'object' || answer === null) throw refuse('is not a JSON object');
  const fields = new Map<string, unknown>(Object.entries(answer));
  const value = fields.get('token') || fields.get('access_token');
  if (typeof value !== 'string') throw refuse('holds neither "token" nor "access_token"');
  // It goes into a header as it is.
  if (!/^[\x21-\x7e]+$/.test(value)) throw refuse('holds a token with characters that no header may carry');
  const stated = fields.get('expires_in');
  const seconds = typeof stated === 'number' && stated > 0 ? stated : defaultLifetimeSeconds;
  return { value, lifetimeMs: Math.min(seconds, maxLifetimeSeconds) * 1000 * usedShare };
}
