import { isIP, isIPv4, SocketAddress } from 'node:net';

/**
 * 4 or 6 for an IP address, else 0: what `isIP` says. That one compiles a large pattern for IPv6 with the first text that
 * is no IPv4 address, which takes milliseconds of the start.
 */
export function ipFamily(text: string): 0 | 4 | 6 {
  if (!text.includes(':')) return isIPv4(text) ? 4 : 0;
  // A zone, or nothing that the other way would understand.
  if (!/^[\da-f:.]+$/i.test(text)) return isIP(text) === 6 ? 6 : 0;
  try {
    new SocketAddress({ address: text, family: 'ipv6' });
    return 6;
  } catch {
    return 0;
  }
}
