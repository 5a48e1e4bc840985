import { constants, createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { describeError } from '../../log.ts';

/**
 * Ways of signing that are known. For P-384 keys cosign hashes with SHA-384, older ones with SHA-256; RSA signatures
 * are PKCS #1 v1.5 by default and PSS from some key services (sigstore/sigstore
 * `pkg/signature/algorithm_registry.go`). Ed25519 is the plain one: node has no pre-hashed Ed25519ph.
 */
export const signatureAlgorithms = [
  'ecdsa-p256-sha256',
  'ecdsa-p384-sha384',
  'ecdsa-p384-sha256',
  'ed25519',
  'rsa-pkcs1-sha256',
  'rsa-pss-sha256',
] as const;
export type SignatureAlgorithm = (typeof signatureAlgorithms)[number];

/** A public key of a signer and what it may be used for. */
export interface SignerKey {
  /** SHA-256 of the SubjectPublicKeyInfo, hex; in base64 it is the key hint of cosign's bundles. */
  readonly id: string;
  readonly key: KeyObject;
  /** At least one. */
  readonly algorithms: readonly SignatureAlgorithm[];
}

export type KeyParse =
  | { readonly kind: 'parsed'; readonly keys: readonly SignerKey[] }
  | { readonly kind: 'rejected'; readonly problem: string };

const minRsaBits = 2048;
const pemBlock = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g;
const publicLabels: readonly string[] = ['PUBLIC KEY', 'RSA PUBLIC KEY'];

/** Reads the public keys of a PEM text. `allowed` narrows what they may be used for; undefined: all that fits the key. */
export function parsePublicKeys(pem: string, allowed: readonly SignatureAlgorithm[] | undefined): KeyParse {
  const keys: SignerKey[] = [];
  for (const [block, label = ''] of pem.matchAll(pemBlock)) {
    // A private key would be taken as well, and a policy file is no place for one.
    if (!publicLabels.includes(label)) {
      return rejected(
        `holds a PEM block "${label}"; only public keys are taken ("PUBLIC KEY", what cosign writes to cosign.pub)`,
      );
    }
    const parsed = parseBlock(block, allowed);
    if (parsed.kind === 'rejected') return parsed;
    keys.push(...parsed.keys);
  }
  if (keys.length === 0)
    return rejected('holds no PEM block "-----BEGIN PUBLIC KEY-----"; give the whole text of cosign.pub');
  return { kind: 'parsed', keys };
}

function parseBlock(block: string, allowed: readonly SignatureAlgorithm[] | undefined): KeyParse {
  let key: KeyObject;
  try {
    key = createPublicKey(block);
  } catch (error) {
    return rejected(`cannot be read as a public key: ${describeError(error)}`);
  }
  const fitting = algorithmsOf(key);
  if (typeof fitting === 'string') return rejected(fitting);
  const algorithms = allowed === undefined ? fitting : fitting.filter((each) => allowed.includes(each));
  if (algorithms.length === 0) {
    return rejected(
      `is for ${fitting.join(' or ')}, and the signer's "algorithms" allow none of these; add one or change the key`,
    );
  }
  const id = createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
  return { kind: 'parsed', keys: [{ id, key, algorithms }] };
}

function rejected(problem: string): KeyParse {
  return { kind: 'rejected', problem };
}

/** What a key can be used for, or why for nothing. */
function algorithmsOf(key: KeyObject): readonly SignatureAlgorithm[] | string {
  const details = key.asymmetricKeyDetails;
  const wanted = 'use ECDSA P-256 or P-384, Ed25519 or RSA';
  switch (key.asymmetricKeyType) {
    case 'ec':
      if (details?.namedCurve === 'prime256v1') return ['ecdsa-p256-sha256'];
      if (details?.namedCurve === 'secp384r1') return ['ecdsa-p384-sha384', 'ecdsa-p384-sha256'];
      return `is on the curve ${details?.namedCurve ?? 'unknown'}, which is not supported; ${wanted}`;
    case 'ed25519':
      return ['ed25519'];
    case 'rsa':
    case 'rsa-pss': {
      const bits = details?.modulusLength ?? 0;
      if (bits < minRsaBits) return `is an RSA key of ${bits} bits; ${minRsaBits} is the least that is safe`;
      if (key.asymmetricKeyType === 'rsa') return ['rsa-pkcs1-sha256', 'rsa-pss-sha256'];
      const hashes = new Set([details?.hashAlgorithm ?? 'sha256', details?.mgf1HashAlgorithm ?? 'sha256']);
      if (hashes.size === 1 && hashes.has('sha256')) return ['rsa-pss-sha256'];
      return `is an RSA-PSS key for ${[...hashes].join(' and ')}, only sha256 is supported; ${wanted}`;
    }
    default:
      return `is of type ${key.asymmetricKeyType ?? 'unknown'}, which is not supported; ${wanted}`;
  }
}

/** True when `signature` was made over `data` with this key in one of the ways it may be used. */
export function isSignedBy(signer: SignerKey, data: Uint8Array, signature: Uint8Array): boolean {
  return signer.algorithms.some((algorithm) => isSignedWith(algorithm, signer.key, data, signature));
}

function isSignedWith(
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  switch (algorithm) {
    case 'ecdsa-p256-sha256':
    case 'ecdsa-p384-sha256':
      return verify('sha256', data, { key, dsaEncoding: 'der' }, signature);
    case 'ecdsa-p384-sha384':
      return verify('sha384', data, { key, dsaEncoding: 'der' }, signature);
    case 'ed25519':
      return verify(null, data, key, signature);
    case 'rsa-pkcs1-sha256':
      return verify('sha256', data, { key, padding: constants.RSA_PKCS1_PADDING }, signature);
    case 'rsa-pss-sha256': {
      const saltLength = constants.RSA_PSS_SALTLEN_AUTO;
      return verify('sha256', data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, signature);
    }
    default:
      return algorithm satisfies never;
  }
}
