import type { BootstrapConfig } from '../config/bootstrap-config.ts';
import { workloadTlsListenerSocket } from './bootstrap-tls.ts';
import type { JsonObject } from './json.ts';

/** The static listeners, in the stock order. None has a traffic direction, so an inbound drain leaves them open. */
export function bootstrapListeners(config: BootstrapConfig): readonly JsonObject[] {
  const { addresses } = config;
  return [
    metricsListener(config),
    ...(config.secureMetricsPort === 0
      ? []
      : [
          secureListener(addresses.wildcard, config.secureMetricsPort, 'secure_stats', [
            route('/stats/prometheus', 'prometheus_stats'),
          ]),
        ]),
    ...(config.secureMergedMetricsPort === 0
      ? []
      : [
          secureListener(addresses.wildcard, config.secureMergedMetricsPort, 'secure_merged_stats', [
            route('/stats/prometheus', 'agent'),
            route('/metrics', 'agent'),
          ]),
        ]),
    readinessListener(config),
  ];
}

function metricsListener(config: BootstrapConfig): JsonObject {
  const { addresses, isPrometheusLocalOnly, prometheusPort } = config;
  const address = isPrometheusLocalOnly ? addresses.localHost : addresses.wildcard;
  const second = isPrometheusLocalOnly ? addresses.additional?.localHost : addresses.additional?.wildcard;
  return {
    ...bound(address, prometheusPort, second),
    filter_chains: [
      {
        filters: [
          httpFilter(
            'stats',
            [route('/stats/prometheus', 'prometheus_stats')],
            [...(config.isStatsCompressed ? compressors : [])],
          ),
        ],
      },
    ],
  };
}

function readinessListener(config: BootstrapConfig): JsonObject {
  const { addresses, envoyStatusPort } = config;
  return {
    ...bound(addresses.wildcard, envoyStatusPort, addresses.additional?.wildcard),
    ...(config.acceptsProxyProtocol
      ? {
          listener_filters: [
            {
              name: 'envoy.listener.proxy_protocol',
              typed_config: {
                '@type':
                  'type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol',
                allow_requests_without_proxy_protocol: true,
              },
            },
          ],
        }
      : {}),
    filter_chains: [{ filters: [httpFilter('agent', [route('/healthz/ready', 'agent')], [])] }],
  };
}

function secureListener(
  address: string,
  port: number,
  statPrefix: string,
  routes: readonly JsonObject[],
): JsonObject {
  return {
    ...bound(address, port, undefined),
    listener_filters: [
      {
        name: 'envoy.filters.listener.tls_inspector',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
        },
      },
    ],
    filter_chains: [
      {
        filter_chain_match: { transport_protocol: 'tls' },
        transport_socket: workloadTlsListenerSocket(),
        filters: [httpFilter(statPrefix, routes, [])],
      },
    ],
  };
}

function bound(address: string, port: number, additionalAddress: string | undefined): JsonObject {
  const socket = (host: string) => ({ socket_address: { protocol: 'TCP', address: host, port_value: port } });
  return {
    name: `${address}_${port}`,
    address: socket(address),
    ignore_global_conn_limit: true,
    bypass_overload_manager: true,
    ...(additionalAddress === undefined
      ? {}
      : { additional_addresses: [{ address: socket(additionalAddress) }] }),
  };
}

function route(prefix: string, cluster: string): JsonObject {
  return { match: { prefix }, route: { cluster } };
}

function httpFilter(
  statPrefix: string,
  routes: readonly JsonObject[],
  filters: readonly JsonObject[],
): JsonObject {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type':
        'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
      codec_type: 'AUTO',
      stat_prefix: statPrefix,
      route_config: { virtual_hosts: [{ name: 'backend', domains: ['*'], routes }] },
      http_filters: [
        ...filters,
        {
          name: 'envoy.filters.http.router',
          typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
        },
      ],
    },
  };
}

const compressedTypes = [
  'text/plain',
  'application/vnd.google.protobuf',
  'application/openmetrics-text',
  'application/openmetrics-protobuf',
];

const compressors: readonly JsonObject[] = (
  [
    ['brotli', 'Brotli'],
    ['zstd', 'Zstd'],
    ['gzip', 'Gzip'],
  ] as const
).map(([name, message]) => ({
  name: `envoy.filters.http.compressor.${name}`,
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor',
    compressor_library: {
      name: `stats_${name}`,
      typed_config: {
        '@type': `type.googleapis.com/envoy.extensions.compression.${name}.compressor.v3.${message}`,
      },
    },
    response_direction_config: { common_config: { content_type: compressedTypes } },
  },
}));
