import type { KeyObject } from 'node:crypto';
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';

/** A key pair with its certificate, as PEM texts. */
export interface Certificate {
  readonly key: string;
  readonly certificate: string;
}

/** An authority that a test makes for itself, so that no key is ever in the repository. */
export interface CertificateAuthority extends Certificate {
  /** A server and client certificate for DNS names, IP literals and URIs (SPIFFE ids). */
  issue(options: IssueOptions): Certificate;
}

export interface IssueOptions {
  readonly hosts: readonly string[];
  /** Default: a day from now. In the past: an expired certificate. */
  readonly notAfter?: Date;
}

const dayMs = 24 * 60 * 60 * 1000;

/** Makes a P-256 authority. */
export function createCertificateAuthority(commonName = 'Ferry test authority'): CertificateAuthority {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = { commonName, privateKey: keys.privateKey };
  const certificate = buildCertificate(issuer, {
    commonName,
    publicKey: keys.publicKey,
    notAfter: new Date(Date.now() + dayMs),
    extensions: [
      extension('551d13', true, sequence(Buffer.from([0x01, 0x01, 0xff]))),
      extension('551d0f', true, Buffer.from([0x03, 0x02, 0x01, 0x06])),
    ],
  });
  return {
    key: pemOf(keys.privateKey),
    certificate,
    issue(options) {
      const leaf = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const names = options.hosts.map(generalName);
      return {
        key: pemOf(leaf.privateKey),
        certificate: buildCertificate(issuer, {
          commonName: options.hosts[0] ?? 'leaf',
          publicKey: leaf.publicKey,
          notAfter: options.notAfter ?? new Date(Date.now() + dayMs),
          extensions: [extension('551d11', false, sequence(...names))],
        }),
      };
    },
  };
}

interface Subject {
  readonly commonName: string;
  readonly publicKey: KeyObject;
  readonly notAfter: Date;
  readonly extensions: readonly Buffer[];
}

/** X.509 version 3 in DER (RFC 5280 section 4.1), signed with ECDSA and SHA-256. */
function buildCertificate(issuer: { commonName: string; privateKey: KeyObject }, subject: Subject): string {
  const algorithm = sequence(element(0x06, Buffer.from('2a8648ce3d040302', 'hex')));
  const notBefore = new Date(Math.min(Date.now(), subject.notAfter.getTime()) - dayMs);
  // The first byte stays below 0x80 and is not 0: a positive integer in its shortest form.
  const serial = Buffer.concat([Buffer.of(0x01), randomBytes(15)]);
  const body = sequence(
    element(0xa0, element(0x02, Buffer.of(2))),
    element(0x02, serial),
    algorithm,
    distinguishedName(issuer.commonName),
    sequence(time(notBefore), time(subject.notAfter)),
    distinguishedName(subject.commonName),
    subject.publicKey.export({ type: 'spki', format: 'der' }),
    element(0xa3, sequence(...subject.extensions)),
  );
  const signature = sign('sha256', body, issuer.privateKey);
  const der = sequence(body, algorithm, element(0x03, Buffer.concat([Buffer.of(0), signature])));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

/** A DER element: tag, length, contents. */
function element(tag: number, contents: Uint8Array): Buffer {
  const size = contents.byteLength;
  if (size < 0x80) return Buffer.concat([Buffer.of(tag, size), contents]);
  const sizeHex = size.toString(16);
  const sizeBytes = Buffer.from(sizeHex.length % 2 === 0 ? sizeHex : `0${sizeHex}`, 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | sizeBytes.byteLength), sizeBytes, contents]);
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return element(0x30, Buffer.concat(parts));
}

function distinguishedName(commonName: string): Buffer {
  const type = element(0x06, Buffer.from('550403', 'hex'));
  return sequence(element(0x31, sequence(type, element(0x0c, Buffer.from(commonName)))));
}

/** UTCTime, `YYMMDDHHMMSSZ`: good for years before 2050. */
function time(date: Date): Buffer {
  const digits = date.toISOString().replaceAll(/[-:T]|\..*$/g, '');
  return element(0x17, Buffer.from(`${digits.slice(2)}Z`));
}

function extension(objectIdHex: string, isCritical: boolean, value: Uint8Array): Buffer {
  const critical = isCritical ? [Buffer.from([0x01, 0x01, 0xff])] : [];
  return sequence(element(0x06, Buffer.from(objectIdHex, 'hex')), ...critical, element(0x04, value));
}

/** GeneralName of RFC 5280 section 4.2.1.6: a URI, an address or a DNS name. */
function generalName(host: string): Buffer {
  if (host.includes('://')) return element(0x86, Buffer.from(host));
  if (isIP(host) === 4) return element(0x87, Buffer.from(host.split('.').map(Number)));
  if (isIP(host) === 6) return element(0x87, addressBytes(host));
  return element(0x82, Buffer.from(host));
}

/** The 16 bytes of an IPv6 literal without an embedded IPv4 part. */
function addressBytes(address: string): Buffer {
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return Buffer.from([...left, ...middle, ...right].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }) as string;
}
