import { type ConfigReport, quoteValue } from './config-report.ts';
import { type EnvironmentRecord, type EnvironmentValues, variablesByPrefix } from './environment.ts';
import { findLocalityText, type Locality, parseLocality } from './locality.ts';
import { isRecord } from './message-schema.ts';
import { type RawMetadataValue, readMetadataFields } from './metadata-fields.ts';
import { type ProxyConfig, writeProxyConfig } from './proxy-config.ts';

/** What istiod learns about the node, with the parts that other settings depend on. */
export interface NodeMetadata {
  /** `node.metadata` in wire form, keys sorted. */
  readonly values: Readonly<Record<string, unknown>>;
  /** The same without the keys that istiod does not know. */
  readonly knownValues: Readonly<Record<string, unknown>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly locality: Locality;
  readonly workloadName: string;
  readonly namespace: string;
  /** METADATA_DISCOVERY as istiod sees it. */
  readonly isMetadataDiscoveryOn: boolean;
  readonly isSelfDiscoveryOn: boolean;
  /** `LOAD_STATS_CONFIG_JSON` of the raw metadata. */
  readonly loadStatsConfig: string | undefined;
}

export interface NodeMetadataInput {
  readonly environment: EnvironmentRecord;
  readonly values: EnvironmentValues;
  readonly proxyConfig: ProxyConfig;
  readonly instanceIps: readonly string[];
  /** Undefined: no readable labels file. */
  readonly podLabels: Readonly<Record<string, string>> | undefined;
  readonly podAnnotations: Readonly<Record<string, string>> | undefined;
  readonly pilotSan: string | undefined;
  readonly outlierLogPath: string;
  readonly stsPort: number;
}

/**
 * The Istio version reported when neither `ISTIO_META_ISTIO_VERSION` nor `ISTIO_BASE_VERSION` is set. istiod gates
 * features on it, so it is the version whose agent contract this agent implements, not the agent's own.
 */
export const compatibleIstioVersion = '1.32.0';

/** Builds the node metadata (istio/istio `pkg/bootstrap/config.go`, GetNodeMetaData). */
export function buildNodeMetadata(input: NodeMetadataInput, report: ConfigReport): NodeMetadata {
  const { values, proxyConfig } = input;
  const raw = collectRawMetadata(input, report);
  const fields = readMetadataFields(raw, report);
  const environmentLabels = readEnvironmentLabels(input.environment, report);
  const givenStaticLabels = environmentLabels ?? textMap(fields['STATIC_LABELS']);
  // Without a labels file the labels are what the environment gave.
  const labels: Record<string, string> =
    input.podLabels === undefined
      ? { ...(environmentLabels ?? textMap(fields['LABELS'])) }
      : { ...givenStaticLabels };
  for (const [name, value] of Object.entries(input.podLabels ?? {})) {
    // Changes with every rollout and tells istiod nothing.
    if (name !== 'pod-template-hash') labels[name] = value;
  }
  const localityText = findLocalityText(labels);
  if (localityText !== undefined) labels['istio-locality'] = localityText;
  // The stock agent has one map for both where the environment alone gives labels, so the locality is in both.
  const isOneMap = input.podLabels === undefined && environmentLabels !== undefined;
  const staticLabels = isOneMap ? labels : givenStaticLabels;

  const isHboneOn = fields['ENABLE_HBONE'] === 'true';
  const isMetadataDiscoveryOn = values.PEER_METADATA_DISCOVERY ?? isHboneOn;
  const own: Record<string, unknown> = {
    ISTIO_VERSION: fields['ISTIO_VERSION'] ?? (values.ISTIO_BASE_VERSION || compatibleIstioVersion),
    INSTANCE_IPS: input.instanceIps.join(','),
    NAME: values.POD_NAME || fields['NAME'],
    NAMESPACE: values.POD_NAMESPACE || fields['NAMESPACE'],
    SERVICE_ACCOUNT: values.SERVICE_ACCOUNT || fields['SERVICE_ACCOUNT'],
    LABELS: labels,
    STATIC_LABELS: staticLabels,
    ANNOTATIONS: { ...textMap(fields['ANNOTATIONS']), ...input.podAnnotations },
    PROXY_CONFIG: writeProxyConfig(proxyConfig),
    PILOT_SAN: input.pilotSan === undefined ? undefined : [input.pilotSan],
    ENVOY_STATUS_PORT: values.ENVOY_STATUS_PORT,
    ENVOY_PROMETHEUS_PORT: values.ENVOY_PROMETHEUS_PORT,
    ENVOY_SECURE_METRICS_PORT: values.ENVOY_SECURE_METRICS_PORT,
    ENVOY_SECURE_MERGED_METRICS_PORT: values.ENVOY_SECURE_MERGED_METRICS_PORT,
    EXIT_ON_ZERO_ACTIVE_CONNECTIONS: values.EXIT_ON_ZERO_ACTIVE_CONNECTIONS ? 'true' : undefined,
    METADATA_DISCOVERY: String(isMetadataDiscoveryOn),
    ENVOY_SKIP_DEPRECATED_LOGS: values.ENVOY_SKIP_DEPRECATED_LOGS ? 'true' : undefined,
    WORKLOAD_IDENTITY_SOCKET_FILE: values.WORKLOAD_IDENTITY_SOCKET_FILE,
    OUTLIER_LOG_PATH: input.outlierLogPath,
    STS_PORT: input.stsPort === 0 ? fields['STS_PORT'] : String(input.stsPort),
  };
  const output: Record<string, unknown> = { ...fields };
  for (const [key, value] of Object.entries(own)) {
    if (isPresent(value)) output[key] = value;
    else delete output[key];
  }
  const knownValues = sortKeys(output);
  for (const [key, { value }] of raw) {
    if (!Object.hasOwn(output, key)) output[key] = value;
  }
  const loadStatsConfig = raw.get('LOAD_STATS_CONFIG_JSON')?.value;
  return {
    values: sortKeys(output),
    knownValues,
    labels,
    locality: parseLocality(localityText),
    workloadName: textOf(fields['WORKLOAD_NAME']),
    namespace: textOf(own['NAMESPACE']),
    isMetadataDiscoveryOn,
    isSelfDiscoveryOn: fields['ENABLE_SELF_DISCOVERY'] === 'true',
    loadStatsConfig: typeof loadStatsConfig === 'string' ? loadStatsConfig : undefined,
  };
}

/** Adds what is only known when the agent runs: whether external credential sockets were found. */
export function withSocketFacts(
  metadata: Readonly<Record<string, unknown>>,
  facts: { readonly isCredentialSocketPresent: boolean; readonly isFileCredentialServed: boolean },
): Readonly<Record<string, unknown>> {
  return sortKeys({
    ...metadata,
    ...(facts.isCredentialSocketPresent ? { credential: 'true' } : {}),
    ...(facts.isFileCredentialServed ? { 'file-credential': 'true' } : {}),
  });
}

function collectRawMetadata(
  { environment, values, proxyConfig }: NodeMetadataInput,
  report: ConfigReport,
): ReadonlyMap<string, RawMetadataValue> {
  const raw = new Map<string, RawMetadataValue>();
  for (const [name, value] of Object.entries(proxyConfig.proxyMetadata ?? {})) {
    if (!name.startsWith('ISTIO_META_')) continue;
    raw.set(name.slice('ISTIO_META_'.length), { value, source: `ProxyConfig.proxyMetadata.${name}` });
  }
  for (const [key, value] of variablesByPrefix(environment, 'ISTIO_META_')) {
    raw.set(key, { value, source: `ISTIO_META_${key}` });
  }
  for (const [name, text] of variablesByPrefix(environment, 'ISTIO_METAJSON_')) {
    const source = `ISTIO_METAJSON_${name}`;
    const object = parseJsonObject(text);
    if (object === undefined) {
      report.warn(`${source}: ${quoteValue(text)} is not a JSON object; ignored`);
      continue;
    }
    for (const [key, value] of Object.entries(object)) raw.set(key, { value, source });
  }
  if (values.DNS_PROXY_ADDR) {
    raw.set('DNS_PROXY_ADDR', { value: values.DNS_PROXY_ADDR, source: 'DNS_PROXY_ADDR' });
  }
  return raw;
}

/** `ISTIO_METAJSON_LABELS`; a label that is no text is empty, as in the stock agent. */
function readEnvironmentLabels(
  environment: EnvironmentRecord,
  report: ConfigReport,
): Readonly<Record<string, string>> | undefined {
  const text = environment['ISTIO_METAJSON_LABELS'];
  const object = text === undefined ? undefined : parseJsonObject(text);
  if (object === undefined) return undefined;
  const labels: Record<string, string> = {};
  for (const [name, value] of Object.entries(object)) {
    if (typeof value === 'string') labels[name] = value;
    else {
      labels[name] = '';
      report.warn(`ISTIO_METAJSON_LABELS: label ${name} is not a text; it counts as empty`);
    }
  }
  return Object.keys(labels).length === 0 ? undefined : labels;
}

function parseJsonObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function textMap(value: unknown): Readonly<Record<string, string>> | undefined {
  return isRecord(value) ? (value as Readonly<Record<string, string>>) : undefined;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function isPresent(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0) return false;
  return !isRecord(value) || Object.keys(value).length > 0;
}

function sortKeys(record: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(record).sort(([first], [second]) => (first < second ? -1 : first > second ? 1 : 0)),
  );
}
