import { constants, createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { pem } from '../../../support/certificate-authority/der.ts';
import type { LogEntry, PrivateSigstore } from './private-sigstore.ts';

export type KeyKind = 'P-256' | 'P-384' | 'P-384 with SHA-256' | 'Ed25519' | 'RSA-2048' | 'RSA-2048 with PSS';

export const keyKinds: readonly KeyKind[] = [
  'P-256',
  'P-384',
  'P-384 with SHA-256',
  'Ed25519',
  'RSA-2048',
  'RSA-2048 with PSS',
];

/** A key pair that signs as cosign does with this kind of key. */
export interface SigningKey {
  readonly publicKey: KeyObject;
  readonly publicKeyPem: string;
  readonly sign: (data: Uint8Array) => Buffer;
}

export function makeKey(kind: KeyKind): SigningKey {
  const { publicKey, privateKey } = makePair(kind);
  return {
    publicKey,
    publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }) as string,
    sign: (data) => signAs(kind, data, privateKey),
  };
}

function makePair(kind: KeyKind): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  switch (kind) {
    case 'P-256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' });
    case 'P-384':
    case 'P-384 with SHA-256':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' });
    case 'Ed25519':
      return generateKeyPairSync('ed25519');
    case 'RSA-2048':
    case 'RSA-2048 with PSS':
      return generateKeyPairSync('rsa', { modulusLength: 2048 });
    default:
      return kind satisfies never;
  }
}

function signAs(kind: KeyKind, data: Uint8Array, key: KeyObject): Buffer {
  switch (kind) {
    case 'P-256':
    case 'P-384 with SHA-256':
    case 'RSA-2048':
      return sign('sha256', data, key);
    case 'P-384':
      return sign('sha384', data, key);
    case 'Ed25519':
      return sign(null, data, key);
    case 'RSA-2048 with PSS':
      return sign('sha256', data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
    default:
      return kind satisfies never;
  }
}

/** One layer of the image under a `.sig` tag. */
export interface ClassicLayer {
  readonly payload: Buffer;
  readonly annotations: Record<string, string>;
}

/** The signed document, byte for byte as cosign 3.1.3 writes it; `digest` is hex. */
export function classicPayload(digest: string, reference = 'registry.test/team/plugin'): Buffer {
  return Buffer.from(
    `{"critical":{"identity":{"docker-reference":${JSON.stringify(reference)}},"image":{"docker-manifest-digest":"sha256:${digest}"},"type":"cosign container image signature"},"optional":null}`,
  );
}

/** Signs with a key: `cosign sign --key --new-bundle-format=false`. */
export function signClassic(key: SigningKey, payload: Buffer): ClassicLayer {
  return {
    payload,
    annotations: { 'dev.cosignproject.cosign/signature': key.sign(payload).toString('base64') },
  };
}

/** The signed statement, byte for byte as cosign 3.1.3 writes it; `digest` is hex. */
export function signStatement(digest: string, predicateType = 'https://sigstore.dev/cosign/sign/v1'): Buffer {
  return Buffer.from(
    `{"_type":"https://in-toto.io/Statement/v1", "subject":[{"digest":{"sha256":"${digest}"}, "annotations":{}}], "predicateType":"${predicateType}", "predicate":{}}`,
  );
}

const statementType = 'application/vnd.in-toto+json';

/** DSSE's pre-authentication encoding, of the specification's text. */
function paeOf(payloadType: string, payload: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.byteLength} `),
    payload,
  ]);
}

/** A bundle made with a key: `cosign sign --key`. */
export function keyBundle(
  key: SigningKey,
  payload: Buffer,
  payloadType = statementType,
): Record<string, unknown> {
  const hint = createHash('sha256')
    .update(key.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64');
  const sig = key.sign(paeOf(payloadType, payload)).toString('base64');
  return {
    mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: { publicKey: { hint } },
    dsseEnvelope: { payload: payload.toString('base64'), payloadType, signatures: [{ sig }] },
  };
}

/** Who signs without a key of its own, and how it goes wrong. */
export interface KeylessOptions {
  readonly sigstore: PrivateSigstore;
  readonly subject: string;
  readonly issuer: string;
  /** When the certificate begins; the signature is made `signedAfterMs` later (default: a second). */
  readonly at?: Date;
  readonly signedAfterMs?: number;
  readonly isForCodeSigning?: boolean;
  readonly isInCertificateLog?: boolean;
  /** What proves the time. Default: the log's entry. */
  readonly proofs?: readonly ('log' | 'timestamp')[];
  readonly key?: SigningKey;
}

interface KeylessParts {
  readonly key: SigningKey;
  readonly certificate: Buffer;
  readonly signedAt: Date;
  readonly proofs: readonly ('log' | 'timestamp')[];
}

function begin(options: KeylessOptions): KeylessParts {
  const at = options.at ?? new Date();
  const key = options.key ?? makeKey('P-256');
  const { isForCodeSigning, isInCertificateLog, issuer, subject } = options;
  const certificate = options.sigstore.certificate({
    publicKey: key.publicKey,
    subject,
    issuer,
    notBefore: at,
    ...(isForCodeSigning === undefined ? {} : { isForCodeSigning }),
    ...(isInCertificateLog === undefined ? {} : { isInCertificateLog }),
  });
  return {
    key,
    certificate,
    signedAt: new Date(at.getTime() + (options.signedAfterMs ?? 1000)),
    proofs: options.proofs ?? ['log'],
  };
}

/** Signs with an identity: `cosign sign --new-bundle-format=false`. */
export function signClassicKeyless(options: KeylessOptions, payload: Buffer): ClassicLayer {
  const { certificate, key, proofs, signedAt } = begin(options);
  const signature = key.sign(payload);
  const annotations: Record<string, string> = {
    'dev.cosignproject.cosign/signature': signature.toString('base64'),
    'dev.sigstore.cosign/certificate': pem('CERTIFICATE', certificate),
    'dev.sigstore.cosign/chain': '',
  };
  if (proofs.includes('log')) {
    const entry = options.sigstore.logEntry(hashedRecord(payload, signature, certificate), signedAt);
    annotations['dev.sigstore.cosign/bundle'] = classicEntry(entry);
  }
  if (proofs.includes('timestamp')) {
    const response = options.sigstore.timestamp(signature, signedAt).toString('base64');
    annotations['dev.sigstore.cosign/rfc3161timestamp'] = JSON.stringify({
      SignedRFC3161Timestamp: response,
    });
  }
  return { payload, annotations };
}

/** The form of a log entry in an annotation. */
function classicEntry(entry: LogEntry): string {
  return JSON.stringify({
    SignedEntryTimestamp: entry.inclusionPromise.signedEntryTimestamp,
    Payload: {
      body: entry.canonicalizedBody,
      integratedTime: Number(entry.integratedTime),
      logIndex: Number(entry.logIndex),
      logID: Buffer.from(entry.logId.keyId, 'base64').toString('hex'),
    },
  });
}

function hashedRecord(
  payload: Buffer,
  signature: Buffer,
  certificate: Buffer,
): Parameters<PrivateSigstore['logEntry']>[0] {
  const value = createHash('sha256').update(payload).digest('hex');
  const content = Buffer.from(pem('CERTIFICATE', certificate)).toString('base64');
  const spec = {
    data: { hash: { algorithm: 'sha256', value } },
    signature: { content: signature.toString('base64'), publicKey: { content } },
  };
  return { apiVersion: '0.0.1', kind: 'hashedrekord', spec };
}

/** A bundle made with an identity: `cosign sign`. */
export function keylessBundle(options: KeylessOptions, payload: Buffer): Record<string, unknown> {
  const { certificate, key, proofs, signedAt } = begin(options);
  const signature = key.sign(paeOf(statementType, payload));
  const bundle = keyBundle({ ...key, sign: () => signature }, payload);
  const hash = (bytes: Buffer): unknown => ({
    algorithm: 'sha256',
    value: createHash('sha256').update(bytes).digest('hex'),
  });
  const verifier = Buffer.from(pem('CERTIFICATE', certificate)).toString('base64');
  const spec = {
    envelopeHash: hash(Buffer.from(JSON.stringify(bundle['dsseEnvelope']))),
    payloadHash: hash(payload),
    signatures: [{ signature: signature.toString('base64'), verifier }],
  };
  const entry = options.sigstore.logEntry({ apiVersion: '0.0.1', kind: 'dsse', spec }, signedAt);
  const signedTimestamp = options.sigstore.timestamp(signature, signedAt).toString('base64');
  return {
    ...bundle,
    verificationMaterial: {
      certificate: { rawBytes: certificate.toString('base64') },
      tlogEntries: proofs.includes('log') ? [entry] : [],
      timestampVerificationData: {
        rfc3161Timestamps: proofs.includes('timestamp') ? [{ signedTimestamp }] : [],
      },
    },
  };
}
