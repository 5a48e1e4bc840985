import { type ConfigReport, quoteValue } from './config-report.ts';
import { foldedField } from './folded-field.ts';
import { parseGoBoolean } from './go-values.ts';
import { isRecord, type JsonRecord } from './message-schema.ts';

/** How istiod reads a key of the node metadata (istio/istio `pkg/model/proxy.go`, BootstrapNodeMetadata). */
type MetadataKind =
  | 'text'
  /** `"true"` or `"false"` on the wire. */
  | 'text boolean'
  /** One text joined by commas on the wire. */
  | 'text list'
  /** A JSON array inside a text. */
  | 'pod ports'
  /** Not settable from outside: agent-made, or an object. */
  | 'number'
  | 'text map'
  | 'object'
  | 'list';

const kinds: Readonly<Record<string, MetadataKind>> = {
  ...Object.fromEntries(
    [
      'NAME',
      'OWNER',
      'OUTLIER_LOG_PATH',
      'APP_CONTAINERS',
      'ISTIO_PROXY_SHA',
      'ISTIO_VERSION',
      'ISTIO_REVISION',
      'NAMESPACE',
      'NODE_NAME',
      'WORKLOAD_NAME',
      'INTERCEPTION_MODE',
      'SERVICE_ACCOUNT',
      'HTTP_PROXY_PORT',
      'MESH_ID',
      'CLUSTER_ID',
      'NETWORK',
      'TLS_SERVER_CERT_CHAIN',
      'TLS_SERVER_KEY',
      'TLS_SERVER_ROOT_CERT',
      'TLS_CLIENT_CERT_CHAIN',
      'TLS_CLIENT_KEY',
      'TLS_CLIENT_ROOT_CERT',
      'BASE',
      'IDLE_TIMEOUT',
      'HTTP10',
      'GENERATOR',
      'DNS_PROXY_ADDR',
      'AUTO_REGISTER_GROUP',
      'WORKLOAD_ENTRY',
      'UNPRIVILEGED_POD',
      'STS_PORT',
      'CLOUDRUN_ADDR',
      'WORKLOAD_IDENTITY_SOCKET_FILE',
    ].map((name) => [name, 'text'] as const),
  ),
  ...Object.fromEntries(
    [
      'ENABLE_SELF_DISCOVERY',
      'DNS_CAPTURE',
      'DNS_AUTO_ALLOCATE',
      'ENABLE_HBONE',
      'DISABLE_HBONE_SEND',
      'EXIT_ON_ZERO_ACTIVE_CONNECTIONS',
      'INBOUND_LISTENER_EXACT_BALANCE',
      'OUTBOUND_LISTENER_EXACT_BALANCE',
      'METADATA_DISCOVERY',
      'ENVOY_SKIP_DEPRECATED_LOGS',
    ].map((name) => [name, 'text boolean'] as const),
  ),
  INSTANCE_IPS: 'text list',
  REQUESTED_NETWORK_VIEW: 'text list',
  POD_PORTS: 'pod ports',
  ENVOY_STATUS_PORT: 'number',
  ENVOY_PROMETHEUS_PORT: 'number',
  ENVOY_SECURE_METRICS_PORT: 'number',
  ENVOY_SECURE_MERGED_METRICS_PORT: 'number',
  LABELS: 'text map',
  STATIC_LABELS: 'text map',
  ANNOTATIONS: 'text map',
  PLATFORM_METADATA: 'text map',
  PROXY_CONFIG: 'object',
  PILOT_SAN: 'list',
};

/** A value of the raw metadata and the variable it came from. */
export interface RawMetadataValue {
  readonly value: unknown;
  readonly source: string;
}

/**
 * The keys istiod knows, in their wire form. A value that does not fit its type is an error; empty values and false
 * are left out (the caller then keeps the raw value, as the stock agent does).
 */
export function readMetadataFields(
  raw: ReadonlyMap<string, RawMetadataValue>,
  report: ConfigReport,
): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const [key, { value, source }] of raw) {
    const kind = Object.hasOwn(kinds, key) ? kinds[key] : undefined;
    if (kind === undefined || value === null) continue;
    const refuse = (expected: string): undefined => {
      report.error(
        source,
        `metadata key ${key} must be ${expected}, got ${quoteValue(value)}`,
        remedies[kind],
      );
      return undefined;
    };
    const read = readField(value, kind, refuse);
    if (read !== undefined) fields[key] = read;
  }
  return fields;
}

const remedies: Readonly<Record<MetadataKind, string>> = {
  text: 'set a text',
  'text boolean': 'set true or false',
  'text list': 'set a text with commas',
  'pod ports': 'set a JSON array such as [{"name":"http","containerPort":8080,"protocol":"TCP"}]',
  number: 'remove it: the agent sets this key itself',
  'text map': 'set an object of texts with ISTIO_METAJSON_<NAME>, or remove it',
  object: 'remove it: the agent sets this key itself',
  list: 'remove it: the agent sets this key itself',
};

function readField(value: unknown, kind: MetadataKind, refuse: (expected: string) => undefined): unknown {
  switch (kind) {
    case 'text':
      return typeof value === 'string' ? value || undefined : refuse('text');
    case 'text boolean': {
      const boolean = typeof value === 'string' ? parseGoBoolean(value) : undefined;
      if (boolean === undefined) return refuse('a boolean in a text');
      return boolean ? 'true' : undefined;
    }
    case 'text list':
      return typeof value === 'string' ? value || undefined : refuse('text');
    case 'pod ports': {
      const ports = typeof value === 'string' ? readPodPorts(value) : undefined;
      if (ports === undefined) return refuse('a JSON array of ports in a text');
      return ports.length === 0 ? undefined : JSON.stringify(ports);
    }
    case 'number':
      return Number.isInteger(value) ? value || undefined : refuse('a number');
    case 'text map': {
      const isMap = isRecord(value) && Object.values(value).every((item) => typeof item === 'string');
      if (!isMap) return refuse('an object of texts');
      return Object.keys(value).length === 0 ? undefined : value;
    }
    case 'object':
      return isRecord(value) ? value : refuse('an object');
    case 'list':
      return Array.isArray(value) ? value : refuse('a list');
    default:
      return kind satisfies never;
  }
}

/** Only the three members istiod reads are passed on. */
function readPodPorts(text: string): readonly JsonRecord[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (parsed === null) return [];
  if (!Array.isArray(parsed)) return undefined;
  const ports: JsonRecord[] = [];
  for (const item of parsed as readonly unknown[]) {
    // Go reads null into a struct as one with nothing in it.
    const port = item ?? {};
    if (!isRecord(port)) return undefined;
    const name = foldedField(port, 'name') ?? '';
    const containerPort = foldedField(port, 'containerPort') ?? 0;
    const protocol = foldedField(port, 'protocol') ?? '';
    if (typeof name !== 'string' || !Number.isInteger(containerPort) || typeof protocol !== 'string')
      return undefined;
    ports.push({ ...(name === '' ? {} : { name }), containerPort, protocol });
  }
  return ports;
}
