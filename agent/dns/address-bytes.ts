import { isIP } from 'node:net';

/** The 4 or 16 bytes of an address, a zone left out; undefined for text that is none. */
export function addressBytes(address: string): Buffer | undefined {
  const [plain = ''] = address.split('%');
  switch (isIP(plain)) {
    case 4:
      return Buffer.from(plain.split('.').map(Number));
    case 6:
      return ipv6Bytes(plain);
    default:
      return undefined;
  }
}

/** Those of one family: 4 bytes each, or 16. What is no address is left out. */
export function addressesOf(ips: readonly string[], sizeBytes: 4 | 16): readonly Buffer[] {
  return ips.flatMap((ip) => {
    const bytes = addressBytes(ip);
    return bytes?.length === sizeBytes ? [bytes] : [];
  });
}

function ipv6Bytes(address: string): Buffer {
  const bytes = Buffer.alloc(16);
  const [head = '', tail = ''] = address.split('::');
  const left = groupBytes(head);
  const right = groupBytes(tail);
  bytes.set(left, 0);
  bytes.set(right, 16 - right.length);
  return bytes;
}

/** The last group may be an IPv4 address. */
function groupBytes(text: string): readonly number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}
