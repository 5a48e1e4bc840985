import { isIPv4, isIPv6 } from 'node:net';
import { parseHostPort } from '../config/host-port.ts';
import type { ResolvConf } from './resolv-conf.ts';

/** Address and port of a listener or an upstream. */
export interface DnsEndpoint {
  /** An IP address. */
  readonly address: string;
  readonly port: number;
}

/** Where the proxy listens and whom it asks. */
export interface DnsPlan {
  readonly listeners: readonly DnsEndpoint[];
  readonly upstreams: readonly DnsEndpoint[];
  readonly searchDomain: string | undefined;
  /** On port 53 of a machine of its own, names are resolved before the first table has come. */
  readonly isForwardedBeforeTable: boolean;
  readonly warnings: readonly string[];
}

/** What `DNS_PROXY_ADDR` leads to before resolv.conf is read. */
export interface DnsAddress {
  readonly host: string;
  readonly port: number;
  readonly isForwardedBeforeTable: boolean;
  /** Candidates for resolv.conf; the first that exists is used. */
  readonly resolvConfPaths: readonly string[];
  readonly warning: string | undefined;
}

const defaultHost = 'localhost';
const defaultPort = 15_053;
const upstreamPort = 53;
const usualPath = '/etc/resolv.conf';
/** On virtual machines, where /etc/resolv.conf may name the proxy itself. */
const machinePath = '/var/lib/istio/resolv.conf';

/** Reads `DNS_PROXY_ADDR`; undefined when it is no `host:port`. Source: istio/istio `pkg/dns/client/dns.go`. Pure. */
export function readDnsAddress(text: string, options: { readonly isRoot: boolean }): DnsAddress | undefined {
  const usual = { resolvConfPaths: [usualPath], isForwardedBeforeTable: false, warning: undefined };
  if (text === '') return { ...usual, host: defaultHost, port: defaultPort };
  if (text.endsWith(':53') && !options.isRoot) {
    const warning = `DNS_PROXY_ADDR ${text}: only root may listen on port 53, using ${defaultHost}:${defaultPort}`;
    return { ...usual, host: defaultHost, port: defaultPort, warning };
  }
  const parsed = parseHostPort(text);
  if (parsed === undefined) return undefined;
  // Without a host: all addresses of both families, as in Go.
  const host = parsed.host === '' ? '::' : parsed.host;
  if (parsed.port !== upstreamPort) return { ...usual, host, port: parsed.port };
  return {
    ...usual,
    host,
    port: parsed.port,
    isForwardedBeforeTable: true,
    resolvConfPaths: [machinePath, usualPath],
  };
}

/**
 * The plan for an address and the resolv.conf that was found. `localhost` is each family that a nameserver has. A
 * nameserver that is the proxy itself is left out. Pure.
 */
export function planDns(
  { host, port, isForwardedBeforeTable, warning }: DnsAddress,
  resolvConf: ResolvConf,
  options: { readonly ownAddresses: readonly string[] },
): DnsPlan {
  const warnings = warning === undefined ? [] : [warning];
  const listeners = listenHosts(host, resolvConf.nameservers).map((address) => ({ address, port }));
  const isOwn = (address: string): boolean =>
    port === upstreamPort &&
    listeners.some(
      (listener) =>
        listener.address === address ||
        (isWildcard(listener.address) && isLocal(address, options.ownAddresses)),
    );
  const upstreams = resolvConf.nameservers
    .filter((address) => !isOwn(address))
    .map((address) => ({ address, port: upstreamPort }));
  for (const address of resolvConf.nameservers.filter(isOwn)) {
    warnings.push(`nameserver ${address} of resolv.conf is the DNS proxy itself; it is not asked`);
  }
  for (const name of resolvConf.ignored) {
    warnings.push(`nameserver ${JSON.stringify(name)} of resolv.conf is no IP address; it is not asked`);
  }
  if (upstreams.length === 0) {
    warnings.push('resolv.conf has no nameserver to ask; names outside of the mesh will fail (SERVFAIL)');
  }
  return {
    listeners,
    upstreams,
    searchDomain: resolvConf.searchDomains[0],
    isForwardedBeforeTable,
    warnings,
  };
}

function listenHosts(host: string, nameservers: readonly string[]): readonly string[] {
  if (host !== 'localhost') return [host];
  const hosts = [
    ...(nameservers.some((address) => isIPv4(address)) ? ['127.0.0.1'] : []),
    ...(nameservers.some((address) => isIPv6(address)) ? ['::1'] : []),
  ];
  return hosts.length === 0 ? ['127.0.0.1'] : hosts;
}

function isWildcard(address: string): boolean {
  return address === '::' || address === '0.0.0.0';
}

function isLocal(address: string, ownAddresses: readonly string[]): boolean {
  return address.startsWith('127.') || address === '::1' || ownAddresses.includes(address);
}
