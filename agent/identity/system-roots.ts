import { stat } from 'node:fs/promises';

/** Where distributions keep the CA bundle, most common first (`pkg/security/security.go`, GetOSRootFilePath). */
const candidates = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
  '/usr/local/etc/ssl/cert.pem',
  '/etc/ssl/certs/ca-certificates',
];

/** The first CA bundle that is there; undefined when there is none. */
export async function findSystemRoots(paths: readonly string[] = candidates): Promise<string | undefined> {
  for (const path of paths) {
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined) return path;
  }
  return undefined;
}
