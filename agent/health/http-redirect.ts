import { formatHostPort } from '../config/host-port.ts';

/** Where an HTTP probe asks. */
export interface ProbeUrl {
  readonly isTls: boolean;
  /** A name or an address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Path and query, fit for a request line. */
  readonly target: string;
}

/** Whose redirects are followed: the kubelet does not leave the host, a health check of a machine does. */
export type RedirectPolicy = 'same-host' | 'any-host';

export type RedirectStep =
  /** This is the answer to the probe. */
  | { readonly kind: 'answer' }
  /** `isHostKept`: a relative location stays with the name that was asked for. */
  | { readonly kind: 'follow'; readonly url: ProbeUrl; readonly isHostKept: boolean }
  | { readonly kind: 'refused'; readonly reason: string };

/** Go's client gives up when it would ask for the eleventh time (`net/http`, defaultCheckRedirect). */
const maxRequestCount = 10;

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * What to do after an answer. `requestCount` counts this request too. Source: Kubernetes `pkg/probe/http/http.go`,
 * RedirectChecker; a redirect without a location is an answer, as in Go.
 */
export function nextStep(
  answer: { readonly status: number; readonly location: string | undefined },
  asked: { readonly first: ProbeUrl; readonly current: ProbeUrl; readonly requestCount: number },
  policy: RedirectPolicy,
): RedirectStep {
  if (!redirectStatuses.has(answer.status) || !answer.location) return { kind: 'answer' };
  let location: URL;
  try {
    location = new URL(answer.location, `${formatOrigin(asked.current)}${asked.current.target}`);
  } catch {
    return { kind: 'refused', reason: 'the redirect has a location that is no URL' };
  }
  const isTls = location.protocol === 'https:';
  const host = location.hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (policy === 'same-host' && host !== asked.first.host.toLowerCase()) return { kind: 'answer' };
  if (!isTls && location.protocol !== 'http:') {
    return { kind: 'refused', reason: `the redirect leads to a URL of scheme ${location.protocol}` };
  }
  if (asked.requestCount >= maxRequestCount) {
    return { kind: 'refused', reason: `stopped after ${maxRequestCount} redirects` };
  }
  const port = location.port === '' ? (isTls ? 443 : 80) : Number(location.port);
  return {
    kind: 'follow',
    url: { isTls, host, port, target: `${location.pathname}${location.search}` },
    isHostKept: !/^[a-z][a-z0-9+.-]*:|^\/\//i.test(answer.location),
  };
}

/** For messages: absolute and without the query, which may hold a secret. */
export function describeProbeUrl(url: ProbeUrl): string {
  return `${formatOrigin(url)}${url.target.split('?', 1)[0]}`;
}

/** Scheme, host and port. */
export function formatOrigin({ isTls, ...address }: Omit<ProbeUrl, 'target'>): string {
  return `${isTls ? 'https' : 'http'}://${formatHostPort(address)}`;
}

/** A path of a setting as a request target: a slash in front, no fragment, nothing that a request line cannot hold. */
export function requestTarget(path: string): string {
  const [beforeFragment = ''] = path.split('#', 1);
  const absolute = beforeFragment.startsWith('/') ? beforeFragment : `/${beforeFragment}`;
  return absolute.replaceAll(/[^\u0021-\u007e]+/gu, (text) => encodeURIComponent(text.toWellFormed()));
}
