import { getCACertificates, setDefaultCACertificates } from 'node:tls';

let isSet = false;

/**
 * Lets TLS without a CA file of its own trust what the system trusts (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else the base
 * image's CA bundle), as Go does, and `NODE_EXTRA_CA_CERTS`. A system that has no roots leaves those of Node, which are
 * Mozilla's. For the process, once, in some tens of milliseconds: to be called before the first TLS connection.
 */
export function trustSystemRoots(): void {
  if (isSet) return;
  isSet = true;
  const system = getCACertificates('system');
  const roots = system.length > 0 ? system : getCACertificates('bundled');
  // Linux has most of them twice, in a folder and in a file.
  setDefaultCACertificates([...new Set([...roots, ...getCACertificates('extra')])]);
}
