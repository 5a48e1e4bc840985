import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { pem } from './der.ts';
import { readCertificateRequest } from './request-reader.ts';
import { authorityExtensions, buildCertificate, type Issuer, peerExtensions, randomSerial } from './x509.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** A key pair with its certificate, as PEM texts. */
export interface KeyedCertificate {
  readonly key: string;
  readonly certificate: string;
}

export interface Validity {
  /** Default: an hour ago, or an hour before `notAfter` where that is in the past. */
  readonly notBefore?: Date;
  /** Default: a day from now. In the past: an expired certificate. */
  readonly notAfter?: Date;
}

export interface IssueOptions extends Validity {
  /** Default: an empty subject, as istiod gives workloads. */
  readonly commonName?: string;
}

/** A P-256 authority of our own, made anew by each test: no key is ever in the repository. */
export class Authority {
  /** PEM. */
  readonly certificate: string;
  readonly #issuer: Issuer;

  private constructor(certificate: string, issuer: Issuer) {
    this.certificate = certificate;
    this.#issuer = issuer;
  }

  /** Signed by itself. */
  static createRoot(commonName = 'Ferry test authority'): Authority {
    return Authority.#make(commonName, undefined);
  }

  /** An authority below this one. */
  createIntermediate(commonName: string): Authority {
    return Authority.#make(commonName, this.#issuer);
  }

  /**
   * A certificate of a server and client, for a key of its own. `names`: DNS names, IP literals and URIs (SPIFFE ids);
   * of none there is no subject alternative name.
   */
  issue(names: readonly string[], options: IssueOptions = {}): KeyedCertificate {
    const keys = makeKeys();
    return {
      key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      certificate: this.#sign(keys.publicKey, names, options),
    };
  }

  /** A certificate for the key of a request (PEM). The names are not the request's: a CA knows who asks. */
  signRequest(csr: string, names: readonly string[], validity: Validity = {}): string {
    return this.#sign(readCertificateRequest(csr).publicKey, names, validity);
  }

  #sign(publicKey: Buffer, names: readonly string[], options: IssueOptions): string {
    const { commonName, notAfter = new Date(Date.now() + dayMs) } = options;
    const contents = {
      commonName,
      serial: randomSerial(),
      publicKey,
      notBefore: options.notBefore ?? new Date(Math.min(Date.now(), notAfter.getTime()) - hourMs),
      notAfter,
      extensions: peerExtensions(names, commonName !== undefined),
    };
    return pem('CERTIFICATE', buildCertificate(this.#issuer, contents));
  }

  static #make(commonName: string, issuer: Issuer | undefined): Authority {
    const keys = makeKeys();
    const own = { commonName, privateKey: keys.privateKey };
    const contents = {
      commonName,
      serial: randomSerial(),
      publicKey: keys.publicKey,
      notBefore: new Date(Date.now() - dayMs),
      notAfter: new Date(Date.now() + 365 * dayMs),
      extensions: authorityExtensions,
    };
    return new Authority(pem('CERTIFICATE', buildCertificate(issuer ?? own, contents)), own);
  }
}

function makeKeys(): { readonly privateKey: KeyObject; readonly publicKey: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, publicKey: publicKey.export({ type: 'spki', format: 'der' }) };
}
