import { createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';
import type { CsrConfig, KeyKind } from '../config/identity-config.ts';
import * as der from './der.ts';

/** A signing request with the key that it is for. */
export interface CertificateRequest {
  /** PEM. */
  readonly csr: string;
  /** PEM. A secret. */
  readonly key: Buffer;
  readonly privateKey: KeyObject;
}

const makeKeyPair = promisify(generateKeyPair);

/** RFC 3279 and RFC 5758: ECDSA has no parameters, RSA has NULL. */
const signatures = {
  rsa: {
    hash: 'sha256',
    algorithm: der.sequence(der.objectId('1.2.840.113549.1.1.11'), der.nullValue()),
  },
  'P-256': { hash: 'sha256', algorithm: der.sequence(der.objectId('1.2.840.10045.4.3.2')) },
  'P-384': { hash: 'sha384', algorithm: der.sequence(der.objectId('1.2.840.10045.4.3.3')) },
} as const;

/**
 * Makes a new key and its PKCS#10 request (RFC 2986). The identity is a critical subject alternative name; the subject
 * is one empty organisation, as the stock agent sends it (`security/pkg/pki/util/generate_csr.go`). istiod signs what
 * the token says, not what is asked for here.
 */
export async function createCertificateRequest(config: CsrConfig): Promise<CertificateRequest> {
  const privateKey = await generateKey(config.key);
  const traditional = config.key.kind === 'rsa' ? 'pkcs1' : 'sec1';
  const key = privateKey.export({
    type: config.keyFormat === 'pkcs8' ? 'pkcs8' : traditional,
    format: 'pem',
  });
  return { csr: encodeCertificateRequest(privateKey, config), key: Buffer.from(key), privateKey };
}

/** The request for a key of the configured kind, in PEM. */
export function encodeCertificateRequest(
  privateKey: KeyObject,
  config: Pick<CsrConfig, 'key' | 'spiffeId'>,
): string {
  const { hash, algorithm } = signatures[config.key.kind === 'rsa' ? 'rsa' : config.key.curve];
  const info = der.sequence(
    der.smallInteger(0),
    subject,
    createPublicKey(privateKey).export({ type: 'spki', format: 'der' }),
    attributes(config.spiffeId),
  );
  const request = der.sequence(info, algorithm, der.bitString(sign(hash, info, privateKey)));
  return pem('CERTIFICATE REQUEST', request);
}

async function generateKey(kind: KeyKind): Promise<KeyObject> {
  switch (kind.kind) {
    case 'rsa':
      return (await makeKeyPair('rsa', { modulusLength: kind.sizeBits })).privateKey;
    case 'ecdsa':
      return (await makeKeyPair('ec', { namedCurve: kind.curve })).privateKey;
    default:
      return kind satisfies never;
  }
}

const organizationName = '2.5.4.10';
const extensionRequest = '1.2.840.113549.1.9.14';
const subjectAlternativeName = '2.5.29.17';
/** GeneralName `uniformResourceIdentifier` (RFC 5280 section 4.2.1.6). */
const uriTag = der.contextTag(6, false);

const subject = der.sequence(der.set(der.sequence(der.objectId(organizationName), der.printableString(''))));

function attributes(spiffeId: string): Buffer {
  const names = der.sequence(der.element(uriTag, Buffer.from(spiffeId, 'latin1')));
  const extension = der.sequence(
    der.objectId(subjectAlternativeName),
    der.booleanTrue(),
    der.octetString(names),
  );
  return der.element(
    der.contextTag(0, true),
    der.sequence(der.objectId(extensionRequest), der.set(der.sequence(extension))),
  );
}

function pem(label: string, contents: Buffer): string {
  const lines = contents.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
