import type { BootstrapConfig } from '../config/bootstrap-config.ts';
import { withSocketFacts } from '../config/node-metadata.ts';
import { bootstrapClusters } from './bootstrap-clusters.ts';
import { bootstrapListeners } from './bootstrap-listeners.ts';
import { bootstrapStats, statsSinks } from './bootstrap-stats.ts';
import type { JsonObject } from './json.ts';

/** What is only known once the agent's sockets have been looked at. */
export interface BootstrapFacts {
  /** A healthy external credential provider listens at `./var/run/secrets/credential-uds/socket`. */
  readonly isCredentialSocketPresent: boolean;
  /** The agent's own SDS serves files only, because an external provider serves the workload's certificate. */
  readonly isFileCredentialServed: boolean;
}

/**
 * Envoy's bootstrap document, equal to what the stock agent's template makes of the same settings
 * (istio/istio `tools/packaging/common/envoy_bootstrap.json`). Plain Envoy starts with it unless metadata discovery
 * is on, which needs Istio's build.
 */
export function buildBootstrap(config: BootstrapConfig, facts: BootstrapFacts): JsonObject {
  const { stats } = config;
  const sinks = statsSinks(config);
  return {
    application_log_config: { log_format: logFormat(config.logFormat) },
    node: {
      id: config.node.id,
      cluster: config.node.cluster,
      locality: config.node.locality,
      metadata: withSocketFacts(config.node.metadata, facts),
    },
    layered_runtime: {
      layers: [
        { name: 'global config', static_layer: config.runtimeFlags },
        { name: 'admin', admin_layer: {} },
      ],
    },
    bootstrap_extensions: bootstrapExtensions(config),
    ...(stats.flushInterval === undefined ? {} : { stats_flush_interval: stats.flushInterval }),
    ...(stats.evictionInterval === undefined ? {} : { stats_eviction_interval: stats.evictionInterval }),
    stats_config: bootstrapStats(config),
    admin: admin(config),
    dynamic_resources: dynamicResources(config),
    static_resources: {
      clusters: bootstrapClusters(config, facts),
      listeners: bootstrapListeners(config),
    },
    overload_manager: overloadManager(config),
    ...(config.tracer === undefined ? {} : { tracing: { http: tracing(config, config.tracer.kind) } }),
    ...(sinks.length === 0 ? {} : { stats_sinks: sinks }),
    ...clusterManager(config),
    deferred_stat_options: { enable_deferred_creation_stats: true },
  };
}

function logFormat(format: BootstrapConfig['logFormat']): JsonObject {
  switch (format) {
    case 'text':
      return { text_format: '%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t' };
    case 'json':
      return {
        json_format: {
          time: '%Y-%m-%dT%T.%fZ',
          level: '%l',
          scope: 'envoy %n',
          msg: '%j',
          caller: '%g:%#',
          thread: '%t',
        },
      };
    default:
      return format satisfies never;
  }
}

/** An extension given without its message type, which Envoy resolves by `type_url`. */
function typedStruct(name: string, typeUrl: string, value: JsonObject): JsonObject {
  return {
    name,
    typed_config: {
      '@type': 'type.googleapis.com/udpa.type.v1.TypedStruct',
      type_url: `type.googleapis.com/${typeUrl}`,
      value,
    },
  };
}

function bootstrapExtensions({ isMetadataDiscoveryOn }: BootstrapConfig): readonly JsonObject[] {
  return [
    ...(isMetadataDiscoveryOn
      ? [
          typedStruct('metadata_discovery', 'istio.workload.BootstrapExtension', {
            config_source: { ads: {} },
          }),
        ]
      : []),
    typedStruct(
      'envoy.bootstrap.internal_listener',
      'envoy.extensions.bootstrap.internal_listener.v3.InternalListener',
      { buffer_size_kb: 64 },
    ),
  ];
}

function admin({ addresses, adminPort }: BootstrapConfig): JsonObject {
  return {
    access_log: [
      {
        name: 'envoy.access_loggers.file',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
          path: '/dev/null',
        },
      },
    ],
    profile_path: '/var/lib/istio/data/envoy.prof',
    address: { socket_address: { address: addresses.localHost, port_value: adminPort } },
  };
}

function dynamicResources({ xdsApiType }: BootstrapConfig): JsonObject {
  const overAds = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    lds_config: overAds,
    cds_config: overAds,
    ads_config: {
      api_type: xdsApiType,
      set_node_on_first_message_only: true,
      transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
    },
  };
}

function overloadManager({ maxDownstreamConnectionCount }: BootstrapConfig): JsonObject {
  return {
    resource_monitors: [
      {
        name: 'envoy.resource_monitors.global_downstream_max_connections',
        typed_config: {
          '@type':
            'type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig',
          max_active_downstream_connections: maxDownstreamConnectionCount,
        },
      },
    ],
  };
}

function tracing(config: BootstrapConfig, kind: 'zipkin' | 'datadog'): JsonObject {
  switch (kind) {
    case 'zipkin':
      return {
        name: 'envoy.tracers.zipkin',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.config.trace.v3.ZipkinConfig',
          collector_cluster: 'zipkin',
          collector_endpoint: '/api/v2/spans',
          collector_endpoint_version: 'HTTP_JSON',
          trace_id_128bit: true,
          shared_span_context: false,
        },
      };
    case 'datadog':
      return {
        name: 'envoy.tracers.datadog',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.config.trace.v3.DatadogConfig',
          collector_cluster: 'datadog_agent',
          service_name: config.node.cluster,
        },
      };
    default:
      return kind satisfies never;
  }
}

function clusterManager({ outlierLogPath, loadStats, isSelfDiscoveryOn }: BootstrapConfig): JsonObject {
  if (outlierLogPath === '' && loadStats === undefined && !isSelfDiscoveryOn) return {};
  return {
    cluster_manager: {
      ...(isSelfDiscoveryOn ? { local_cluster_name: 'local_cluster' } : {}),
      ...(outlierLogPath === '' ? {} : { outlier_detection: { event_log_path: outlierLogPath } }),
      ...(loadStats === undefined ? {} : { load_stats_config: loadStats }),
      enable_deferred_cluster_creation: true,
    },
  };
}
