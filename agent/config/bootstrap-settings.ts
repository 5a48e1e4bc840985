import type { BootstrapAddresses, BootstrapConfig, ReportingService } from './bootstrap-config.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import type { EnvironmentValues } from './environment.ts';
import { parseGoDuration, parseGoInteger } from './go-values.ts';
import { type HostPort, parseHostPort } from './host-port.ts';
import type { InstanceAddresses } from './instance-addresses.ts';
import type { NodeMetadata } from './node-metadata.ts';
import type { ProxyConfig, RemoteService } from './proxy-config.ts';
import { readStatsConfig } from './stats-config.ts';

export interface BootstrapSettingsInput {
  readonly values: EnvironmentValues;
  readonly proxyConfig: ProxyConfig;
  readonly nodeId: string;
  readonly nodeCluster: string;
  readonly metadata: NodeMetadata;
  readonly addresses: InstanceAddresses;
  readonly annotations: Readonly<Record<string, string>>;
  readonly logFormat: 'text' | 'json';
  readonly isWaypoint: boolean;
  readonly outlierLogPath: string;
  /** Of the statsd address; undefined when there is none or it could not be resolved. */
  readonly statsd: HostPort | undefined;
}

/** Decides everything the bootstrap document says (istio/istio `pkg/bootstrap/config.go`, toTemplateParams). */
export function readBootstrapConfig(input: BootstrapSettingsInput, report: ConfigReport): BootstrapConfig {
  const { values, proxyConfig, metadata } = input;
  const xdsApiType = values.ISTIO_DELTA_XDS || input.isWaypoint ? 'DELTA_GRPC' : 'GRPC';
  const isDiscoveryAsked = metadata.isMetadataDiscoveryOn || input.isWaypoint;
  if (isDiscoveryAsked && xdsApiType === 'GRPC') {
    report.warn('metadata discovery needs incremental ADS (ISTIO_DELTA_XDS=true); it is off');
  }
  return {
    node: {
      id: input.nodeId,
      cluster: input.nodeCluster,
      locality: metadata.locality,
      metadata: metadata.values,
      knownMetadata: metadata.knownValues,
    },
    logFormat: input.logFormat,
    addresses: chooseAddresses(input.addresses, values.ISTIO_DUAL_STACK),
    runtimeFlags: runtimeFlags(values, proxyConfig),
    isMetadataDiscoveryOn: isDiscoveryAsked && xdsApiType === 'DELTA_GRPC',
    stats: readStatsConfig(
      {
        proxyConfig,
        annotations: input.annotations,
        instanceIps: input.addresses.all,
        exitOnZeroActiveConnections: values.EXIT_ON_ZERO_ACTIVE_CONNECTIONS,
      },
      report,
    ),
    adminPort: proxyConfig.proxyAdminPort,
    statusPort: proxyConfig.statusPort,
    envoyStatusPort: values.ENVOY_STATUS_PORT,
    prometheusPort: values.ENVOY_PROMETHEUS_PORT,
    secureMetricsPort: values.ENVOY_SECURE_METRICS_PORT,
    secureMergedMetricsPort: values.ENVOY_SECURE_MERGED_METRICS_PORT,
    isPrometheusLocalOnly: proxyConfig.proxyMetadata?.['METRICS_LOCALHOST_ACCESS_ONLY'] === 'true',
    isStatsCompressed: proxyConfig.statsCompression ?? true,
    acceptsProxyProtocol: values.ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL,
    xdsApiType,
    xdsPipePath: `${proxyConfig.configPath}/XDS`,
    sdsPipePath: `./var/run/secrets/workload-spiffe-uds/${values.WORKLOAD_IDENTITY_SOCKET_FILE}`,
    maxDownstreamConnectionCount: maxConnections(proxyConfig),
    tracer: readTracer(proxyConfig, metadata, values.HOST_IP, report),
    metricsService: readService(
      proxyConfig.envoyMetricsService?.address
        ? proxyConfig.envoyMetricsService
        : { address: proxyConfig.envoyMetricsServiceAddress ?? '' },
      { name: 'envoyMetricsService', metadata, hostIp: values.HOST_IP },
      report,
    ),
    accessLogService: readService(
      proxyConfig.envoyAccessLogService,
      { name: 'envoyAccessLogService', metadata, hostIp: values.HOST_IP },
      report,
    ),
    statsd: input.statsd,
    outlierLogPath: input.outlierLogPath,
    loadStats: readLoadStats(metadata.loadStatsConfig, report),
    isSelfDiscoveryOn: metadata.isSelfDiscoveryOn,
  };
}

const v4 = { localHost: '127.0.0.1', wildcard: '0.0.0.0' } as const;
const v6 = { localHost: '::1', wildcard: '::' } as const;

function chooseAddresses(addresses: InstanceAddresses, isDualStack: boolean): BootstrapAddresses {
  switch (addresses.family) {
    case 'v4':
      return { ...v4, dnsLookupFamily: 'V4_ONLY', additional: undefined };
    case 'v6':
      return { ...v6, dnsLookupFamily: 'V6_ONLY', additional: undefined };
    case 'mixed': {
      if (!isDualStack) return { ...v4, dnsLookupFamily: 'V4_ONLY', additional: undefined };
      const first = addresses.all[0] ?? '';
      const isV6First = first.includes(':') && !/^fe[89ab]/i.test(first);
      return isV6First
        ? { ...v6, dnsLookupFamily: 'ALL', additional: v4 }
        : { ...v4, dnsLookupFamily: 'ALL', additional: v6 };
    }
    default:
      return addresses.family satisfies never;
  }
}

function runtimeFlags(
  values: EnvironmentValues,
  { runtimeValues = {} }: ProxyConfig,
): Readonly<Record<string, string | boolean>> {
  const flags: Record<string, string | boolean> = {
    're2.max_program_size.error_level': '32768',
    'envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst': true,
    'envoy.reloadable_features.http_reject_path_with_fragment': false,
    'envoy.reloadable_features.fixed_heap_use_allocated': true,
    'envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update': false,
  };
  if (values.COMPLIANCE_POLICY === 'fips-140-2') {
    flags['envoy.reloadable_features.google_grpc_disable_tls_13'] = true;
  }
  if (!values.HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED) {
    flags['envoy.reloadable_features.http_strip_fragment_from_path_unsafe_if_disabled'] = 'false';
  }
  for (const [name, value] of Object.entries(runtimeValues)) {
    if (value === '') delete flags[name];
    // Envoy refuses boolean flags that are texts, and the API has only texts.
    else flags[name] = value === 'true' || value === 'false' ? value === 'true' : value;
  }
  return flags;
}

/** Envoy's largest value: no limit in practice. */
const unlimitedConnectionCount = 2_147_483_647;

function maxConnections({ connectionSettings, proxyMetadata, runtimeValues }: ProxyConfig): number {
  const limit = connectionSettings?.globalDownstreamConnectionLimit;
  if (limit !== undefined && limit > 0) return limit;
  const fromMetadata = proxyMetadata?.['ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS'];
  const fromRuntime = runtimeValues?.['overload.global_downstream_max_connections'];
  return parseGoInteger(fromMetadata ?? '') ?? parseGoInteger(fromRuntime ?? '') ?? unlimitedConnectionCount;
}

/** `$(HOST_IP)` is expanded here because mesh config, unlike a pod's arguments, is not expanded by Kubernetes. */
export function expandHostIp(address: string, hostIp: string): HostPort | undefined {
  const parsed = parseHostPort(address);
  if (parsed === undefined) return undefined;
  return parsed.host === '$(HOST_IP)' && hostIp !== '' ? { ...parsed, host: hostIp } : parsed;
}

function readTracer(
  { tracing }: ProxyConfig,
  metadata: NodeMetadata,
  hostIp: string,
  report: ConfigReport,
): BootstrapConfig['tracer'] {
  const kind = tracing?.zipkin ? 'zipkin' : tracing?.datadog ? 'datadog' : undefined;
  const address = kind === undefined ? undefined : expandHostIp(tracing?.[kind]?.address ?? '', hostIp);
  if (kind === undefined || address === undefined) return undefined;
  const tls = withMetadataPaths(tracing?.tlsSettings, metadata);
  requireRoot('tracing', tls, report);
  return { kind, address, tls };
}

function readService(
  service: RemoteService | undefined,
  context: {
    /** The field of ProxyConfig. */
    readonly name: string;
    readonly metadata: NodeMetadata;
    readonly hostIp: string;
  },
  report: ConfigReport,
): ReportingService | undefined {
  const address = service?.address ? expandHostIp(service.address, context.hostIp) : undefined;
  if (service === undefined || address === undefined) return undefined;
  const tls = withMetadataPaths(service.tlsSettings, context.metadata);
  requireRoot(context.name, tls, report);
  const keepalive = service.tcpKeepalive;
  const seconds = (text: string | undefined) => Math.trunc((parseGoDuration(text ?? '') ?? 0) / 1000);
  return {
    address,
    tls,
    tcpKeepalive:
      keepalive === undefined
        ? undefined
        : {
            ...(keepalive.probes ? { probes: keepalive.probes } : {}),
            ...(seconds(keepalive.time) > 0 ? { timeSeconds: seconds(keepalive.time) } : {}),
            ...(seconds(keepalive.interval) > 0 ? { intervalSeconds: seconds(keepalive.interval) } : {}),
          },
  };
}

/** Envoy refuses a bootstrap whose TLS names no roots, so the fault is told here. */
function requireRoot(name: string, tls: RemoteService['tlsSettings'], report: ConfigReport): void {
  const needsRoot = tls?.mode === 'SIMPLE' || tls?.mode === 'MUTUAL';
  if (!needsRoot || tls.caCertificates) return;
  report.error(
    `ProxyConfig.${name}.tlsSettings.caCertificates`,
    `is empty with mode ${tls.mode}`,
    'set the path of the roots the server is trusted by',
  );
}

/** Certificate paths of the node metadata go before those of ProxyConfig. */
function withMetadataPaths(
  tls: RemoteService['tlsSettings'],
  { values }: NodeMetadata,
): RemoteService['tlsSettings'] {
  if (tls === undefined) return undefined;
  const path = (key: string, configured: string | undefined): string => {
    const value = values[key];
    return typeof value === 'string' && value !== '' ? value : (configured ?? '');
  };
  return {
    ...tls,
    clientCertificate: path('TLS_CLIENT_CERT_CHAIN', tls.clientCertificate),
    privateKey: path('TLS_CLIENT_KEY', tls.privateKey),
    caCertificates: path('TLS_CLIENT_ROOT_CERT', tls.caCertificates),
  };
}

function readLoadStats(text: string | undefined, report: ConfigReport): unknown {
  if (!text) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    const problem = `${quoteValue(text)} is not JSON`;
    report.error('node metadata LOAD_STATS_CONFIG_JSON', problem, 'set a JSON object of LRS settings');
    return undefined;
  }
}
