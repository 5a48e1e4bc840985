import { BlockList, isIPv4 } from 'node:net';
import { ipFamily } from './ip-family.ts';

/** One address of a network interface that is up. */
export interface InterfaceAddress {
  readonly interfaceName: string;
  readonly address: string;
  /** An address of the loopback interface. */
  readonly isInternal: boolean;
}

/** The addresses of the node, the pod's own first. */
export interface InstanceAddresses {
  readonly all: readonly string[];
  readonly family: 'v4' | 'v6' | 'mixed';
}

const unusable = new BlockList();
unusable.addSubnet('127.0.0.0', 8, 'ipv4');
unusable.addSubnet('169.254.0.0', 16, 'ipv4');
unusable.addSubnet('224.0.0.0', 24, 'ipv4');
unusable.addAddress('0.0.0.0', 'ipv4');
unusable.addAddress('::1', 'ipv6');
unusable.addAddress('::', 'ipv6');
unusable.addSubnet('fe80::', 10, 'ipv6');
unusable.addSubnet('ff02::', 16, 'ipv6');

/** An interface shows the unspecified address while it is set up: the caller looks again later. */
export function isAddressPending(interfaces: readonly InterfaceAddress[]): boolean {
  return interfaces.some(
    ({ address, isInternal }) => !isInternal && (address === '0.0.0.0' || address === '::'),
  );
}

/**
 * Addresses of the node in the order istiod expects: `INSTANCE_IP`, then those of every interface but loopback,
 * link-local and excluded ones (istio/istio `pilot/cmd/pilot-agent/app/cmd.go`, initProxy).
 */
export function findInstanceAddresses(input: {
  readonly instanceIp: string;
  readonly interfaces: readonly InterfaceAddress[];
  /** From annotation `traffic.sidecar.istio.io/excludeInterfaces`. */
  readonly excludedInterfaces: readonly string[];
}): InstanceAddresses {
  const usable = input.interfaces
    .map((entry) => ({ ...entry, address: unmapped(entry.address) }))
    .filter(({ address, isInternal }) => !isInternal && isUsable(address));
  const excluded = new Set(
    usable
      .filter(({ interfaceName }) => input.excludedInterfaces.includes(interfaceName))
      .map(({ address }) => address),
  );
  const own = ipFamily(input.instanceIp) === 0 ? [] : [canonical(input.instanceIp)];
  const found = usable.length === 0 ? ['127.0.0.1', '::1'] : usable.map(({ address }) => address);
  const all = [...new Set([...own, ...found.filter((address) => !excluded.has(address))])];
  return { all, family: familyOf(all) };
}

function familyOf(addresses: readonly string[]): InstanceAddresses['family'] {
  if (addresses.every((address) => isIPv4(address))) return 'v4';
  return addresses.some((address) => isIPv4(address)) ? 'mixed' : 'v6';
}

function isUsable(address: string): boolean {
  const family = ipFamily(address);
  return family !== 0 && !unusable.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** An IPv4 address mapped into IPv6 is the IPv4 address. */
function unmapped(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}

/** The shortest form of an IPv6 address (RFC 5952), so that duplicates are seen. */
function canonical(address: string): string {
  if (isIPv4(address) || address.includes('%') || address.includes('.')) return address;
  return new URL(`http://[${address}]/`).hostname.slice(1, -1);
}
