import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

/** DER, as far as a certificate needs it (X.690); an own writer keeps the tests free of external tools. */
function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const size = content.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

const sequence = (...contents: readonly Buffer[]): Buffer => der(0x30, ...contents);
const integer = (value: number): Buffer => der(0x02, Buffer.from([value]));
const octets = (content: Buffer): Buffer => der(0x04, content);
const bits = (content: Buffer): Buffer => der(0x03, Buffer.from([0]), content);
const isTrue = der(0x01, Buffer.from([0xff]));

function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'));
}

const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'));

function name(commonName: string): Buffer {
  return sequence(der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from(commonName)))));
}

function time(date: Date): Buffer {
  return der(0x18, Buffer.from(`${date.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`));
}

function extension(hex: string, value: Buffer, isCritical = false): Buffer {
  return sequence(oid(hex), ...(isCritical ? [isTrue] : []), octets(value));
}

/** Certificate and key as PEM texts, and what signing with it needs. */
export interface TestCertificate {
  readonly certificate: string;
  readonly key: string;
  readonly commonName: string;
  readonly privateKey: KeyObject;
}

let serial = 1;

/** A certificate signed by `issuer`, or by itself when there is none. */
export function makeCertificate(options: {
  readonly commonName: string;
  readonly issuer?: TestCertificate;
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  readonly isAuthority?: boolean;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}): TestCertificate {
  const { commonName, issuer } = options;
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const names = [
    ...(options.dnsNames ?? []).map((dns) => der(0x82, Buffer.from(dns))),
    ...(options.ipAddresses ?? []).map((ip) => der(0x87, Buffer.from(ip.split('.').map(Number)))),
  ];
  const extensions = [
    extension('551d13', sequence(...(options.isAuthority === true ? [isTrue] : [])), true),
    ...(names.length === 0 ? [] : [extension('551d11', sequence(...names))]),
  ];
  const dayMs = 86_400_000;
  serial += 1;
  const body = sequence(
    der(0xa0, integer(2)),
    integer(serial),
    ecdsaWithSha256,
    name(issuer?.commonName ?? commonName),
    sequence(
      time(options.notBefore ?? new Date(Date.now() - dayMs)),
      time(options.notAfter ?? new Date(Date.now() + dayMs)),
    ),
    name(commonName),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  );
  const signature = sign('sha256', body, issuer?.privateKey ?? privateKey);
  const base64 = sequence(body, ecdsaWithSha256, bits(signature)).toString('base64');
  const lines = base64.match(/.{1,64}/g) ?? [];
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    commonName,
    privateKey,
  };
}
