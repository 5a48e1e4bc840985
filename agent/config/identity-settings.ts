import { join, resolve } from 'node:path';
import type { CompliancePolicy } from './compliance-policy.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import { type EnvironmentRecord, type EnvironmentValues, variablesByPrefix } from './environment.ts';
import { parseGoDuration } from './go-values.ts';
import { parseHostPort } from './host-port.ts';
import {
  type CaConfig,
  type CaTlsConfig,
  type CsrConfig,
  gkeProvider,
  type IdentityConfig,
  type KeyKind,
  type KeyProvider,
  type WorkloadFiles,
} from './identity-config.ts';
import { reservedNames } from './reserved-headers.ts';

/** The environment variables this part reads. */
export type IdentityValues = Pick<
  EnvironmentValues,
  | 'CA_ADDR'
  | 'CA_PROVIDER'
  | 'CA_ROOT_CA'
  | 'CREDENTIAL_FETCHER_TYPE'
  | 'DISABLE_ENVOY'
  | 'ECC_CURVE'
  | 'ECC_SIGNATURE_ALGORITHM'
  | 'FILE_DEBOUNCE_DURATION'
  | 'FILE_MOUNTED_CERTS'
  | 'GRPC_KEEPALIVE_INTERVAL'
  | 'GRPC_KEEPALIVE_TIMEOUT'
  | 'ISTIOD_SAN'
  | 'ISTIO_META_CERT_SIGNER'
  | 'ISTIO_META_CLUSTER_ID'
  | 'KUBERNETES_SERVICE_HOST'
  | 'OUTPUT_CERTS'
  | 'PILOT_CERT_PROVIDER'
  | 'PILOT_ENABLE_CA_CRL'
  | 'PKCS8_KEY'
  | 'POD_NAMESPACE'
  | 'PROV_CERT'
  | 'SECRET_GRACE_PERIOD_RATIO'
  | 'SECRET_GRACE_PERIOD_RATIO_JITTER'
  | 'SECRET_TTL'
  | 'SERVICE_ACCOUNT'
  | 'TRUST_DOMAIN'
  | 'WORKLOAD_IDENTITY_SOCKET_FILE'
  | 'WORKLOAD_RSA_KEY_SIZE'
>;

export interface IdentityInput {
  readonly values: IdentityValues;
  /** For `CA_HEADER_<NAME>`. */
  readonly environment: EnvironmentRecord;
  readonly proxyConfig: {
    readonly discoveryAddress: string;
    readonly privateKeyProvider?: KeyProviderSettings;
  };
  /** What relative paths are resolved against: the working directory. Absolute. */
  readonly root: string;
  /** All three of `./var/run/secrets/workload-spiffe-credentials` are there. */
  readonly areWorkloadCertificatesPresent: boolean;
  readonly compliance: CompliancePolicy | undefined;
}

interface KeyProviderSettings {
  readonly cryptomb?: { readonly pollDelay?: string; readonly fallback?: boolean };
  readonly qat?: { readonly pollDelay?: string; readonly fallback?: boolean };
}

const defaultSocketName = 'socket';
const systemRoots = 'SYSTEM';
/** The name istiod's certificate has when it is reached by a local address. */
const inClusterName = 'istiod.istio-system.svc';
const workloadFolder = 'var/run/secrets/workload-spiffe-credentials';
const smallestRsaBits = 2048;
/** OpenSSL takes no larger modulus. */
const largestRsaBits = 16_384;
const dayMs = 86_400_000;

/**
 * How the workload gets its identity (istio/istio `pilot/cmd/pilot-agent/options/security.go`,
 * `pkg/istio-agent/agent.go`). Pure; reports every error at once.
 */
export function readIdentityConfig(input: IdentityInput, report: ConfigReport): IdentityConfig {
  const { values, root } = input;
  const absolute = (path: string): string => resolve(root, path);
  const isGke = values.CA_PROVIDER === gkeProvider;
  if (values.PROV_CERT !== '' && (values.FILE_MOUNTED_CERTS || isGke)) {
    const other = isGke ? `CA_PROVIDER=${gkeProvider}` : 'FILE_MOUNTED_CERTS';
    report.error('PROV_CERT', `and ${other} are mutually exclusive`, 'unset one of them');
  }
  if (!['', 'JWT'].includes(values.CREDENTIAL_FETCHER_TYPE)) {
    const problem = `${quoteValue(values.CREDENTIAL_FETCHER_TYPE)} is not a token source of this agent`;
    report.error('CREDENTIAL_FETCHER_TYPE', problem, 'use JWT, the projected service account token');
  }
  const outputFolder = values.OUTPUT_CERTS === '' ? undefined : absolute(values.OUTPUT_CERTS);
  return {
    root,
    isEnvoyEnabled: !values.DISABLE_ENVOY,
    workloadSocketPath: absolute(
      join('var/run/secrets/workload-spiffe-uds', values.WORKLOAD_IDENTITY_SOCKET_FILE),
    ),
    isDefaultSocketName: values.WORKLOAD_IDENTITY_SOCKET_FILE === defaultSocketName,
    fileSocketPath: absolute('var/run/secrets/credential-uds/files-socket'),
    credentialSocketPath: absolute('var/run/secrets/credential-uds/socket'),
    workloadFiles: chooseWorkloadFiles(input, isGke, outputFolder),
    isFileMounted: values.FILE_MOUNTED_CERTS || isGke || input.areWorkloadCertificatesPresent,
    ca: readCaConfig(input, report),
    csr: readCsrConfig(values, report),
    certificateTtlMs: positiveMs('SECRET_TTL', values.SECRET_TTL, dayMs, report),
    rotation: {
      graceRatio: ratio('SECRET_GRACE_PERIOD_RATIO', values, report),
      graceRatioJitter: ratio('SECRET_GRACE_PERIOD_RATIO_JITTER', values, report),
    },
    fileDebounceMs: positiveMs('FILE_DEBOUNCE_DURATION', values.FILE_DEBOUNCE_DURATION, 100, report),
    output: outputFolder === undefined ? undefined : { folder: outputFolder, fileMode: outputMode(values) },
    crlPath: values.PILOT_ENABLE_CA_CRL ? absolute('var/run/secrets/istio/crl/ca-crl.pem') : undefined,
    keyProvider: readKeyProvider(input.proxyConfig.privateKeyProvider),
  };
}

/** In a cluster other containers of the pod, which run as other users, read them (`nodeagent/util/util.go`). */
function outputMode(values: IdentityValues): number {
  return values.KUBERNETES_SERVICE_HOST === '' ? 0o600 : 0o644;
}

function chooseWorkloadFiles(
  input: IdentityInput,
  isGke: boolean,
  outputFolder: string | undefined,
): WorkloadFiles {
  const [folder, certificate, key, root] = isGke
    ? [workloadFolder, 'certificates.pem', 'private_key.pem', 'ca_certificates.pem']
    : [
        input.areWorkloadCertificatesPresent ? workloadFolder : 'etc/certs',
        'cert-chain.pem',
        'key.pem',
        'root-cert.pem',
      ];
  const absolute = resolve(input.root, folder);
  return {
    certificatePath: join(absolute, certificate),
    keyPath: join(absolute, key),
    rootPath: join(absolute, root),
    areRequired: isGke,
    areOwnOutput: outputFolder === absolute,
  };
}

function readCaConfig(input: IdentityInput, report: ConfigReport): CaConfig {
  const { values, environment, proxyConfig, root } = input;
  const address = values.CA_ADDR || proxyConfig.discoveryAddress;
  return {
    provider: address.includes('googleapis.com') ? 'GoogleCA' : values.CA_PROVIDER,
    address,
    // Only this port of istiod is plaintext (`pkg/istio-agent/plugins.go`).
    tls: address.endsWith(':15010') ? undefined : readCaTls(input, address),
    tokenPath: resolve(root, 'var/run/secrets/tokens/istio-token'),
    clusterId: values.ISTIO_META_CLUSTER_ID,
    headers: readHeaders(environment, report),
    certSigner: values.ISTIO_META_CERT_SIGNER,
    // XdsConfig warns about values that are not above zero.
    keepaliveIntervalMs: values.GRPC_KEEPALIVE_INTERVAL > 0 ? values.GRPC_KEEPALIVE_INTERVAL : 30_000,
    keepaliveTimeoutMs: values.GRPC_KEEPALIVE_TIMEOUT > 0 ? values.GRPC_KEEPALIVE_TIMEOUT : 10_000,
  };
}

/** The values are not repeated in errors: they may be credentials. */
function readHeaders(environment: EnvironmentRecord, report: ConfigReport): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [variable, value] of variablesByPrefix(environment, 'CA_HEADER_')) {
    const name = variable.toLowerCase();
    if (reservedNames.has(name) || name.startsWith('grpc-')) {
      report.warn(`CA_HEADER_${variable}: the name is reserved; the header is not sent`);
    } else if (!/^[a-z0-9_.-]+$/.test(name) || !/^[\t\x20-\x7e]*$/.test(value)) {
      const problem = 'is not a valid gRPC metadata entry';
      const remedy = 'use letters, digits, _ . - in the name and one line of ASCII text';
      report.error(`CA_HEADER_${variable}`, problem, remedy);
    } else {
      // gRPC metadata whose name ends in `-bin` travels as unpadded base64.
      headers[name] = name.endsWith('-bin')
        ? Buffer.from(value).toString('base64').replaceAll('=', '')
        : value;
    }
  }
  return headers;
}

function readCaTls({ values, root, compliance }: IdentityInput, address: string): CaTlsConfig {
  const host = parseHostPort(address)?.host ?? address;
  const derivedName = host.includes('localhost') ? inClusterName : host;
  const inProvisioned = (name: string): string => resolve(root, values.PROV_CERT, name);
  return {
    // CA_ADDR names another server than the one whose name ISTIOD_SAN gives.
    serverName: values.CA_ADDR === '' ? values.ISTIOD_SAN || derivedName : derivedName,
    root: chooseCaRoot(values, root),
    clientCertificate:
      values.PROV_CERT === ''
        ? undefined
        : { keyPath: inProvisioned('key.pem'), certificatePath: inProvisioned('cert-chain.pem') },
    compliance,
  };
}

/** First match wins (`pkg/istio-agent/agent.go`, FindRootCAForCA). */
function chooseCaRoot(values: IdentityValues, root: string): CaTlsConfig['root'] {
  const file = (path: string) => ({ kind: 'file', path: resolve(root, path) }) as const;
  if (values.CA_ROOT_CA === systemRoots) return { kind: 'system' };
  if (values.CA_ROOT_CA !== '') return file(values.CA_ROOT_CA);
  if (values.PILOT_CERT_PROVIDER === 'custom') return file('etc/certs/root-cert.pem');
  if (values.PROV_CERT !== '') return file(join(values.PROV_CERT, 'root-cert.pem'));
  if (values.PILOT_CERT_PROVIDER === 'none') return { kind: 'none' };
  return file('var/run/secrets/istio/root-cert.pem');
}

function readCsrConfig(values: IdentityValues, report: ConfigReport): CsrConfig {
  const { TRUST_DOMAIN, POD_NAMESPACE, SERVICE_ACCOUNT } = values;
  const spiffeId = `spiffe://${TRUST_DOMAIN}/ns/${POD_NAMESPACE}/sa/${SERVICE_ACCOUNT}`;
  if (!/^[\x21-\x7e]+$/.test(spiffeId)) {
    const problem = `with POD_NAMESPACE and SERVICE_ACCOUNT gives ${quoteValue(spiffeId)}, which is no URI`;
    report.error('TRUST_DOMAIN', problem, 'use printable ASCII without blanks in all three');
  }
  return {
    key: readKeyKind(values, report),
    keyFormat: values.PKCS8_KEY ? 'pkcs8' : 'traditional',
    spiffeId,
  };
}

function readKeyKind(values: IdentityValues, report: ConfigReport): KeyKind {
  const { ECC_SIGNATURE_ALGORITHM: algorithm, WORKLOAD_RSA_KEY_SIZE: sizeBits } = values;
  if (algorithm === 'ECDSA') return { kind: 'ecdsa', curve: values.ECC_CURVE === 'P384' ? 'P-384' : 'P-256' };
  if (algorithm !== '') {
    const problem = `${quoteValue(algorithm)} is not supported`;
    report.error('ECC_SIGNATURE_ALGORITHM', problem, 'set ECDSA, or leave it empty for RSA');
  } else if (sizeBits < smallestRsaBits || sizeBits > largestRsaBits) {
    const problem = `${sizeBits} is not between ${smallestRsaBits} and ${largestRsaBits}`;
    report.error('WORKLOAD_RSA_KEY_SIZE', problem, `set ${smallestRsaBits} or more`);
  }
  return { kind: 'rsa', sizeBits };
}

/** A zero or negative time makes no sense here. */
function positiveMs(name: string, valueMs: number, fallbackMs: number, report: ConfigReport): number {
  if (valueMs > 0) return valueMs;
  report.warn(`${name}: is not above zero; using ${fallbackMs / 1000}s`);
  return fallbackMs;
}

function ratio(
  name: 'SECRET_GRACE_PERIOD_RATIO' | 'SECRET_GRACE_PERIOD_RATIO_JITTER',
  values: IdentityValues,
  report: ConfigReport,
): number {
  const value = values[name];
  const used = Math.min(1, Math.max(0, value));
  if (used !== value) report.warn(`${name}: ${value} is not between 0 and 1; using ${used}`);
  return used;
}

function readKeyProvider(settings: KeyProviderSettings | undefined): KeyProvider | undefined {
  const name = settings?.cryptomb === undefined ? 'qat' : 'cryptomb';
  const chosen = settings?.[name];
  if (chosen === undefined) return undefined;
  const delayMs = parseGoDuration(chosen.pollDelay ?? '0s') ?? 0;
  return {
    name,
    pollDelayNanos: Math.round((delayMs % 1000) * 1_000_000),
    isFallbackAllowed: chosen.fallback ?? false,
  };
}
