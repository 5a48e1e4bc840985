import { canonicalIp } from '../fetch/ip-literal.ts';
import { dockerHub } from '../fetch/oci/reference.ts';

/** Names under which Docker Hub's registry answers. */
const hubNames: readonly string[] = [
  'docker.io',
  dockerHub,
  'registry-1.docker.io',
  'registry.hub.docker.com',
];

/**
 * The one spelling of a host with its port, for comparing: lower case, punycode, no final dot, IP addresses in their
 * canonical form, Docker Hub under one name. Ports 80 and 443 are left out: which of the two is meant depends on the
 * scheme, and the operator means the host. Undefined when the text (`host` or `host:port`) is no host.
 */
export function hostKey(hostText: string): string | undefined {
  if (hostText === '' || /[\s/\\?#@%]/.test(hostText)) return undefined;
  const text = `https://${hostText}`;
  return URL.canParse(text) ? hostKeyOf(new URL(text)) : undefined;
}

/** The same for a URL that is already parsed. */
export function hostKeyOf(url: URL): string | undefined {
  const name = url.hostname.replace(/\.$/, '');
  if (name.split('.').includes('')) return undefined;
  const ip = canonicalIp(name);
  const host = hubNames.includes(name) ? dockerHub : (ip ?? name);
  const port = url.port === '' || url.port === '80' || url.port === '443' ? '' : `:${url.port}`;
  return `${host.includes(':') ? `[${host}]` : host}${port}`;
}
