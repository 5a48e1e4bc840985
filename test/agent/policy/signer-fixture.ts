import { generateKeyPairSync } from 'node:crypto';
import { Authority } from '../../support/certificate-authority/authority.ts';

const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** A public key as cosign writes it. */
export const publicKeyPem = publicKey.export({ type: 'spki', format: 'pem' }) as string;

/** A `trusted_root.json` with an authority and a log that nobody else has. */
export function trustedRootJson(): string {
  const { certificate } = Authority.createRoot('Policy test root');
  const der = certificate.replaceAll(/-----[A-Z ]+-----|\s/g, '');
  const start = '2024-01-01T00:00:00Z';
  return JSON.stringify({
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    certificateAuthorities: [{ certChain: { certificates: [{ rawBytes: der }] }, validFor: { start } }],
    tlogs: [
      {
        baseUrl: 'https://log.test',
        publicKey: {
          rawBytes: publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
          validFor: { start },
        },
        logId: { keyId: Buffer.alloc(32, 7).toString('base64') },
      },
    ],
  });
}
