import { bareHost, isInternalLiteral } from './ip-literal.ts';
import { hostTextOf } from './module-url.ts';

/** Which redirects a request may follow. */
export interface RedirectRule {
  /** Refuses literal private, loopback and link-local targets of another host, as the stock registry client does. */
  readonly isInternalLiteralRefused: boolean;
  /** Whether a hop may go from https to plain http at this host. */
  readonly isPlainHttpAllowed: (hostText: string) => boolean;
}

export type RedirectDecision =
  | {
      readonly kind: 'follow';
      readonly url: URL;
      /** Host part as written: what `WASM_INSECURE_REGISTRIES` is compared with. */
      readonly hostText: string;
      /** False as soon as the origin changes: credentials do not follow. */
      readonly keepsAuthorization: boolean;
    }
  | { readonly kind: 'refuse'; readonly reason: string };

/** Redirects followed for one request (Go `net/http`). */
export const maxRedirectCount = 10;

/** Decides on one redirect. `redirectCount` is how many were followed before it. */
export function decideRedirect(options: {
  readonly from: URL;
  readonly firstHost: string;
  readonly location: string;
  readonly redirectCount: number;
  readonly rule: RedirectRule;
}): RedirectDecision {
  const { from, location, rule } = options;
  if (options.redirectCount >= maxRedirectCount) {
    return {
      kind: 'refuse',
      reason: `stopped after ${maxRedirectCount} redirects; point the URL at the final place`,
    };
  }
  if (!URL.canParse(location, from.href)) return { kind: 'refuse', reason: 'its Location is not a URL' };
  const url = new URL(location, from.href);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    return {
      kind: 'refuse',
      reason: `it leads to the scheme ${url.protocol.slice(0, -1)}; only http and https are followed`,
    };
  }
  const hostText = hostTextOf(location) || url.host;
  if (from.protocol === 'https:' && url.protocol === 'http:' && !rule.isPlainHttpAllowed(hostText)) {
    return {
      kind: 'refuse',
      reason: `it leads from https to plain http at ${url.host}; use https there, pin a sha256, or list the host in WASM_INSECURE_REGISTRIES`,
    };
  }
  const isOtherHost = bareHost(url.hostname) !== bareHost(options.firstHost);
  if (rule.isInternalLiteralRefused && isOtherHost && isInternalLiteral(url.hostname)) {
    return {
      kind: 'refuse',
      reason: `it leads to the internal address ${url.hostname} of another host; use a name`,
    };
  }
  url.username = '';
  url.password = '';
  url.hash = '';
  return { kind: 'follow', url, hostText, keepsAuthorization: url.origin === from.origin };
}
