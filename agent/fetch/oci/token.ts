import { basicValue } from '../basic-authorization.ts';
import type { RegistryCredential } from '../docker-config.ts';
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

/**
 * The request that gets a pull token for one repository (distribution spec, token authentication): GET with the
 * user's credentials, or an OAuth refresh for an identity token. Pure.
 */
export function tokenRequest(
  realm: URL,
  challenge: Challenge,
  repository: string,
  credential: RegistryCredential,
): Omit<HttpRequest, 'redirects'> {
  const service = challenge.parameters.get('service');
  const scope = `repository:${repository}:pull`;
  if (credential.kind === 'identity-token') {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: credential.token,
      client_id: clientId,
      scope,
    });
    if (service !== undefined) form.set('service', service);
    const headers = { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' };
    return { url: realm.href, method: 'POST', headers, body: form.toString() };
  }
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  url.searchParams.set('scope', scope);
  const authorization =
    credential.kind === 'basic' ? basicValue(credential.username, credential.password) : undefined;
  return { url: url.href, method: 'GET', headers: { accept: 'application/json' }, authorization };
}

/** The token of a token server's answer. Throws FetchError `unauthorized`; the answer is never quoted. */
export function parseTokenAnswer(text: string): string {
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
  const token = fields.get('token') || fields.get('access_token');
  if (typeof token !== 'string') throw refuse('holds neither "token" nor "access_token"');
  // It goes into a header as it is.
  if (!/^[\x21-\x7e]+$/.test(token)) throw refuse('holds a token with characters that no header may carry');
  return token;
}
