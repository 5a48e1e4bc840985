import type { BootstrapConfig, ReportingService } from '../config/bootstrap-config.ts';
import type { HostPort } from '../config/host-port.ts';
import { tlsTransportSocket } from './bootstrap-tls.ts';
import type { JsonObject } from './json.ts';

/** Cluster with HTTP/2 to its endpoint. */
const http2Options: JsonObject = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
    explicit_http_config: { http2_protocol_options: {} },
  },
};

/** Static cluster by pipe for the SDS of files, where an external provider serves the workload's certificate. */
const fileCredentialSocket = './var/run/secrets/credential-uds/files-socket';

/** The static clusters, in the stock order (istio/istio `tools/packaging/common/envoy_bootstrap.json`). */
export function bootstrapClusters(
  config: BootstrapConfig,
  facts: { readonly isFileCredentialServed: boolean },
): readonly JsonObject[] {
  const { localHost } = config.addresses;
  return [
    localCluster('prometheus_stats', localHost, config.adminPort),
    localCluster('agent', localHost, config.statusPort),
    pipeCluster('sds-grpc', config.sdsPipePath),
    ...(facts.isFileCredentialServed ? [pipeCluster('sds-files-grpc', fileCredentialSocket)] : []),
    xdsCluster(config.xdsPipePath),
    ...(config.tracer === undefined ? [] : [tracerCluster(config, config.tracer)]),
    ...(config.metricsService === undefined
      ? []
      : [reportingCluster('envoy_metrics_service', config, config.metricsService)]),
    ...(config.accessLogService === undefined
      ? []
      : [reportingCluster('envoy_accesslog_service', config, config.accessLogService)]),
    ...(config.isSelfDiscoveryOn ? [selfCluster()] : []),
  ];
}

/** Stat names end in `;`: istiod's clusters do too, and the `cluster_name` tag needs it. */
function named(name: string): JsonObject {
  return { name, alt_stat_name: `${name};` };
}

function endpoints(name: string, address: JsonObject): JsonObject {
  return {
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
    },
  };
}

function socketAddress({ host, port }: HostPort): JsonObject {
  return { socket_address: { address: host, port_value: port } };
}

function localCluster(name: string, address: string, port: number): JsonObject {
  return {
    ...named(name),
    type: 'STATIC',
    connect_timeout: '0.250s',
    lb_policy: 'ROUND_ROBIN',
    ...endpoints(name, { socket_address: { protocol: 'TCP', address, port_value: port } }),
  };
}

function pipeCluster(name: string, path: string): JsonObject {
  return {
    ...named(name),
    type: 'STATIC',
    typed_extension_protocol_options: http2Options,
    connect_timeout: '1s',
    lb_policy: 'ROUND_ROBIN',
    ...endpoints(name, { pipe: { path } }),
  };
}

function xdsCluster(path: string): JsonObject {
  const limits = { max_connections: 100_000, max_pending_requests: 100_000, max_requests: 100_000 };
  return {
    ...pipeCluster('xds-grpc', path),
    circuit_breakers: {
      thresholds: [
        { priority: 'DEFAULT', ...limits },
        { priority: 'HIGH', ...limits },
      ],
    },
    upstream_connection_options: { tcp_keepalive: { keepalive_time: 300 } },
    max_requests_per_connection: 1,
  };
}

function resolvedCluster(name: string, config: BootstrapConfig, address: HostPort): JsonObject {
  return {
    ...named(name),
    type: 'STRICT_DNS',
    respect_dns_ttl: true,
    dns_lookup_family: config.addresses.dnsLookupFamily,
    connect_timeout: '1s',
    lb_policy: 'ROUND_ROBIN',
    ...endpoints(name, socketAddress(address)),
  };
}

function tracerCluster(config: BootstrapConfig, tracer: NonNullable<BootstrapConfig['tracer']>): JsonObject {
  const socket = tlsTransportSocket(tracer.tls, { defaultSni: 'tracer', isHttp2: false });
  return {
    ...resolvedCluster(tracer.kind === 'zipkin' ? 'zipkin' : 'datadog_agent', config, tracer.address),
    ...(tracer.kind === 'zipkin' ? { dns_refresh_rate: '30s' } : {}),
    ...(socket === undefined ? {} : { transport_socket: socket }),
  };
}

function reportingCluster(name: string, config: BootstrapConfig, service: ReportingService): JsonObject {
  const socket = tlsTransportSocket(service.tls, { defaultSni: name, isHttp2: true });
  const keepalive = service.tcpKeepalive;
  return {
    ...resolvedCluster(name, config, service.address),
    typed_extension_protocol_options: http2Options,
    ...(socket === undefined ? {} : { transport_socket: socket }),
    ...(keepalive === undefined
      ? {}
      : {
          upstream_connection_options: {
            tcp_keepalive: {
              ...(keepalive.probes === undefined ? {} : { keepalive_probes: keepalive.probes }),
              ...(keepalive.timeSeconds === undefined ? {} : { keepalive_time: keepalive.timeSeconds }),
              ...(keepalive.intervalSeconds === undefined
                ? {}
                : { keepalive_interval: keepalive.intervalSeconds }),
            },
          },
        }),
  };
}

/** Its own service, for zone-aware routing. */
function selfCluster(): JsonObject {
  return {
    ...named('local_cluster'),
    type: 'EDS',
    connect_timeout: '1s',
    load_balancing_policy: {
      policies: [
        {
          typed_extension_config: {
            name: 'envoy.load_balancing_policies.least_request',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest',
              locality_lb_config: { zone_aware_lb_config: { min_cluster_size: '1' } },
            },
          },
        },
      ],
    },
    eds_cluster_config: {
      eds_config: { ads: {}, resource_api_version: 'V3' },
      service_name: 'local_cluster',
    },
  };
}
