import { createHash, X509Certificate } from 'node:crypto';
import type { Fault } from './verdict.ts';
import { decodeBase64, decodeJson } from './wire-text.ts';

export type BundleBuild =
  | { readonly kind: 'bundle'; readonly json: unknown }
  | { readonly kind: 'fault'; readonly fault: Fault };

const certificateKey = 'dev.sigstore.cosign/certificate';
const logEntryKey = 'dev.sigstore.cosign/bundle';
const timestampKey = 'dev.sigstore.cosign/rfc3161timestamp';
const advice = 'sign the image again with cosign';

/**
 * A classic keyless signature as the Sigstore bundle (version 0.1) that says the same; nothing of it is verified here.
 * The chain beside the certificate (`dev.sigstore.cosign/chain`) is left out: the trusted root has its own.
 */
export async function classicBundle(found: {
  readonly payload: Buffer;
  readonly signature: Buffer;
  readonly annotations: Readonly<Record<string, string>>;
}): Promise<BundleBuild> {
  const { annotations, payload, signature } = found;
  const pem = annotations[certificateKey];
  if (pem === undefined) {
    const seen = `it has no certificate (annotation ${certificateKey}): it was made with a bare key`;
    const then = 'sign with an identity, or name the key as a signer';
    return { kind: 'fault', fault: { code: 'wrong_signature', seen, advice: then } };
  }
  const certificate = readCertificate(pem);
  if (certificate === undefined) return malformed(certificateKey);
  const logEntries = await readLogEntries(annotations[logEntryKey]);
  if (logEntries === undefined) return malformed(logEntryKey);
  const timestamps = await readTimestamps(annotations[timestampKey]);
  if (timestamps === undefined) return malformed(timestampKey);
  // cosign hashes with SHA-384 for keys on P-384, else with SHA-256.
  const isP384 = certificate.publicKey.asymmetricKeyDetails?.namedCurve === 'secp384r1';
  const digest = createHash(isP384 ? 'sha384' : 'sha256')
    .update(payload)
    .digest('base64');
  const json = {
    mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
    verificationMaterial: {
      x509CertificateChain: { certificates: [{ rawBytes: certificate.raw.toString('base64') }] },
      tlogEntries: logEntries,
      timestampVerificationData: { rfc3161Timestamps: timestamps },
    },
    messageSignature: {
      messageDigest: { algorithm: isP384 ? 'SHA2_384' : 'SHA2_256', digest },
      signature: signature.toString('base64'),
    },
  };
  return { kind: 'bundle', json };
}

function malformed(annotation: string): BundleBuild {
  return {
    kind: 'fault',
    fault: { code: 'malformed', seen: `its annotation ${annotation} cannot be read`, advice },
  };
}

function readCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

/** None for an absent annotation; undefined for a malformed one. */
async function readLogEntries(annotation: string | undefined): Promise<readonly unknown[] | undefined> {
  // cosign writes "null" for none.
  if (annotation === undefined || annotation === '' || annotation === 'null') return [];
  const { logBodySchema, logEntrySchema } = await import('./wire-schema.ts');
  const entry = logEntrySchema.safeParse(decodeJson(annotation));
  if (!entry.success) return undefined;
  const { SignedEntryTimestamp, Payload } = entry.data;
  const body = decodeBase64(Payload.body);
  const kind = body === undefined ? undefined : logBodySchema.safeParse(decodeJson(body));
  if (kind?.success !== true || decodeBase64(SignedEntryTimestamp) === undefined) return undefined;
  return [
    {
      logIndex: String(Payload.logIndex),
      logId: { keyId: Buffer.from(Payload.logID, 'hex').toString('base64') },
      kindVersion: { kind: kind.data.kind, version: kind.data.apiVersion },
      integratedTime: String(Payload.integratedTime),
      inclusionPromise: { signedEntryTimestamp: SignedEntryTimestamp },
      canonicalizedBody: Payload.body,
    },
  ];
}

/** None for an absent annotation; undefined for a malformed one. */
async function readTimestamps(annotation: string | undefined): Promise<readonly unknown[] | undefined> {
  if (annotation === undefined || annotation === '' || annotation === 'null') return [];
  const { timestampSchema } = await import('./wire-schema.ts');
  const parsed = timestampSchema.safeParse(decodeJson(annotation));
  if (!parsed.success || decodeBase64(parsed.data.SignedRFC3161Timestamp) === undefined) return undefined;
  return [{ signedTimestamp: parsed.data.SignedRFC3161Timestamp }];
}
