import type { XdsTlsConfig } from './agent-config.ts';

/** `CA_PROVIDER` of a pod whose certificates GKE mounts as files. */
export const gkeProvider = 'GkeWorkloadCertificate';

/** The key that is made for each certificate request. */
export type KeyKind =
  | { readonly kind: 'rsa'; readonly sizeBits: number }
  | { readonly kind: 'ecdsa'; readonly curve: 'P-256' | 'P-384' };

export interface CsrConfig {
  readonly key: KeyKind;
  /** `traditional`: PKCS#1 for RSA, SEC 1 for ECDSA; `pkcs8` for both. */
  readonly keyFormat: 'traditional' | 'pkcs8';
  /** URI of the subject alternative name; ASCII. */
  readonly spiffeId: string;
}

/** When a certificate is replaced, relative to its life. */
export interface RotationRule {
  /** Part of the life that is left at rotation, from 0 to 1. */
  readonly graceRatio: number;
  /** The ratio is moved up or down by up to this much, so that the pods of a cluster do not renew together. */
  readonly graceRatioJitter: number;
}

/** ProxyConfig `privateKeyProvider`: the key is used by an accelerator instead of by Envoy's own TLS library. */
export interface KeyProvider {
  readonly name: 'cryptomb' | 'qat';
  /** Only the part of the delay below one second counts, as in the stock agent. */
  readonly pollDelayNanos: number;
  readonly isFallbackAllowed: boolean;
}

/** How the agent trusts the CA. */
export interface CaTlsConfig {
  /** Name that the certificate of the CA must carry. */
  readonly serverName: string;
  /** `none`: `PILOT_CERT_PROVIDER=none` left nothing to trust; an error as soon as a CA is needed. */
  readonly root: XdsTlsConfig['root'] | { readonly kind: 'none' };
  /** Read at every handshake. */
  readonly clientCertificate: XdsTlsConfig['clientCertificate'];
  /** Undefined: no limits beyond TLS 1.2. */
  readonly compliance: XdsTlsConfig['compliance'];
}

export interface CaConfig {
  /** `Citadel` is the only one there is; another is an error as soon as a CA is needed. */
  readonly provider: string;
  /** `host:port`. */
  readonly address: string;
  /** Undefined: plaintext. */
  readonly tls: CaTlsConfig | undefined;
  /** Bearer token file, read anew for every attempt. */
  readonly tokenPath: string;
  /** Sent as metadata `clusterid`, also when empty. */
  readonly clusterId: string;
  /** From `CA_HEADER_<NAME>`: lower-case names. May be credentials. */
  readonly headers: Readonly<Record<string, string>>;
  readonly certSigner: string;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** The workload's certificate as files that somebody else writes. */
export interface WorkloadFiles {
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly rootPath: string;
  /** The start fails when one is missing. */
  readonly areRequired: boolean;
  /** They are what `OUTPUT_CERTS` writes: they must not be read, or nothing would ever be rotated. */
  readonly areOwnOutput: boolean;
}

/** Everything the certificate side was told. All paths are absolute. */
export interface IdentityConfig {
  /** What relative paths in resource names are resolved against. */
  readonly root: string;
  /** False: no SDS server; the certificate is only written to `output`. */
  readonly isEnvoyEnabled: boolean;
  /** Where an external provider may listen; the agent itself only under the default name. */
  readonly workloadSocketPath: string;
  readonly isDefaultSocketName: boolean;
  /** Where the agent serves files when an external provider serves the workload's certificate. */
  readonly fileSocketPath: string;
  /** Where an external provider of gateway credentials may listen. */
  readonly credentialSocketPath: string;
  readonly workloadFiles: WorkloadFiles;
  /** No CA is used and nothing is asked for at start. */
  readonly isFileMounted: boolean;
  readonly ca: CaConfig;
  readonly csr: CsrConfig;
  readonly certificateTtlMs: number;
  readonly rotation: RotationRule;
  /** Time from a change of a file to the look at it, and first wait when it cannot be read. */
  readonly fileDebounceMs: number;
  /** Undefined: certificates are not written. */
  readonly output: { readonly folder: string; readonly fileMode: number } | undefined;
  /** Revocation list that goes with every root while the file is there; undefined: none. */
  readonly crlPath: string | undefined;
  readonly keyProvider: KeyProvider | undefined;
}
