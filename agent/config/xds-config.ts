import { join, resolve } from 'node:path';
import type { XdsConfig, XdsTlsConfig } from './agent-config.ts';
import type { CompliancePolicy } from './compliance-policy.ts';
import type { ConfigReport } from './config-report.ts';
import { type EnvironmentRecord, type EnvironmentValues, variablesByPrefix } from './environment.ts';
import { parseHostPort } from './host-port.ts';
import { gkeProvider } from './identity-config.ts';
import type { ProxyConfig } from './proxy-config.ts';

/** The user Envoy runs as where the agent is root and serves DNS on port 53 (istio/istio `pkg/envoy/proxy.go`). */
export const envoyUserId = 1337;

/** The name istiod's certificate has when it is reached by a local address. */
const inClusterName = 'istiod.istio-system.svc';

export interface XdsConfigInput {
  readonly values: EnvironmentValues;
  readonly environment: EnvironmentRecord;
  readonly proxyConfig: ProxyConfig;
  readonly root: string;
  readonly isLegacyRootPresent: boolean;
  readonly areWorkloadCertificatesPresent: boolean;
  /** Envoy runs as user and group 1337 while the agent is root. */
  readonly isEnvoyOtherUser: boolean;
  readonly compliance: CompliancePolicy | undefined;
}

/** How the agent reaches istiod, and where Envoy reaches the agent (istio/istio `pkg/istio-agent/xds_proxy.go`). */
export function readXdsConfig(input: XdsConfigInput, report: ConfigReport): XdsConfig {
  const { values, environment, proxyConfig, root } = input;
  const headers: Record<string, string> = {};
  for (const [name, value] of variablesByPrefix(environment, 'XDS_HEADER_')) {
    if (/^[a-z0-9_.-]+$/i.test(name) && !/[\r\n\0]/.test(value)) headers[name.toLowerCase()] = value;
    else
      report.error(
        `XDS_HEADER_${name}`,
        'is not a valid gRPC metadata entry',
        'use letters, digits, _ . - in the name and one line of text',
      );
  }
  return {
    socketPath: resolve(root, proxyConfig.configPath, 'XDS'),
    socketMode: values.XDS_SOCKET_MODE ?? defaultSocketMode(input),
    socketGroupId: input.isEnvoyOtherUser ? envoyUserId : undefined,
    discoveryAddress: proxyConfig.discoveryAddress,
    tls: proxyConfig.controlPlaneAuthPolicy === 'NONE' ? undefined : readTls(input, report),
    tokenPath: resolve(root, 'var/run/secrets/tokens/istio-token'),
    clusterId: values.ISTIO_META_CLUSTER_ID,
    headers,
    maxRequestBytes: positive(
      'ISTIO_GPRC_MAXRECVMSGSIZE',
      values.ISTIO_GPRC_MAXRECVMSGSIZE,
      4_194_304,
      report,
    ),
    maxConcurrentStreams: positive('ISTIO_GPRC_MAXSTREAMS', values.ISTIO_GPRC_MAXSTREAMS, 100_000, report),
    keepaliveIntervalMs: positive('GRPC_KEEPALIVE_INTERVAL', values.GRPC_KEEPALIVE_INTERVAL, 30_000, report),
    keepaliveTimeoutMs: positive('GRPC_KEEPALIVE_TIMEOUT', values.GRPC_KEEPALIVE_TIMEOUT, 10_000, report),
  };
}

/** Without Envoy the application itself connects, as a user the agent cannot know (proxyless gRPC). */
function defaultSocketMode({ values, isEnvoyOtherUser }: XdsConfigInput): number {
  if (values.DISABLE_ENVOY) return 0o666;
  return isEnvoyOtherUser ? 0o660 : 0o600;
}

function positive(name: string, value: number, fallback: number, report: ConfigReport): number {
  if (value > 0) return value;
  report.warn(`${name}: ${value} is not above zero; using ${fallback}`);
  return fallback;
}

function readTls(input: XdsConfigInput, report: ConfigReport): XdsTlsConfig {
  const { values, proxyConfig, root } = input;
  const host = parseHostPort(proxyConfig.discoveryAddress)?.host ?? proxyConfig.discoveryAddress;
  const derivedName = host.includes('localhost') ? inClusterName : host;
  return {
    serverName: values.ISTIOD_SAN || derivedName,
    root: chooseRoot(input, report),
    clientCertificate: clientCertificate(input, (path) => resolve(root, path)),
    compliance: input.compliance,
  };
}

/** First match wins (istio/istio `pkg/istio-agent/agent.go`, FindRootCAForXDS). Whether the file is there is seen when it is read. */
function chooseRoot(input: XdsConfigInput, report: ConfigReport): XdsTlsConfig['root'] {
  const { values, proxyConfig, root } = input;
  const file = (path: string) => ({ kind: 'file', path: resolve(root, path) }) as const;
  if (values.XDS_ROOT_CA === 'SYSTEM') return { kind: 'system' };
  if (values.XDS_ROOT_CA !== '') return file(values.XDS_ROOT_CA);
  if (input.isLegacyRootPresent) return file('etc/certs/root-cert.pem');
  if (values.PROV_CERT !== '') return file(join(values.PROV_CERT, 'root-cert.pem'));
  if (isFileMounted(input)) {
    const path = proxyConfig.proxyMetadata?.['ISTIO_META_TLS_CLIENT_ROOT_CERT'];
    if (path) return file(path);
    const name = 'ProxyConfig.proxyMetadata.ISTIO_META_TLS_CLIENT_ROOT_CERT';
    report.error(name, 'is not set, but certificates are mounted files', 'set the root file, or XDS_ROOT_CA');
  } else if (values.PILOT_CERT_PROVIDER === 'none') {
    const remedy = 'set XDS_ROOT_CA to a file or SYSTEM, or another provider';
    report.error('PILOT_CERT_PROVIDER', 'is none, but istiod is to be verified', remedy);
  }
  return file('var/run/secrets/istio/root-cert.pem');
}

function isFileMounted({ values, areWorkloadCertificatesPresent }: XdsConfigInput): boolean {
  return values.FILE_MOUNTED_CERTS || values.CA_PROVIDER === gkeProvider || areWorkloadCertificatesPresent;
}

function clientCertificate(
  input: XdsConfigInput,
  absolute: (path: string) => string,
): XdsTlsConfig['clientCertificate'] {
  const { values, proxyConfig } = input;
  if (values.PROV_CERT !== '') {
    return {
      keyPath: absolute(join(values.PROV_CERT, 'key.pem')),
      certificatePath: absolute(join(values.PROV_CERT, 'cert-chain.pem')),
    };
  }
  const keyPath = proxyConfig.proxyMetadata?.['ISTIO_META_TLS_CLIENT_KEY'];
  const certificatePath = proxyConfig.proxyMetadata?.['ISTIO_META_TLS_CLIENT_CERT_CHAIN'];
  if (!isFileMounted(input) || !keyPath || !certificatePath) return undefined;
  return { keyPath: absolute(keyPath), certificatePath: absolute(certificatePath) };
}
