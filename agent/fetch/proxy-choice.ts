import { isIP } from 'node:net';
import type { WasmConfig } from '../config/agent-config.ts';
import { parseCidr } from './egress-guard.ts';
import { addressSet, bareHost, canonicalIp, ipFamily, isLoopbackLiteral } from './ip-literal.ts';
import { FetchError } from './types.ts';

/** Which proxies there are. The texts may hold credentials: never logged. */
export type OutboundProxy = WasmConfig['outboundProxy'];

/**
 * The proxy for one target; undefined is a direct connection. The rules are those of the stock agent's language
 * (Go `golang.org/x/net/http/httpproxy`): `localhost` and loopback never go through a proxy, `NO_PROXY` takes names
 * (`foo.com` with its subdomains, `.foo.com` only those), addresses, CIDR ranges, ports and `*`.
 * Throws FetchError `network` for a proxy text that cannot be used.
 */
export function chooseProxy(target: URL, proxies: OutboundProxy): URL | undefined {
  const isTls = target.protocol === 'https:';
  const text = isTls ? proxies.https : proxies.http;
  if (text === undefined || text === '') return undefined;
  if (isDirect(target, proxies.noProxy)) return undefined;
  return parseProxy(text, isTls ? 'HTTPS_PROXY' : 'HTTP_PROXY');
}

function parseProxy(text: string, variable: string): URL {
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const proxy = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  if (proxy === undefined || proxy.hostname === '') {
    throw new FetchError('network', `${variable} is not a proxy URL; use http://host:port`);
  }
  if (proxy.protocol !== 'http:' && proxy.protocol !== 'https:') {
    throw new FetchError(
      'network',
      `${variable} has the scheme ${proxy.protocol.slice(0, -1)}, which is not supported; use http:// or https://`,
    );
  }
  return proxy;
}

function isDirect(target: URL, noProxy: string): boolean {
  const host = bareHost(target.hostname).toLowerCase().replace(/\.$/, '');
  if (host === 'localhost' || isLoopbackLiteral(host)) return true;
  const port = target.port === '' ? (target.protocol === 'https:' ? '443' : '80') : target.port;
  return noProxy
    .split(',')
    .map((item) => item.trim().toLowerCase())
    .some((item) => item !== '' && isMatch(item, host, port));
}

function isMatch(item: string, host: string, port: string): boolean {
  if (item === '*') return true;
  const ip = canonicalIp(host);
  const cidr = parseCidr(item);
  if (cidr !== undefined) {
    return ip !== undefined && addressSet([`${cidr.network}/${cidr.prefixLength}`]).check(ip, ipFamily(ip));
  }
  const [itemHost, itemPort] = splitPort(item);
  if (itemPort !== undefined && itemPort !== port) return false;
  const itemIp = canonicalIp(itemHost);
  if (itemIp !== undefined) return ip === itemIp;
  if (ip !== undefined) return false;
  const suffix = itemHost.replace(/^\*/, '');
  return suffix.startsWith('.') ? host.endsWith(suffix) : host === suffix || host.endsWith(`.${suffix}`);
}

function splitPort(item: string): readonly [string, string | undefined] {
  if (isIP(item) !== 0) return [item, undefined];
  const [, host, port] = /^(.*):(\d+)$/.exec(item) ?? [];
  return host === undefined ? [item, undefined] : [host, port];
}
