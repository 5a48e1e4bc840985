import { isIPv4, isIPv6 } from 'node:net';
import type { DnsAddress } from '../config/dns-config.ts';
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

const upstreamPort = 53;

/**
 * The plan for an address and the resolv.conf that was found. `localhost` is each family that a nameserver has. A
 * nameserver that is the proxy itself is left out. Pure.
 */
export function planDns(
  { host, port, isForwardedBeforeTable }: Omit<DnsAddress, 'resolvConfPaths'>,
  resolvConf: ResolvConf,
  options: { readonly ownAddresses: readonly string[] },
): DnsPlan {
  const warnings: string[] = [];
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
