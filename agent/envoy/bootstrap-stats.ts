import type { BootstrapConfig } from '../config/bootstrap-config.ts';
import type { JsonObject } from './json.ts';

const tag = (name: string, regex: string): JsonObject => ({ tag_name: name, regex });

const leadingTags: readonly JsonObject[] = [
  tag('cluster_name', String.raw`^cluster(\.(.+);)`),
  tag(
    'http_conn_manager_prefix',
    String.raw`^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)`,
  ),
  tag('thread_name', String.raw`^server(\.(.+))\.watchdog`),
  tag('tcp_prefix', String.raw`^tcp\.((.*?)\.)\w+?$`),
  tag('response_code', String.raw`_rq(_(\d{3}))$`),
  tag('response_code_class', String.raw`_rq(_(\dxx))$`),
  tag(
    'http_conn_manager_listener_prefix',
    String.raw`^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)`,
  ),
  tag('listener_address', String.raw`^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)`),
  tag('mongo_prefix', String.raw`^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$`),
];

const trailingTags: readonly JsonObject[] = [
  tag('cache', String.raw`(cache\.(.+?)\.)`),
  tag('component', String.raw`(component\.(.+?)\.)`),
  tag('tag', String.raw`(tag\.(.+?);\.)`),
  tag('wasm_filter', String.raw`(wasm_filter\.(.+?)\.)`),
  tag('authz_enforce_result', String.raw`rbac(\.(allowed|denied))`),
  tag('authz_dry_run_action', String.raw`(\.istio_dry_run_(allow|deny)_)`),
  tag('authz_dry_run_result', String.raw`(\.shadow_(allowed|denied))`),
];

/** Tags and kept stats: dashboards and the `istio_*` metrics are built on exactly these. */
export function bootstrapStats({ stats, isMetadataDiscoveryOn }: BootstrapConfig): JsonObject {
  const { histogramBuckets } = stats;
  return {
    use_all_default_tags: false,
    stats_tags: [
      ...leadingTags,
      ...stats.extraTags.map((name) => tag(name, `(${name}${String.raw`=\.=(.*?);\.;)`}`)),
      ...trailingTags,
    ],
    ...(histogramBuckets.length === 0
      ? {}
      : {
          histogram_bucket_settings: histogramBuckets.map(({ prefix, buckets }) => ({
            match: { prefix },
            buckets,
          })),
        }),
    stats_matcher: {
      inclusion_list: {
        patterns: [
          { prefix: 'reporter=' },
          ...(isMetadataDiscoveryOn ? [{ prefix: 'workload_discovery' }] : []),
          ...stats.inclusionPrefixes.map((prefix) => ({ prefix })),
          ...stats.inclusionSuffixes.map((suffix) => ({ suffix })),
          ...stats.inclusionRegexes.map((regex) => ({ safe_regex: { regex } })),
          { prefix: 'component' },
          { prefix: 'istio' },
        ],
      },
    },
  };
}

/** Where Envoy sends its stats besides answering scrapes; empty: nowhere. */
export function statsSinks({ metricsService, statsd }: BootstrapConfig): readonly JsonObject[] {
  return [
    ...(metricsService === undefined
      ? []
      : [
          {
            name: 'envoy.stat_sinks.metrics_service',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig',
              transport_api_version: 'V3',
              grpc_service: { envoy_grpc: { cluster_name: 'envoy_metrics_service' } },
            },
          },
        ]),
    ...(statsd === undefined
      ? []
      : [
          {
            name: 'envoy.stat_sinks.statsd',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.config.metrics.v3.StatsdSink',
              address: { socket_address: { address: statsd.host, port_value: statsd.port } },
            },
          },
        ]),
  ];
}
