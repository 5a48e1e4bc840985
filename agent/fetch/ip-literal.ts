import { BlockList, isIPv4, isIPv6 } from 'node:net';

/** The host of a URL or a resolved address without IPv6 brackets and without a zone. */
export function bareHost(hostname: string): string {
  const unbracketed = hostname.startsWith('[') && hostname.endsWith(']') ? hostname.slice(1, -1) : hostname;
  const zone = unbracketed.indexOf('%');
  return zone === -1 ? unbracketed : unbracketed.slice(0, zone);
}

/**
 * The one spelling of an IP address: IPv4 dotted, IPv6 in compressed lower case. Addresses that only wrap an IPv4
 * one (IPv4-mapped, and the NAT64 prefix of RFC 6052) come out as that one, because there the packets go.
 * Undefined when the text is no address.
 */
export function canonicalIp(host: string): string | undefined {
  const bare = bareHost(host);
  if (isIPv4(bare)) return bare;
  if (!bare.includes(':') || !isIPv6(bare)) return undefined;
  const compressed = new URL(`http://[${bare}]`).hostname.slice(1, -1);
  const groups = expandIpv6(compressed);
  const prefix = groups
    .slice(0, 6)
    .map((group) => group.toString(16))
    .join(':');
  if (prefix !== '0:0:0:0:0:ffff' && prefix !== '64:ff9b:0:0:0:0') return compressed;
  const [high = 0, low = 0] = groups.slice(6);
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}

/**
 * The IPv4 addresses that an IPv6 address may lead to by translation or a tunnel: the deprecated IPv4-compatible form,
 * the local NAT64 prefix (RFC 8215), 6to4 (RFC 3056) and Teredo's server (RFC 4380). They are no other spelling of
 * that address, so only a refusal looks at them. `canonical` is what `canonicalIp` gives.
 */
export function embeddedIpv4(canonical: string): readonly string[] {
  // Not asked of `node:net`, which compiles a pattern of 4 ms for it.
  if (!canonical.includes(':')) return [];
  const groups = expandIpv6(canonical);
  const dotted = (at: number): string => {
    const [high = 0, low = 0] = groups.slice(at, at + 2);
    return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
  };
  const isCompatible = groups.slice(0, 6).every((group) => group === 0) && (groups[6] ?? 0) > 0;
  if (isCompatible) return [dotted(6)];
  const [first, second, third] = groups;
  if (first === 0x2002) return [dotted(1)];
  if (first === 0x2001 && second === 0) return [dotted(2)];
  return first === 0x64 && second === 0xff9b && third === 1 ? [dotted(6)] : [];
}

/** The eight numbers of an address in the form that the URL parser writes. */
function expandIpv6(compressed: string): number[] {
  const [left = '', right] = compressed.split('::');
  const read = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const head = read(left);
  if (right === undefined) return head;
  const tail = read(right);
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
}

/** Address family as `node:net` names it. */
export function ipFamily(canonical: string): 'ipv4' | 'ipv6' {
  return isIPv4(canonical) ? 'ipv4' : 'ipv6';
}

/** Addresses; a range of IPv6 may have IPv4 in it (`::/0`). */
export interface AddressSet {
  check(ip: string, family: 'ipv4' | 'ipv6'): boolean;
}

/**
 * A set of addresses from CIDR texts that are known to be good. Node's lists take longer to fill than to ask: it is filled
 * when it is asked first.
 */
export function addressSet(cidrs: readonly string[]): AddressSet {
  let list: BlockList | undefined;
  return {
    check(ip, family) {
      list ??= blockList(cidrs);
      return list.check(ip, family);
    },
  };
}

function blockList(cidrs: readonly string[]): BlockList {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [network = '', prefix] = cidr.split('/');
    list.addSubnet(network, Number(prefix), ipFamily(network));
  }
  return list;
}

const loopback = addressSet(['127.0.0.0/8', '::1/128']);
const rfc1918 = addressSet(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16']);
const internal = addressSet([
  '0.0.0.0/32',
  '::/128',
  '127.0.0.0/8',
  '::1/128',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  'fc00::/7',
  '169.254.0.0/16',
  'fe80::/10',
]);

/** True for the literal addresses 127.0.0.0/8 and ::1; names are not resolved. */
export function isLoopbackLiteral(host: string): boolean {
  return isIn(loopback, host);
}

/** True for literal addresses of RFC 1918; names are not resolved. */
export function isRfc1918Literal(host: string): boolean {
  return isIn(rfc1918, host);
}

/** True for literal private, loopback, link-local and unspecified addresses; names are not resolved. */
export function isInternalLiteral(host: string): boolean {
  return isIn(internal, host);
}

function isIn(list: AddressSet, host: string): boolean {
  const ip = canonicalIp(host);
  return ip !== undefined && list.check(ip, ipFamily(ip));
}
