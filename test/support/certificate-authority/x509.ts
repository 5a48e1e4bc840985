import { type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';
import * as der from './der.ts';

/** Who signs. */
export interface Issuer {
  readonly commonName: string;
  readonly privateKey: KeyObject;
}

export interface CertificateContents {
  /** Undefined: an empty subject, as istiod gives workloads. */
  readonly commonName: string | undefined;
  readonly serial: Buffer;
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly extensions: readonly Buffer[];
}

const ecdsaWithSha256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));

/** What is signed of a certificate: version 3 (RFC 5280 section 4.1), in DER. */
export function tbsCertificate(issuerName: string, contents: CertificateContents): Buffer {
  return der.sequence(
    der.tagged(0, der.integer(Buffer.of(2))),
    der.integer(contents.serial),
    ecdsaWithSha256,
    der.name(issuerName),
    der.sequence(der.time(contents.notBefore), der.time(contents.notAfter)),
    contents.commonName === undefined ? der.sequence() : der.name(contents.commonName),
    contents.publicKey,
    der.tagged(3, der.sequence(...contents.extensions)),
  );
}

/** A certificate signed with ECDSA and SHA-256, in DER. */
export function buildCertificate(issuer: Issuer, contents: CertificateContents): Buffer {
  const tbs = tbsCertificate(issuer.commonName, contents);
  return der.sequence(tbs, ecdsaWithSha256, der.bits(sign('sha256', tbs, issuer.privateKey)));
}

/** A positive number in its shortest form: the first byte is below 0x80 and not 0. */
export function randomSerial(): Buffer {
  return Buffer.concat([Buffer.of(0x01), randomBytes(15)]);
}

/** Of a certificate that signs others. */
export const authorityExtensions: readonly Buffer[] = [
  der.extension('2.5.29.19', der.sequence(der.isTrue), true),
  // keyCertSign and cRLSign.
  der.extension('2.5.29.15', Buffer.from('03020106', 'hex'), true),
];

/** Of a server's and client's certificate. `names`: DNS names, IP literals and URIs. */
export function peerExtensions(names: readonly string[], hasCommonName: boolean): readonly Buffer[] {
  return [
    der.extension('2.5.29.19', der.sequence(), true),
    // digitalSignature and keyEncipherment.
    der.extension('2.5.29.15', Buffer.from('030205a0', 'hex'), true),
    der.extension('2.5.29.37', der.sequence(der.oid('1.3.6.1.5.5.7.3.1'), der.oid('1.3.6.1.5.5.7.3.2'))),
    // Critical where it is the only name (RFC 5280 section 4.2.1.6).
    ...(names.length === 0
      ? []
      : [der.extension('2.5.29.17', der.sequence(...names.map(generalName)), !hasCommonName)]),
  ];
}

/** GeneralName of RFC 5280 section 4.2.1.6: a URI, an address or a DNS name. */
function generalName(name: string): Buffer {
  if (name.includes('://')) return der.element(0x86, Buffer.from(name));
  if (isIP(name) === 4) return der.element(0x87, Buffer.from(name.split('.').map(Number)));
  if (isIP(name) === 6) return der.element(0x87, addressBytes(name));
  return der.element(0x82, Buffer.from(name));
}

/** The 16 bytes of an IPv6 literal without an embedded IPv4 part. */
function addressBytes(address: string): Buffer {
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return Buffer.from([...left, ...middle, ...right].map((group) => group.padStart(4, '0')).join(''), 'hex');
}
