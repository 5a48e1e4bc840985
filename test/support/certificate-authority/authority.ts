import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readCertificateRequest } from './request-reader.ts';
import { buildCertificate, type Issuer } from './x509.ts';

const dayMs = 86_400_000;

/** A key pair with its certificate, as PEM texts. */
export interface KeyedCertificate {
  readonly key: string;
  readonly certificate: string;
}

export interface Validity {
  /** Default: an hour ago. */
  readonly notBefore?: Date;
  /** Default: a day from now. */
  readonly notAfter?: Date;
}

/** A root of our own, made anew by each test: no key is ever in the repository. */
export class Authority {
  /** PEM. */
  readonly certificate: string;
  readonly commonName: string;
  readonly #privateKey: KeyObject;

  private constructor(commonName: string, certificate: string, privateKey: KeyObject) {
    this.commonName = commonName;
    this.certificate = certificate;
    this.#privateKey = privateKey;
  }

  /** Signed by itself. */
  static createRoot(commonName: string): Authority {
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return Authority.#make(commonName, keys, { commonName, privateKey: keys.privateKey });
  }

  /** An authority below this one. */
  createIntermediate(commonName: string): Authority {
    return Authority.#make(commonName, generateKeyPairSync('ec', { namedCurve: 'P-256' }), this.#issuer);
  }

  /** A certificate for a key of its own. `names`: DNS names, IPv4 addresses and URIs. */
  issue(names: readonly string[], validity: Validity = {}): KeyedCertificate {
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return {
      key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      certificate: this.#sign(keys.publicKey.export({ type: 'spki', format: 'der' }), names, validity),
    };
  }

  /** A certificate for the key of a request (PEM). The names are not the request's: a CA knows who asks. */
  signRequest(csr: string, names: readonly string[], validity: Validity = {}): string {
    return this.#sign(readCertificateRequest(csr).publicKey, names, validity);
  }

  get #issuer(): Issuer {
    return { commonName: this.commonName, privateKey: this.#privateKey };
  }

  #sign(publicKey: Buffer, names: readonly string[], validity: Validity): string {
    return buildCertificate(this.#issuer, {
      commonName: undefined,
      publicKey,
      notBefore: validity.notBefore ?? new Date(Date.now() - 3_600_000),
      notAfter: validity.notAfter ?? new Date(Date.now() + dayMs),
      isAuthority: false,
      names,
    });
  }

  static #make(
    commonName: string,
    keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject },
    issuer: Issuer,
  ): Authority {
    const certificate = buildCertificate(issuer, {
      commonName,
      publicKey: keys.publicKey.export({ type: 'spki', format: 'der' }),
      notBefore: new Date(Date.now() - dayMs),
      notAfter: new Date(Date.now() + 365 * dayMs),
      isAuthority: true,
      names: [],
    });
    return new Authority(commonName, certificate, keys.privateKey);
  }
}
