import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { buildBootstrap } from '../../../agent/envoy/bootstrap.ts';
import { downwardFile, type InputChanges, parsed } from '../config/agent-inputs-fixture.ts';
import { jsonDifferences } from './json-difference.ts';
import { recordedNodes } from './recorded-nodes.ts';

const noSockets = { isCredentialSocketPresent: false, isFileCredentialServed: false };
const vectors = new URL('../../vectors/', import.meta.url);
const captures = new URL('../../../../shared/captures/', import.meta.url);
const capturesSkip = existsSync(captures) ? false : 'there are no recordings of the stock agent here';

type Loose = Readonly<Record<string, unknown>>;

function documentOf(changes: InputChanges, facts = noSockets): Loose {
  return buildBootstrap(parsed(changes).envoy.bootstrap, facts);
}

/** What is at `a.b.0.c`, undefined when there is nothing. */
function at(document: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, name) => {
    return typeof value === 'object' && value !== null ? (value as Loose)[name] : undefined;
  }, document);
}

function named(document: Loose, list: 'clusters' | 'listeners', name: string): Loose | undefined {
  const items = at(document, `static_resources.${list}`) as readonly Loose[];
  return items.find((item) => item['name'] === name);
}

function names(document: Loose, list: 'clusters' | 'listeners'): readonly unknown[] {
  return (at(document, `static_resources.${list}`) as readonly Loose[]).map((item) => item['name']);
}

const env = (environment: Readonly<Record<string, string>>): InputChanges => ({ environment });
const proxyConfig = (config: unknown): InputChanges => env({ PROXY_CONFIG: JSON.stringify(config) });

describe('the bootstrap document', () => {
  for (const [name, inputs] of Object.entries(recordedNodes)) {
    test(`of a ${name} equals the one the stock agent wrote`, { skip: capturesSkip }, () => {
      const stock: unknown = JSON.parse(readFileSync(new URL(`bootstrap.${name}.json`, captures), 'utf8'));
      const written: unknown = JSON.parse(JSON.stringify(documentOf(inputs)));
      assert.deepEqual(jsonDifferences(stock, written), []);
    });

    test(`of a ${name} starts Envoy with the stock command line`, { skip: capturesSkip }, () => {
      const { argv } = JSON.parse(
        readFileSync(new URL(`envoy-command-line.${name}.json`, captures), 'utf8'),
      ) as {
        argv: readonly string[];
      };
      const { binaryPath, arguments: words } = parsed(inputs).envoy;
      assert.deepEqual([binaryPath, ...words], argv);
    });

    test(`of a ${name} equals the kept one, lists and keys in order`, () => {
      const kept: unknown = JSON.parse(
        readFileSync(new URL(`envoy-bootstrap.${name}.json`, vectors), 'utf8'),
      );
      assert.equal(JSON.stringify(documentOf(inputs)), JSON.stringify(kept));
    });
  }

  test('is the same with plaintext to istiod but for the metadata', () => {
    const plaintext = documentOf(proxyConfig({ controlPlaneAuthPolicy: 'NONE' }));
    const differences = jsonDifferences(documentOf({}), plaintext);
    assert.ok(differences.length > 0);
    for (const difference of differences)
      assert.match(difference, /^\$\.node\.metadata\.(PILOT_SAN|PROXY_CONFIG)[.:]/);
  });

  test('asks for ADS as the environment says, a waypoint always incrementally', () => {
    const path = 'dynamic_resources.ads_config.api_type';
    assert.equal(at(documentOf({}), path), 'DELTA_GRPC');
    assert.equal(at(documentOf(env({ ISTIO_DELTA_XDS: 'false' })), path), 'GRPC');
    assert.equal(
      at(documentOf({ type: 'waypoint', ...env({ ISTIO_DELTA_XDS: 'false' }) }), path),
      'DELTA_GRPC',
    );
  });

  test('holds the extension of the Istio build only with metadata discovery', () => {
    const extensions = (changes: InputChanges) =>
      (documentOf(changes)['bootstrap_extensions'] as readonly Loose[]).map(({ name }) => name);
    const internal = 'envoy.bootstrap.internal_listener';
    assert.deepEqual(extensions({}), [internal]);
    assert.deepEqual(extensions(env({ ISTIO_META_ENABLE_HBONE: 'true' })), ['metadata_discovery', internal]);
    assert.deepEqual(extensions({ type: 'waypoint' }), ['metadata_discovery', internal]);
    const stateOfTheWorld = env({ PEER_METADATA_DISCOVERY: 'true', ISTIO_DELTA_XDS: 'false' });
    assert.deepEqual(extensions(stateOfTheWorld), [internal]);
    assert.match(parsed(stateOfTheWorld).warnings.join('\n'), /metadata discovery/);
    const patterns = at(
      documentOf({ type: 'waypoint' }),
      'stats_config.stats_matcher.inclusion_list.patterns',
    );
    assert.deepEqual((patterns as readonly unknown[])[1], { prefix: 'workload_discovery' });
  });

  test('has JSON log lines with --log_as_json', () => {
    const document = documentOf({ logFlags: { outputLevel: '', asJson: true } });
    assert.deepEqual(at(document, 'application_log_config.log_format'), {
      json_format: {
        time: '%Y-%m-%dT%T.%fZ',
        level: '%l',
        scope: 'envoy %n',
        msg: '%j',
        caller: '%g:%#',
        thread: '%t',
      },
    });
  });

  test('turns runtime values into flags: empty deletes, true and false are booleans', () => {
    const flags = at(
      documentOf({
        environment: {
          PROXY_CONFIG: JSON.stringify({
            runtimeValues: { a: 'true', b: 'false', c: '10', 're2.max_program_size.error_level': '' },
          }),
          COMPLIANCE_POLICY: 'fips-140-2',
          HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED: 'false',
        },
      }),
      'layered_runtime.layers.0.static_layer',
    );
    assert.deepEqual(flags, {
      'envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst': true,
      'envoy.reloadable_features.http_reject_path_with_fragment': false,
      'envoy.reloadable_features.fixed_heap_use_allocated': true,
      'envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update': false,
      'envoy.reloadable_features.google_grpc_disable_tls_13': true,
      'envoy.reloadable_features.http_strip_fragment_from_path_unsafe_if_disabled': 'false',
      a: true,
      b: false,
      c: '10',
    });
  });

  test('keeps the stats that annotations or ProxyConfig name, annotations first', () => {
    const patterns = (changes: InputChanges) =>
      at(documentOf(changes), 'stats_config.stats_matcher.inclusion_list.patterns') as readonly Loose[];
    const configured = proxyConfig({
      proxyStatsMatcher: {
        inclusionPrefixes: ['http.{pod_ip}_'],
        inclusionSuffixes: ['.upstream_rq'],
        inclusionRegexps: ['.*x.*'],
      },
    });
    const fromConfig = patterns({
      ...configured,
      interfaces: [{ interfaceName: 'eth0', address: '10.0.0.6', isInternal: false }],
    });
    assert.deepEqual(fromConfig.slice(1, 3), [{ prefix: 'http.10.0.0.5_' }, { prefix: 'http.10.0.0.6_' }]);
    assert.ok(fromConfig.some(({ suffix }) => suffix === '.upstream_rq'));
    const annotations = {
      'sidecar.istio.io/statsInclusionPrefixes': 'p1,p2',
      'sidecar.istio.io/statsInclusionRegexps': '',
    };
    const fromAnnotation = patterns({ ...configured, files: { podAnnotations: downwardFile(annotations) } });
    assert.deepEqual(
      fromAnnotation.slice(0, 4),
      ['reporter=', 'p1', 'p2', 'cluster_manager'].map((prefix) => ({ prefix })),
    );
    assert.ok(fromAnnotation.some(({ safe_regex: regex }) => at(regex, 'regex') === '.*x.*'));
    const exiting = patterns(env({ EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true' }));
    assert.ok(exiting.some(({ suffix }) => suffix === 'downstream_cx_active'));
  });

  test('adds extra tags once, behind the first group of tags', () => {
    const document = documentOf({
      ...proxyConfig({ extraStatTags: ['a', '', 'b'] }),
      files: { podAnnotations: downwardFile({ 'sidecar.istio.io/extraStatTags': 'b,,c' }) },
    });
    const tags = at(document, 'stats_config.stats_tags') as readonly Loose[];
    assert.deepEqual(
      tags.slice(8, 13).map((tag) => tag['tag_name']),
      ['mongo_prefix', 'a', 'b', 'c', 'cache'],
    );
    assert.equal(tags[9]?.['regex'], String.raw`(a=\.=(.*?);\.;)`);
  });

  test('takes buckets and intervals from annotations, bad ones with a warning', () => {
    const annotate = (values: Readonly<Record<string, string>>): InputChanges => ({
      files: { podAnnotations: downwardFile(values) },
    });
    const document = documentOf(
      annotate({
        'sidecar.istio.io/statsHistogramBuckets': '{"b":[1,2.5],"a":[3]}',
        'sidecar.istio.io/statsFlushInterval': '1m',
        'sidecar.istio.io/statsEvictionInterval': '2m',
      }),
    );
    assert.deepEqual(at(document, 'stats_config.histogram_bucket_settings'), [
      { match: { prefix: 'a' }, buckets: [3] },
      { match: { prefix: 'b' }, buckets: [1, 2.5] },
    ]);
    assert.equal(document['stats_flush_interval'], '60s');
    assert.equal(document['stats_eviction_interval'], '120s');
    for (const values of [
      { 'sidecar.istio.io/statsEvictionInterval': '7s' },
      { 'sidecar.istio.io/statsFlushInterval': '5' },
      { 'sidecar.istio.io/statsFlushInterval': '0s' },
      { 'sidecar.istio.io/statsHistogramBuckets': '{"a":["1"]}' },
      { 'sidecar.istio.io/statsHistogramBuckets': '{' },
    ]) {
      const config = parsed(annotate(values));
      assert.equal(config.warnings.length, 1, JSON.stringify(values));
      assert.equal(config.envoy.bootstrap.stats.evictionInterval, undefined);
      assert.equal(config.envoy.bootstrap.stats.flushInterval, undefined);
      assert.deepEqual(config.envoy.bootstrap.stats.histogramBuckets, []);
    }
  });

  test('limits connections by the first setting that names a number', () => {
    const limit = (config: unknown) =>
      at(
        documentOf(proxyConfig(config)),
        'overload_manager.resource_monitors.0.typed_config.max_active_downstream_connections',
      );
    const proxyMetadata = { ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS: '200' };
    const runtimeValues = { 'overload.global_downstream_max_connections': '300' };
    const connectionSettings = { globalDownstreamConnectionLimit: 100 };
    assert.equal(limit({ connectionSettings, proxyMetadata, runtimeValues }), 100);
    assert.equal(limit({ proxyMetadata, runtimeValues }), 200);
    assert.equal(limit({ runtimeValues }), 300);
    assert.equal(limit({}), 2_147_483_647);
  });

  test('adds the tracer with its cluster', () => {
    const zipkin = documentOf({
      environment: {
        HOST_IP: '10.9.9.9',
        PROXY_CONFIG: JSON.stringify({
          tracing: { zipkin: { address: '$(HOST_IP):9411' }, tlsSettings: { mode: 'ISTIO_MUTUAL' } },
        }),
      },
    });
    assert.equal(at(zipkin, 'tracing.http.typed_config.collector_cluster'), 'zipkin');
    const cluster = named(zipkin, 'clusters', 'zipkin');
    assert.deepEqual(
      at(cluster, 'load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address'),
      {
        address: '10.9.9.9',
        port_value: 9411,
      },
    );
    assert.equal(at(cluster, 'dns_refresh_rate'), '30s');
    assert.equal(at(cluster, 'transport_socket.typed_config.sni'), 'tracer');
    assert.equal(at(cluster, 'transport_socket.typed_config.common_tls_context.alpn_protocols'), undefined);
    const datadog = documentOf(proxyConfig({ tracing: { datadog: { address: 'dd:8126' } } }));
    assert.equal(at(datadog, 'tracing.http.typed_config.service_name'), 'istio-proxy.shop');
    assert.ok(named(datadog, 'clusters', 'datadog_agent'));
    assert.equal(documentOf({})['tracing'], undefined);
  });

  test('adds metrics and access log services with TLS by mode, and statsd', () => {
    const service = (tlsSettings: unknown) => {
      const document = documentOf(
        proxyConfig({
          envoyMetricsService: {
            address: 'ms:1',
            tlsSettings,
            tcpKeepalive: { probes: 3, time: '10s', interval: '0s' },
          },
          envoyAccessLogService: { address: 'als:2' },
          statsdUdpAddress: '[fd00::8]:8125',
        }),
      );
      assert.deepEqual(names(document, 'clusters').slice(-2), [
        'envoy_metrics_service',
        'envoy_accesslog_service',
      ]);
      assert.deepEqual(
        (document['stats_sinks'] as readonly Loose[]).map(({ name }) => name),
        ['envoy.stat_sinks.metrics_service', 'envoy.stat_sinks.statsd'],
      );
      const cluster = named(document, 'clusters', 'envoy_metrics_service');
      assert.deepEqual(at(cluster, 'upstream_connection_options.tcp_keepalive'), {
        keepalive_probes: 3,
        keepalive_time: 10,
      });
      return at(cluster, 'transport_socket.typed_config');
    };
    const context = 'common_tls_context';
    const root = `${context}.combined_validation_context.validation_context_sds_secret_config`;
    const certificate = `${context}.tls_certificate_sds_secret_configs.0`;
    assert.equal(service({ mode: 'DISABLE' }), undefined);
    assert.equal(service(undefined), undefined);
    const simple = service({ mode: 'SIMPLE', caCertificates: '/ca.pem', subjectAltNames: ['a'], sni: 's' });
    assert.equal(at(simple, `${root}.name`), 'file-root:/ca.pem');
    assert.equal(at(simple, `${root}.sds_config.initial_fetch_timeout`), undefined);
    assert.equal(at(simple, certificate), undefined);
    assert.deepEqual(at(simple, `${context}.combined_validation_context.default_validation_context`), {
      match_subject_alt_names: [{ exact: 'a' }],
    });
    assert.equal(at(simple, 'sni'), 's');
    const mutual = service({
      mode: 'MUTUAL',
      clientCertificate: '/c',
      privateKey: '/k',
      caCertificates: '/ca',
    });
    assert.equal(at(mutual, `${certificate}.name`), 'file-cert:/c~/k');
    const without = service({ mode: 'MUTUAL', clientCertificate: '/c', caCertificates: '/ca' });
    assert.equal(at(without, certificate), undefined, 'a name without both paths can be served by nobody');
    const mesh = service({ mode: 'ISTIO_MUTUAL' });
    assert.equal(at(mesh, `${certificate}.name`), 'default');
    assert.equal(at(mesh, `${root}.sds_config.initial_fetch_timeout`), '0s');
    assert.deepEqual(at(mesh, `${context}.alpn_protocols`), ['istio', 'h2']);
    assert.equal(at(mesh, 'sni'), 'envoy_metrics_service');
  });

  test('adds listeners with mutual TLS, local metrics, PROXY protocol and the second family', () => {
    const document = documentOf({
      environment: {
        PROXY_CONFIG:
          '{"proxyMetadata": {"METRICS_LOCALHOST_ACCESS_ONLY": "true"}, "statsCompression": false}',
        ENVOY_SECURE_METRICS_PORT: '15091',
        ENVOY_SECURE_MERGED_METRICS_PORT: '15092',
        ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL: 'true',
        ISTIO_DUAL_STACK: 'true',
      },
      interfaces: [{ interfaceName: 'eth0', address: 'fd00::5', isInternal: false }],
    });
    assert.deepEqual(names(document, 'listeners'), [
      '127.0.0.1_15090',
      '0.0.0.0_15091',
      '0.0.0.0_15092',
      '0.0.0.0_15021',
    ]);
    const address = 'additional_addresses.0.address.socket_address.address';
    assert.equal(at(named(document, 'listeners', '127.0.0.1_15090'), address), '::1');
    const filters = 'filter_chains.0.filters.0.typed_config.http_filters';
    assert.equal(
      (at(named(document, 'listeners', '127.0.0.1_15090'), filters) as readonly unknown[]).length,
      1,
    );
    const readiness = named(document, 'listeners', '0.0.0.0_15021');
    assert.equal(at(readiness, address), '::');
    assert.equal(at(readiness, 'listener_filters.0.name'), 'envoy.listener.proxy_protocol');
    const secure = named(document, 'listeners', '0.0.0.0_15092');
    assert.equal(
      at(secure, 'filter_chains.0.transport_socket.typed_config.require_client_certificate'),
      true,
    );
  });

  test('adds what self discovery, outlier log and load reports need', () => {
    const document = documentOf({
      flags: { outlierLogPath: '/dev/stdout' },
      environment: {
        ISTIO_META_ENABLE_SELF_DISCOVERY: 'true',
        ISTIO_META_LOAD_STATS_CONFIG_JSON: '{"api_type":"GRPC"}',
      },
    });
    assert.deepEqual(document['cluster_manager'], {
      local_cluster_name: 'local_cluster',
      outlier_detection: { event_log_path: '/dev/stdout' },
      load_stats_config: { api_type: 'GRPC' },
      enable_deferred_cluster_creation: true,
    });
    assert.ok(named(document, 'clusters', 'local_cluster'));
    assert.equal(documentOf({})['cluster_manager'], undefined);
  });

  test('serves files from a socket of its own beside an external certificate provider', () => {
    const document = documentOf({}, { isCredentialSocketPresent: true, isFileCredentialServed: true });
    assert.deepEqual(names(document, 'clusters'), [
      'prometheus_stats',
      'agent',
      'sds-grpc',
      'sds-files-grpc',
      'xds-grpc',
    ]);
    assert.equal(at(document, 'node.metadata.credential'), 'true');
    assert.equal(at(document, 'node.metadata.file-credential'), 'true');
  });
});
