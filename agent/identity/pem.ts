import { X509Certificate } from 'node:crypto';

const begin = '-----BEGIN CERTIFICATE-----';
const end = '-----END CERTIFICATE-----';

/**
 * The PEM certificates of a text, without what stands around them. Runs in one pass: the text may be any file that a
 * client of the SDS socket has named.
 */
export function certificateBlocks(text: string): readonly string[] {
  const blocks: string[] = [];
  for (let from = text.indexOf(begin); from !== -1; from = text.indexOf(begin, from)) {
    const last = text.indexOf(end, from);
    if (last === -1) break;
    blocks.push(text.slice(from, last + end.length));
    from = last + end.length;
  }
  return blocks;
}

/** The certificate, or undefined when its contents cannot be read as one. */
export function parseCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

/** PEM texts as one, each on lines of its own (`concatCerts` of the stock agent). */
export function joinCertificates(certificates: readonly string[]): string {
  return certificates
    .map((text, index) => (index < certificates.length - 1 && !text.endsWith('\n') ? `${text}\n` : text))
    .join('');
}

/**
 * The roots a workload trusts: those of the CA or of a file, and those of the mesh, each once, sorted as texts, with a
 * newline between them (`mergeConfigTrustBundle` of the stock agent).
 */
export function mergeAnchors(roots: string, meshAnchors: readonly string[]): string {
  const anchors = new Set([...meshAnchors.flatMap(certificateBlocks), ...certificateBlocks(roots)]);
  return [...anchors].sort().join('\n');
}
