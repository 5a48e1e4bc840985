import type { HostPort } from './host-port.ts';
import type { Locality } from './locality.ts';
import type { ClientTlsSettings } from './proxy-config.ts';

/** Addresses Envoy's own listeners and clusters use. */
export interface BootstrapAddresses {
  readonly localHost: '127.0.0.1' | '::1';
  readonly wildcard: '0.0.0.0' | '::';
  readonly dnsLookupFamily: 'V4_ONLY' | 'V6_ONLY' | 'ALL';
  /** The second family, with `ISTIO_DUAL_STACK`. */
  readonly additional: { readonly localHost: string; readonly wildcard: string } | undefined;
}

/** A service that Envoy reports to, as a cluster of the bootstrap. */
export interface ReportingService {
  readonly address: HostPort;
  readonly tls: ClientTlsSettings | undefined;
  /** Seconds; undefined members are left to the system. */
  readonly tcpKeepalive:
    | { readonly probes?: number; readonly timeSeconds?: number; readonly intervalSeconds?: number }
    | undefined;
}

export interface TracerConfig {
  readonly kind: 'zipkin' | 'datadog';
  readonly address: HostPort;
  readonly tls: ClientTlsSettings | undefined;
}

export interface HistogramBuckets {
  readonly prefix: string;
  readonly buckets: readonly number[];
}

export interface StatsConfig {
  /** Duration in protobuf form; undefined is Envoy's default. */
  readonly flushInterval: string | undefined;
  readonly evictionInterval: string | undefined;
  readonly extraTags: readonly string[];
  readonly histogramBuckets: readonly HistogramBuckets[];
  readonly inclusionPrefixes: readonly string[];
  readonly inclusionSuffixes: readonly string[];
  readonly inclusionRegexes: readonly string[];
}

/** Everything Envoy's bootstrap document is made from. */
export interface BootstrapConfig {
  readonly node: {
    readonly id: string;
    readonly cluster: string;
    readonly locality: Locality;
    /** In wire form; socket facts are added when the document is built. */
    readonly metadata: Readonly<Record<string, unknown>>;
    /** The part of `metadata` that proxyless gRPC clients send. */
    readonly knownMetadata: Readonly<Record<string, unknown>>;
  };
  readonly logFormat: 'text' | 'json';
  readonly addresses: BootstrapAddresses;
  /** `static_layer` of the runtime. */
  readonly runtimeFlags: Readonly<Record<string, string | boolean>>;
  /** Adds the extension of the Istio build that plain Envoy does not know. */
  readonly isMetadataDiscoveryOn: boolean;
  readonly stats: StatsConfig;
  readonly adminPort: number;
  /** The agent's status port. */
  readonly statusPort: number;
  readonly envoyStatusPort: number;
  readonly prometheusPort: number;
  /** 0: none. */
  readonly secureMetricsPort: number;
  /** 0: none. */
  readonly secureMergedMetricsPort: number;
  readonly isPrometheusLocalOnly: boolean;
  readonly isStatsCompressed: boolean;
  readonly acceptsProxyProtocol: boolean;
  readonly xdsApiType: 'DELTA_GRPC' | 'GRPC';
  /** Relative to Envoy's working folder, or absolute. */
  readonly xdsPipePath: string;
  /** Relative to Envoy's working folder. */
  readonly sdsPipePath: string;
  readonly maxDownstreamConnectionCount: number;
  readonly tracer: TracerConfig | undefined;
  readonly metricsService: ReportingService | undefined;
  readonly accessLogService: ReportingService | undefined;
  readonly statsd: HostPort | undefined;
  readonly outlierLogPath: string;
  /** Load reporting configuration, a JSON value. */
  readonly loadStats: unknown;
  readonly isSelfDiscoveryOn: boolean;
}
