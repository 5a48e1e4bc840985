import { isUtf8 } from 'node:buffer';
import { readFields, WireFormatError } from '../identity/protobuf-wire.ts';

/** Type URL of the mesh's ProxyConfig (PCDS), of which only the trust bundle is read. */
export const proxyConfigTypeUrl = 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig';

/**
 * The roots of the mesh (`ca_certificates_pem`, field 34) as one PEM text, one newline between items; empty without
 * any. Throws WireFormatError. Source: istio/istio `pkg/istio-agent/xds_proxy.go`.
 */
export function decodeTrustBundle(message: Buffer | undefined): string {
  let bundle = '';
  for (const field of readFields(message ?? Buffer.alloc(0))) {
    if (field.number !== 34 || field.kind !== 'bytes') continue;
    if (!isUtf8(field.value)) throw new WireFormatError('a certificate of the trust bundle is not UTF-8');
    const separator = bundle === '' || bundle.endsWith('\n') ? '' : '\n';
    bundle += separator + field.value.toString('utf8');
  }
  return bundle;
}
