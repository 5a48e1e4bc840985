import { isUtf8 } from 'node:buffer';
import { readFields, WireFormatError } from '../../proto/wire.ts';
import { certificateBlocks, parseCertificate } from '../identity/pem.ts';

/** Type URL of the mesh's ProxyConfig (PCDS), of which only the trust bundle is read. */
export const proxyConfigTypeUrl = 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig';

/**
 * The roots of the mesh (`ca_certificates_pem`, field 34), each as one PEM block; empty without any. Throws
 * WireFormatError, also for a text that is no certificate: Envoy would refuse all roots with it. Source: istio/istio
 * `pkg/istio-agent/xds_proxy.go`.
 */
export function decodeTrustBundle(message: Buffer | undefined): readonly string[] {
  const texts: string[] = [];
  for (const field of readFields(message ?? Buffer.alloc(0))) {
    if (field.number !== 34 || field.kind !== 'bytes') continue;
    const number = texts.length + 1;
    if (!isUtf8(field.value)) throw new WireFormatError(`text ${number} of the trust bundle is not UTF-8`);
    texts.push(field.value.toString('utf8'));
  }
  return texts.flatMap((text, index) => {
    const blocks = certificateBlocks(text);
    if (blocks.length > 0 && blocks.every((block) => parseCertificate(block) !== undefined)) return blocks;
    throw new WireFormatError(`text ${index + 1} of the trust bundle is no PEM certificate`);
  });
}
