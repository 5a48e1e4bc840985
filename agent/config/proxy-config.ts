import type { ConfigReport } from './config-report.ts';
import { type Documents, parseDocument } from './document.ts';
import { isRecord, type JsonRecord, readMessage, writeMessage } from './message-schema.ts';
import { proxyConfigFields } from './proxy-config-schema.ts';

/** How a connection of Envoy to a tracer, metrics or access log service is secured. */
export interface ClientTlsSettings {
  readonly mode?: 'DISABLE' | 'SIMPLE' | 'MUTUAL' | 'ISTIO_MUTUAL';
  readonly clientCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  readonly credentialName?: string;
  readonly subjectAltNames?: readonly string[];
  readonly sni?: string;
}

export interface RemoteService {
  readonly address?: string;
  readonly tlsSettings?: ClientTlsSettings;
  readonly tcpKeepalive?: { readonly probes?: number; readonly time?: string; readonly interval?: string };
}

/** The fields of ProxyConfig the agent itself acts on, in canonical JSON form (durations as `45s`). */
export interface ProxyConfig {
  readonly configPath: string;
  readonly binaryPath: string;
  readonly serviceCluster?: string;
  readonly tracingServiceName?:
    | 'APP_LABEL_AND_NAMESPACE'
    | 'CANONICAL_NAME_ONLY'
    | 'CANONICAL_NAME_AND_NAMESPACE';
  readonly drainDuration: string;
  readonly terminationDrainDuration: string;
  readonly discoveryAddress: string;
  readonly statsdUdpAddress?: string;
  readonly envoyMetricsServiceAddress?: string;
  readonly proxyAdminPort: number;
  readonly statNameLength: number;
  readonly controlPlaneAuthPolicy: 'NONE' | 'MUTUAL_TLS' | 'INHERIT';
  readonly customConfigFile?: string;
  readonly concurrency?: number;
  readonly proxyBootstrapTemplatePath?: string;
  readonly tracing?: {
    readonly zipkin?: { readonly address?: string };
    readonly lightstep?: { readonly address?: string; readonly accessToken?: string };
    readonly datadog?: { readonly address?: string };
    readonly stackdriver?: JsonRecord;
    readonly tlsSettings?: ClientTlsSettings;
  };
  readonly envoyAccessLogService?: RemoteService;
  readonly envoyMetricsService?: RemoteService;
  readonly proxyMetadata?: Readonly<Record<string, string>>;
  readonly runtimeValues?: Readonly<Record<string, string>>;
  readonly statusPort: number;
  readonly extraStatTags?: readonly string[];
  /** Read by `readiness-probe.ts`. */
  readonly readinessProbe?: unknown;
  readonly proxyStatsMatcher?: {
    readonly inclusionPrefixes?: readonly string[];
    readonly inclusionSuffixes?: readonly string[];
    readonly inclusionRegexps?: readonly string[];
  };
  readonly privateKeyProvider?: {
    readonly cryptomb?: { readonly pollDelay?: string };
    readonly qat?: { readonly pollDelay?: string };
  };
  readonly fileFlushInterval?: string;
  readonly fileFlushMinSizeKb?: number;
  readonly statsCompression?: boolean;
  readonly connectionSettings?: Readonly<Record<string, unknown>> & {
    readonly globalDownstreamConnectionLimit?: number;
  };
}

/** Code defaults (istio/istio `pkg/config/mesh/mesh.go`, DefaultProxyConfig). */
export const defaultProxyConfig: ProxyConfig = {
  configPath: './etc/istio/proxy',
  binaryPath: '/usr/local/bin/envoy',
  serviceCluster: 'istio-proxy',
  drainDuration: '45s',
  terminationDrainDuration: '5s',
  proxyAdminPort: 15_000,
  controlPlaneAuthPolicy: 'MUTUAL_TLS',
  discoveryAddress: 'istiod.istio-system.svc:15012',
  statusPort: 15_020,
  statNameLength: 189,
};

/** The texts ProxyConfig is merged from, a later one over an earlier one. */
export interface ProxyConfigTexts {
  /** The whole mesh config file, of which only `defaultConfig` counts. */
  readonly meshConfig: { readonly path: string; readonly text: string } | undefined;
  /** `PROXY_CONFIG`. */
  readonly environment: string | undefined;
  /** Pod annotation `proxy.istio.io/config`. */
  readonly annotation: string | undefined;
}

/**
 * Merges the layers over the defaults. Each top-level field is replaced as a whole, but `proxyMetadata` is merged
 * by key and some members of `proxyHeaders` keep the earlier value (istio/istio `pkg/config/mesh/mesh.go`).
 */
export function mergeProxyConfig(
  texts: ProxyConfigTexts,
  documents: Documents,
  report: ConfigReport,
): ProxyConfig {
  let merged: JsonRecord = { ...defaultProxyConfig };
  if (texts.meshConfig !== undefined) {
    const name = `mesh config file ${texts.meshConfig.path}`;
    const mesh = readObject(texts.meshConfig.text, name, documents, report);
    const layer = mesh?.['defaultConfig'] ?? mesh?.['default_config'];
    if (isRecord(layer)) merged = applyLayer(merged, layer, `${name}: defaultConfig`, report);
    else if (layer !== undefined && layer !== null) {
      report.error(`${name}: defaultConfig`, 'is not an object', 'write its fields as key and value');
    }
  }
  for (const [name, text] of [
    ['PROXY_CONFIG', texts.environment],
    ['annotation proxy.istio.io/config', texts.annotation],
  ] as const) {
    const layer = text === undefined ? undefined : readObject(text, name, documents, report);
    if (layer !== undefined) merged = applyLayer(merged, layer, name, report);
  }
  // Every field was read by the schema, whose types these are.
  return merged as unknown as ProxyConfig;
}

function readObject(
  text: string,
  name: string,
  documents: Documents,
  report: ConfigReport,
): JsonRecord | undefined {
  const document = parseDocument(text, documents);
  if (document.kind === 'malformed') {
    report.error(name, `is neither YAML nor JSON: ${document.reason}`, 'correct the text');
    return undefined;
  }
  if (document.value === null || document.value === undefined) return undefined;
  if (!isRecord(document.value)) {
    report.error(name, 'is not an object', 'write fields as key and value');
    return undefined;
  }
  return document.value;
}

const keptHeaderFields = ['forwardedClientCert', 'requestId', 'attemptCount', 'server', 'envoyDebugHeaders'];

function applyLayer(earlier: JsonRecord, layer: JsonRecord, name: string, report: ConfigReport): JsonRecord {
  const later = readMessage(layer, proxyConfigFields, name, report);
  const merged: Record<string, unknown> = { ...earlier, ...later };
  if (later['tracingServiceName'] !== undefined) delete merged['serviceCluster'];
  else if (later['serviceCluster'] !== undefined) delete merged['tracingServiceName'];
  if (isRecord(earlier['proxyMetadata']) && isRecord(later['proxyMetadata'])) {
    merged['proxyMetadata'] = { ...earlier['proxyMetadata'], ...later['proxyMetadata'] };
  }
  const earlierHeaders = earlier['proxyHeaders'];
  const laterHeaders = later['proxyHeaders'];
  if (isRecord(earlierHeaders) && isRecord(laterHeaders)) {
    const headers: Record<string, unknown> = { ...laterHeaders };
    for (const field of keptHeaderFields) {
      const isUnset = headers[field] === undefined || headers[field] === 'UNDEFINED';
      if (isUnset && earlierHeaders[field] !== undefined) headers[field] = earlierHeaders[field];
    }
    merged['proxyHeaders'] = headers;
  }
  return merged;
}

/** ProxyConfig as node metadata and the start log carry it: protobuf JSON without zero values, keys sorted. */
export function writeProxyConfig(config: ProxyConfig): Record<string, unknown> {
  return writeMessage(config as unknown as JsonRecord, proxyConfigFields);
}
