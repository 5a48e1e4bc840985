import { isIP } from 'node:net';

/** What the proxy uses of resolv.conf (resolv.conf(5)). */
export interface ResolvConf {
  /** Addresses in order. */
  readonly nameservers: readonly string[];
  readonly searchDomains: readonly string[];
  /** Nameservers that are no address. */
  readonly ignored: readonly string[];
}

/** More than any resolver library looks at (glibc: 3 and 6). */
const maxListLength = 16;

/** Reads a resolv.conf; of `search` and `domain` the last line counts. Takes any text. */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  const ignored: string[] = [];
  let searchDomains: readonly string[] = [];
  for (const line of text.split('\n')) {
    if (/^\s*[#;]/.test(line)) continue;
    const [keyword, ...values] = line.split(/\s+/).filter((word) => word !== '');
    const [first] = values;
    if (first === undefined) continue;
    switch (keyword) {
      case 'nameserver': {
        const list = isIP(first) === 0 ? ignored : nameservers;
        if (list.length < maxListLength && !list.includes(first)) list.push(first);
        break;
      }
      case 'domain':
        searchDomains = [first];
        break;
      case 'search':
        searchDomains = values.slice(0, maxListLength);
        break;
      default:
        break;
    }
  }
  return { nameservers, searchDomains, ignored };
}
