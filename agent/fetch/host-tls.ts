import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { LRUCache } from 'lru-cache';
import { describeError } from '../log.ts';
import { trustSystemRoots } from './default-roots.ts';
import type { FetchSettings } from './fetch-settings.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import { FetchError } from './types.ts';
import { WatchedFile } from './watched-file.ts';

/** How TLS to one host is done. Two with the same `key` are the same. */
export interface HostTls {
  /** Holds no secret. */
  readonly key: string;
  /** For `tls.connect`. */
  readonly options: {
    readonly rejectUnauthorized: boolean;
    readonly ca?: string;
    readonly cert?: string;
    /** A secret. */
    readonly key?: string;
  };
}

const maxPemBytes = 1024 * 1024;
/** Files that are remembered; there are three a host. */
const maxFileCount = 256;

const verified: HostTls = { key: 'verified', options: { rejectUnauthorized: true } };
const unverified: HostTls = { key: 'unverified', options: { rejectUnauthorized: false } };

/** TLS by host: `WASM_INSECURE_REGISTRIES`, and what the operator's settings name. Files are read again when they change. */
export class HostTlsFiles {
  readonly #settings: FetchSettings;
  readonly #insecureHosts: InsecureHosts;
  readonly #files = new LRUCache<string, WatchedFile<string>>({ max: maxFileCount });

  constructor(options: { readonly settings: FetchSettings; readonly insecureHosts: InsecureHosts }) {
    this.#settings = options.settings;
    this.#insecureHosts = options.insecureHosts;
  }

  /** Throws FetchError `tls` for a file that cannot be used: a host is never spoken to with less than was asked for. */
  async tlsFor(hostText: string, role: 'server' | 'proxy' = 'server'): Promise<HostTls> {
    trustSystemRoots();
    const settings = this.#settings.host(hostText);
    const { caFile, clientCertificate } = settings ?? {};
    // The list is of registries: a proxy is never meant by it.
    const isVerified = role === 'proxy' || !this.#insecureHosts.isUnverified(hostText, caFile !== undefined);
    if (caFile === undefined && clientCertificate === undefined) return isVerified ? verified : unverified;
    const ca = caFile === undefined ? undefined : await this.#pem(hostText, caFile, checkAuthorities);
    const pair =
      clientCertificate === undefined
        ? undefined
        : {
            cert: await this.#pem(hostText, clientCertificate.certFile, () => undefined),
            key: await this.#pem(hostText, clientCertificate.keyFile, () => undefined),
          };
    if (pair !== undefined) {
      const { certFile, keyFile } = clientCertificate ?? { certFile: '', keyFile: '' };
      checkPair(hostText, `${certFile} and ${keyFile}`, pair.cert.value, pair.key.value);
    }
    return {
      key: JSON.stringify([hostText, isVerified, ca?.stamp, pair?.cert.stamp, pair?.key.stamp]),
      options: {
        rejectUnauthorized: isVerified,
        ...(ca === undefined ? {} : { ca: ca.value }),
        ...(pair === undefined ? {} : { cert: pair.cert.value, key: pair.key.value }),
      },
    };
  }

  async #pem(
    hostText: string,
    path: string,
    check: (pem: string) => void,
  ): Promise<{ readonly stamp: string; readonly value: string }> {
    const parse = (text: string): string => {
      check(text);
      return text;
    };
    const file = this.#files.get(path) ?? new WatchedFile(path, { maxSizeBytes: maxPemBytes, parse });
    this.#files.set(path, file);
    try {
      const reading = await file.read();
      if (reading.kind === 'missing') throw new RangeError('it is not there');
      return { stamp: `${path} ${reading.stamp}`, value: reading.value };
    } catch (error) {
      throw unusable(hostText, path, error);
    }
  }
}

/** OpenSSL ignores a bundle without a certificate in silence, and then trusts nobody or everybody's. */
function checkAuthorities(pem: string): void {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----/gs) ?? [];
  if (blocks.length === 0) throw new RangeError('it holds no certificate in PEM');
  for (const block of blocks) new X509Certificate(block);
}

function checkPair(hostText: string, files: string, cert: string, key: string): void {
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw unusable(hostText, files, error);
  }
}

function unusable(hostText: string, path: string, error: unknown): FetchError {
  return new FetchError(
    'tls',
    `the TLS file ${path} for ${hostText} cannot be used: ${describeError(error)}; mend it or take it out of the settings`,
    { cause: error },
  );
}
