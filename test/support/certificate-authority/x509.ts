import { type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIPv4 } from 'node:net';
import * as der from '../../../agent/identity/der.ts';

/** Who signs. */
export interface Issuer {
  readonly commonName: string;
  readonly privateKey: KeyObject;
}

export interface CertificateContents {
  /** Undefined: an empty subject, as istiod gives workloads. */
  readonly commonName: string | undefined;
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly isAuthority: boolean;
  /** DNS names, IPv4 addresses and URIs. */
  readonly names: readonly string[];
}

const ecdsaWithSha256 = der.sequence(der.objectId('1.2.840.10045.4.3.2'));
const generalizedTime = 0x18;
const utf8String = 0x0c;

/** An X.509 certificate of version 3 (RFC 5280 section 4.1), signed with ECDSA and SHA-256. PEM. */
export function buildCertificate(issuer: Issuer, contents: CertificateContents): string {
  // The first byte stays below 0x80 and is not 0: a positive integer in its shortest form.
  const serial = der.element(0x02, Buffer.of(0x01), randomBytes(15));
  const body = der.sequence(
    der.element(der.contextTag(0, true), der.smallInteger(2)),
    serial,
    ecdsaWithSha256,
    distinguishedName(issuer.commonName),
    der.sequence(time(contents.notBefore), time(contents.notAfter)),
    distinguishedName(contents.commonName),
    contents.publicKey,
    der.element(der.contextTag(3, true), der.sequence(...extensionsOf(contents))),
  );
  const signature = der.bitString(sign('sha256', body, issuer.privateKey));
  const lines =
    der
      .sequence(body, ecdsaWithSha256, signature)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function extensionsOf({ isAuthority, names, commonName }: CertificateContents): readonly Buffer[] {
  const alternativeNames = der.sequence(...names.map(generalName));
  if (isAuthority) {
    return [
      extension('2.5.29.19', true, der.sequence(der.booleanTrue())),
      // keyCertSign and cRLSign.
      extension('2.5.29.15', true, Buffer.from([0x03, 0x02, 0x01, 0x06])),
    ];
  }
  return [
    extension('2.5.29.19', true, der.sequence()),
    // digitalSignature and keyEncipherment.
    extension('2.5.29.15', true, Buffer.from([0x03, 0x02, 0x05, 0xa0])),
    extension(
      '2.5.29.37',
      false,
      der.sequence(der.objectId('1.3.6.1.5.5.7.3.1'), der.objectId('1.3.6.1.5.5.7.3.2')),
    ),
    // Critical where it is the only name (RFC 5280 section 4.2.1.6).
    extension('2.5.29.17', commonName === undefined, alternativeNames),
  ];
}

function extension(objectId: string, isCritical: boolean, value: Buffer): Buffer {
  const critical = isCritical ? [der.booleanTrue()] : [];
  return der.sequence(der.objectId(objectId), ...critical, der.octetString(value));
}

function generalName(name: string): Buffer {
  if (name.includes('://')) return der.element(der.contextTag(6, false), Buffer.from(name));
  if (isIPv4(name)) return der.element(der.contextTag(7, false), Buffer.from(name.split('.').map(Number)));
  return der.element(der.contextTag(2, false), Buffer.from(name));
}

function distinguishedName(commonName: string | undefined): Buffer {
  if (commonName === undefined) return der.sequence();
  const text = der.element(utf8String, Buffer.from(commonName));
  return der.sequence(der.set(der.sequence(der.objectId('2.5.4.3'), text)));
}

function time(date: Date): Buffer {
  const digits = date.toISOString().replaceAll(/[-:T]|\..*$/g, '');
  return der.element(generalizedTime, Buffer.from(`${digits}Z`));
}
