import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import * as der from '../../../support/certificate-authority/der.ts';
import {
  authorityExtensions,
  buildCertificate,
  type CertificateContents,
  type Issuer,
  randomSerial,
  tbsCertificate,
} from '../../../support/certificate-authority/x509.ts';

interface Authority extends Issuer {
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Buffer;
  /** DER. */
  readonly certificate: Buffer;
}

interface Log {
  readonly privateKey: KeyObject;
  readonly publicKey: Buffer;
  readonly id: Buffer;
}

export interface CertificateOptions {
  readonly publicKey: KeyObject;
  /** URI in the subject alternative name. */
  readonly subject: string;
  readonly issuer: string;
  readonly notBefore: Date;
  /** Default 10 minutes, as Fulcio gives. */
  readonly lifeMs?: number;
  readonly isForCodeSigning?: boolean;
  readonly isInCertificateLog?: boolean;
}

/** Which services a trusted root names; default: all but the timestamp authority. */
export interface RootOptions {
  readonly tlog?: boolean;
  readonly ctlog?: boolean;
  readonly timestampAuthority?: boolean;
}

const ecdsaSha256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));
const sha256Algorithm = der.sequence(der.oid('2.16.840.1.101.3.4.2.1'));
const sctExtension = '1.3.6.1.4.1.11129.2.4.2';
const yearMs = 365 * 24 * 60 * 60 * 1000;
const logHost = 'rekor.ferry.test';

/**
 * The services of a Sigstore that a test has for itself: an authority for short-lived certificates, its certificate
 * log, a transparency log and a timestamp authority. All keys are made anew, nothing listens.
 */
export class PrivateSigstore {
  readonly #fulcio = makeAuthority('Ferry test Fulcio');
  readonly #timestamps = makeAuthority('Ferry test timestamps');
  readonly #timestampSigner = this.#makeTimestampSigner();
  readonly #ctlog = makeLog();
  readonly #tlog = makeLog();
  #entryCount = 0;

  /** The content of a `trusted_root.json`. */
  trustedRoot(options: RootOptions = {}): Record<string, unknown> {
    const validFor = { start: new Date(Date.now() - yearMs).toISOString() };
    const log = (baseUrl: string, { publicKey, id }: Log): unknown => ({
      baseUrl,
      hashAlgorithm: 'SHA2_256',
      publicKey: { rawBytes: publicKey.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
      logId: { keyId: id.toString('base64') },
    });
    const authority = (uri: string, chain: readonly Buffer[]): unknown => ({
      subject: { organization: 'ferry', commonName: 'test' },
      uri,
      certChain: { certificates: chain.map((each) => ({ rawBytes: each.toString('base64') })) },
      validFor,
    });
    const timestamps = [this.#timestampSigner.certificate, this.#timestamps.certificate];
    return {
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: (options.tlog ?? true) ? [log(`https://${logHost}`, this.#tlog)] : [],
      certificateAuthorities: [authority('https://fulcio.ferry.test', [this.#fulcio.certificate])],
      ctlogs: (options.ctlog ?? true) ? [log('https://ctfe.ferry.test', this.#ctlog)] : [],
      timestampAuthorities: options.timestampAuthority
        ? [authority('https://tsa.ferry.test', timestamps)]
        : [],
    };
  }

  /** A certificate as Fulcio issues it, in DER, with the promise of the certificate log (RFC 6962 section 3.3). */
  certificate(options: CertificateOptions): Buffer {
    const notAfter = new Date(options.notBefore.getTime() + (options.lifeMs ?? 10 * 60 * 1000));
    const contents: CertificateContents = {
      // The empty name, as Fulcio gives.
      commonName: undefined,
      serial: randomSerial(),
      publicKey: options.publicKey.export({ type: 'spki', format: 'der' }),
      notBefore: options.notBefore,
      notAfter,
      extensions: [
        der.extension('2.5.29.15', Buffer.from('03020780', 'hex'), true),
        ...((options.isForCodeSigning ?? true)
          ? [der.extension('2.5.29.37', der.sequence(der.oid('1.3.6.1.5.5.7.3.3')))]
          : []),
        der.extension('2.5.29.17', der.sequence(der.element(0x86, Buffer.from(options.subject))), true),
        der.extension('1.3.6.1.4.1.57264.1.1', Buffer.from(options.issuer)),
        der.extension('1.3.6.1.4.1.57264.1.8', der.text(options.issuer)),
      ],
    };
    if (!(options.isInCertificateLog ?? true)) return buildCertificate(this.#fulcio, contents);
    const promise = this.#promise(tbsCertificate(this.#fulcio.commonName, contents), options.notBefore);
    const list = Buffer.concat([uint(promise.byteLength + 2, 2), uint(promise.byteLength, 2), promise]);
    const extensions = [...contents.extensions, der.extension(sctExtension, der.octets(list))];
    return buildCertificate(this.#fulcio, { ...contents, extensions });
  }

  /** An entry of the transparency log in a bundle's form: with promise and proof. `body` is made canonical here. */
  logEntry(
    body: { readonly kind: string; readonly apiVersion: string; readonly spec: unknown },
    at: Date,
  ): LogEntry {
    this.#entryCount += 1;
    const canonical = Buffer.from(canonicalJson(body));
    const integratedTime = Math.floor(at.getTime() / 1000);
    const payload = {
      body: canonical.toString('base64'),
      integratedTime,
      logID: this.#tlog.id.toString('hex'),
      logIndex: this.#entryCount,
    };
    const promise = sign('sha256', Buffer.from(canonicalJson(payload)), this.#tlog.privateKey);
    // The log's tree as it would be with this entry alone.
    const root = createHash('sha256').update(Buffer.of(0)).update(canonical).digest();
    const note = `${logHost} - 1\n1\n${root.toString('base64')}\n`;
    const noteSignature = Buffer.concat([
      this.#tlog.id.subarray(0, 4),
      sign('sha256', Buffer.from(note), this.#tlog.privateKey),
    ]);
    return {
      logIndex: String(this.#entryCount),
      logId: { keyId: this.#tlog.id.toString('base64') },
      kindVersion: { kind: body.kind, version: body.apiVersion },
      integratedTime: String(integratedTime),
      inclusionPromise: { signedEntryTimestamp: promise.toString('base64') },
      inclusionProof: {
        logIndex: '0',
        treeSize: '1',
        rootHash: root.toString('base64'),
        hashes: [],
        checkpoint: { envelope: `${note}\n\u2014 ${logHost} ${noteSignature.toString('base64')}\n` },
      },
      canonicalizedBody: payload.body,
    };
  }

  /** A timestamp response over a signature (RFC 3161 section 2.4.2). */
  timestamp(signature: Uint8Array, at: Date): Buffer {
    const imprint = der.sequence(sha256Algorithm, der.octets(sha256(signature)));
    const info = der.sequence(
      der.integer(Buffer.of(1)),
      der.oid('1.3.6.1.4.1.57264.2'),
      imprint,
      der.integer(randomBytes(8)),
      der.longTime(at),
    );
    const attribute = (id: string, value: Buffer): Buffer => der.sequence(der.oid(id), der.set(value));
    const attributes = [
      attribute('1.2.840.113549.1.9.3', der.oid('1.2.840.113549.1.9.16.1.4')),
      attribute('1.2.840.113549.1.9.4', der.octets(sha256(info))),
      attribute(
        '1.2.840.113549.1.9.16.2.47',
        der.sequence(der.sequence(der.sequence(der.octets(sha256(this.#timestampSigner.certificate))))),
      ),
    ].sort((one, other) => one.compare(other));
    const signed = sign('sha256', der.set(...attributes), this.#timestampSigner.privateKey);
    const signerInfo = der.sequence(
      der.integer(Buffer.of(1)),
      der.sequence(der.name(this.#timestamps.commonName), der.integer(timestampSerial)),
      sha256Algorithm,
      der.tagged(0, ...attributes),
      ecdsaSha256,
      der.octets(signed),
    );
    const signedData = der.sequence(
      der.integer(Buffer.of(3)),
      der.set(sha256Algorithm),
      der.sequence(der.oid('1.2.840.113549.1.9.16.1.4'), der.tagged(0, der.octets(info))),
      der.tagged(0, this.#timestampSigner.certificate),
      der.set(signerInfo),
    );
    const token = der.sequence(der.oid('1.2.840.113549.1.7.2'), der.tagged(0, signedData));
    return der.sequence(der.sequence(der.integer(Buffer.of(0))), token);
  }

  /** Signed certificate timestamp (RFC 6962 section 3.2). */
  #promise(tbs: Buffer, at: Date): Buffer {
    const millis = uint(at.getTime(), 8);
    const issuerKey = sha256(this.#fulcio.publicKey);
    const signed = Buffer.concat([
      Buffer.of(0, 0),
      millis,
      Buffer.of(0, 1),
      issuerKey,
      uint(tbs.byteLength, 3),
      tbs,
      Buffer.of(0, 0),
    ]);
    const signature = sign('sha256', signed, this.#ctlog.privateKey);
    return Buffer.concat([
      Buffer.of(0),
      this.#ctlog.id,
      millis,
      Buffer.of(0, 0),
      Buffer.of(4, 3),
      uint(signature.byteLength, 2),
      signature,
    ]);
  }

  #makeTimestampSigner(): { readonly privateKey: KeyObject; readonly certificate: Buffer } {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const certificate = buildCertificate(this.#timestamps, {
      commonName: 'Ferry test timestamp signer',
      serial: timestampSerial,
      publicKey: publicKey.export({ type: 'spki', format: 'der' }),
      notBefore: new Date(Date.now() - yearMs),
      notAfter: new Date(Date.now() + yearMs),
      extensions: [
        der.extension('2.5.29.15', Buffer.from('03020780', 'hex'), true),
        der.extension('2.5.29.37', der.sequence(der.oid('1.3.6.1.5.5.7.3.8')), true),
      ],
    });
    return { privateKey, certificate };
  }
}

/** An entry as bundles hold it. */
export interface LogEntry {
  readonly logIndex: string;
  readonly logId: { readonly keyId: string };
  readonly kindVersion: { readonly kind: string; readonly version: string };
  readonly integratedTime: string;
  readonly inclusionPromise: { readonly signedEntryTimestamp: string };
  readonly inclusionProof: unknown;
  readonly canonicalizedBody: string;
}

/** Of the timestamp authority's certificate, by which a timestamp names it. */
const timestampSerial = Buffer.from('0123456789', 'hex');

function makeAuthority(commonName: string): Authority {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const publicKey = keys.publicKey.export({ type: 'spki', format: 'der' });
  const issuer = { commonName, privateKey: keys.privateKey };
  const certificate = buildCertificate(issuer, {
    commonName,
    serial: randomSerial(),
    publicKey,
    notBefore: new Date(Date.now() - yearMs),
    notAfter: new Date(Date.now() + yearMs),
    extensions: authorityExtensions,
  });
  return { ...issuer, publicKey, certificate };
}

function makeLog(): Log {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const publicKey = keys.publicKey.export({ type: 'spki', format: 'der' });
  return { privateKey: keys.privateKey, publicKey, id: sha256(publicKey) };
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function uint(value: number, sizeBytes: number): Buffer {
  return Buffer.from(value.toString(16).padStart(sizeBytes * 2, '0'), 'hex');
}

/** RFC 8785 for what log entries hold: ASCII texts and whole numbers. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`).join(',')}}`;
}
