import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findStatsdHost } from '../../../agent/config/parse-agent-config.ts';
import {
  agentInputs,
  downwardFile,
  errorsOf,
  fileOf,
  type InputChanges,
  parsed,
  proxyConfigOf,
} from './agent-inputs-fixture.ts';

const annotated = (values: Readonly<Record<string, string>>): InputChanges => ({
  files: { podAnnotations: downwardFile(values) },
});

const configured = (config: unknown): InputChanges => ({
  environment: { PROXY_CONFIG: typeof config === 'string' ? config : JSON.stringify(config) },
});

describe('ProxyConfig', () => {
  test('has the defaults of the stock agent and one worker for each CPU of the limit', () => {
    assert.deepEqual(proxyConfigOf(parsed()), {
      binaryPath: '/usr/local/bin/envoy',
      concurrency: 4,
      configPath: './etc/istio/proxy',
      controlPlaneAuthPolicy: 'MUTUAL_TLS',
      discoveryAddress: 'istiod.istio-system.svc:15012',
      drainDuration: '45s',
      proxyAdminPort: 15_000,
      serviceCluster: 'istio-proxy',
      statNameLength: 189,
      statusPort: 15_020,
      terminationDrainDuration: '5s',
    });
  });

  test('takes layers in the order file, variable, annotation, each field as a whole', () => {
    const config = parsed({
      environment: { PROXY_CONFIG: '{"statusPort": 2, "drainDuration": "2s", "tracing": {"sampling": 5}}' },
      files: {
        meshConfig: fileOf(
          'trustDomain: x\ndefaultConfig:\n  statusPort: 1\n  proxyAdminPort: 1\n  drainDuration: 1s\n  tracing:\n    zipkin:\n      address: zipkin:9411\n',
        ),
        podAnnotations: downwardFile({
          'proxy.istio.io/config': 'drain_duration: 3s\nextraStatTags: [a, b]\n',
        }),
      },
    });
    const merged = proxyConfigOf(config);
    assert.equal(merged['proxyAdminPort'], 1);
    assert.equal(merged['statusPort'], 2);
    assert.equal(merged['drainDuration'], '3s');
    assert.deepEqual(merged['tracing'], { sampling: 5 });
    assert.deepEqual(merged['extraStatTags'], ['a', 'b']);
  });

  test('merges proxyMetadata by key and keeps some header settings that a later layer leaves out', () => {
    const merged = proxyConfigOf(
      parsed({
        ...configured({
          proxyMetadata: { A: '1', B: '1' },
          proxyHeaders: {
            requestId: { disabled: true },
            xForwardedHost: { enabled: true },
            forwardedClientCert: 'SANITIZE',
          },
        }),
        ...annotated({
          'proxy.istio.io/config': JSON.stringify({
            proxyMetadata: { B: '2', C: '2' },
            proxyHeaders: { server: { value: 'x' }, forwardedClientCert: 'UNDEFINED' },
          }),
        }),
      }),
    );
    assert.deepEqual(merged['proxyMetadata'], { A: '1', B: '2', C: '2' });
    assert.deepEqual(merged['proxyHeaders'], {
      forwardedClientCert: 'SANITIZE',
      requestId: { disabled: true },
      server: { value: 'x' },
    });
  });

  test('is written as protobuf JSON: camelCase, enum names, seconds, no zero values', () => {
    const merged = proxyConfigOf(
      parsed(
        configured(
          [
            'control_plane_auth_policy: 0',
            'termination_drain_duration: 1m30s',
            'hold_application_until_proxy_starts: false',
            'concurrency: 0',
            'availabilityZone: ""',
            'interceptionMode: TPROXY',
            'stat_name_length: "200"',
            'tracing: {enable_istio_tags: false, max_path_tag_length: 0}',
            'discoveryRefreshDelay: null',
          ].join('\n'),
        ),
      ),
    );
    assert.equal('controlPlaneAuthPolicy' in merged, false);
    assert.equal('availabilityZone' in merged, false);
    assert.equal('discoveryRefreshDelay' in merged, false);
    assert.equal(merged['terminationDrainDuration'], '90s');
    assert.equal(merged['holdApplicationUntilProxyStarts'], false);
    assert.equal(merged['concurrency'], 0);
    assert.equal(merged['interceptionMode'], 'TPROXY');
    assert.equal(merged['statNameLength'], 200);
    assert.deepEqual(merged['tracing'], { enableIstioTags: false });
  });

  test('keeps one of serviceCluster and tracingServiceName', () => {
    const named = proxyConfigOf(parsed(configured({ tracingServiceName: 'CANONICAL_NAME_ONLY' })));
    assert.equal('serviceCluster' in named, false);
    const both = parsed({
      ...configured({ tracingServiceName: 1 }),
      ...annotated({ 'proxy.istio.io/config': 'serviceCluster: shop' }),
    });
    assert.equal('tracingServiceName' in proxyConfigOf(both), false);
    assert.equal(both.envoy.bootstrap.node.cluster, 'shop');
  });

  test('uses --serviceCluster only for an empty service cluster', () => {
    const flags = { serviceCluster: 'from-flag' };
    assert.equal(proxyConfigOf(parsed({ flags }))['serviceCluster'], 'istio-proxy');
    const empty = parsed({ flags, ...configured({ serviceCluster: '' }) });
    assert.equal(proxyConfigOf(empty)['serviceCluster'], 'from-flag');
  });

  test('warns about an unknown field and goes on', () => {
    const { warnings } = parsed(configured({ fieldOfTomorrow: 1 }));
    assert.deepEqual(warnings, ['PROXY_CONFIG.fieldOfTomorrow: unknown field, ignored']);
  });

  test('reports every field that does not fit, with place, value and remedy', () => {
    const errors = errorsOf({
      environment: {
        PROXY_CONFIG: JSON.stringify({
          statusPort: 'many',
          discoveryAddress: 5,
          drainDuration: '5',
          holdApplicationUntilProxyStarts: 'yes',
          controlPlaneAuthPolicy: 'TLS',
          proxyMetadata: { KEY: true },
          extraStatTags: 'a',
          tracing: [],
          concurrency: 1.5,
        }),
      },
    });
    assert.deepEqual(
      errors.map(({ name }) => name),
      [
        'PROXY_CONFIG.statusPort',
        'PROXY_CONFIG.discoveryAddress',
        'PROXY_CONFIG.drainDuration',
        'PROXY_CONFIG.holdApplicationUntilProxyStarts',
        'PROXY_CONFIG.controlPlaneAuthPolicy',
        'PROXY_CONFIG.proxyMetadata.KEY',
        'PROXY_CONFIG.extraStatTags',
        'PROXY_CONFIG.tracing',
        'PROXY_CONFIG.concurrency',
      ],
    );
    assert.deepEqual(errors[5], {
      name: 'PROXY_CONFIG.proxyMetadata.KEY',
      problem: 'expected text, got true',
      remedy: 'put the value in quotes',
    });
  });

  test('refuses text that is neither YAML nor JSON without repeating it', () => {
    const [error] = errorsOf(configured('tracing:\n  lightstep: {accessToken: hunter2'));
    assert.equal(error?.name, 'PROXY_CONFIG');
    assert.match(error?.problem ?? '', /line \d/);
    assert.doesNotMatch(JSON.stringify(error), /hunter2/);
    const [list] = errorsOf(annotated({ 'proxy.istio.io/config': '[1]' }));
    assert.equal(list?.name, 'annotation proxy.istio.io/config');
  });

  test('does not print an access token of the wrong type', () => {
    const errors = errorsOf(configured({ tracing: { lightstep: { accessToken: 123_456 } } }));
    assert.ok(errors.some(({ name }) => name === 'PROXY_CONFIG.tracing.lightstep.accessToken'));
    assert.doesNotMatch(JSON.stringify(errors), /123456/);
  });

  test('validates the merged result, all faults at once', () => {
    const table: readonly (readonly [Record<string, unknown>, string])[] = [
      [{ configPath: '' }, 'ProxyConfig.configPath'],
      [{ binaryPath: '' }, 'ProxyConfig.binaryPath'],
      [{ drainDuration: '0.5s' }, 'ProxyConfig.drainDuration'],
      [{ drainDuration: '0s' }, 'ProxyConfig.drainDuration'],
      [{ terminationDrainDuration: '-1s' }, 'ProxyConfig.terminationDrainDuration'],
      [{ discoveryAddress: '' }, 'ProxyConfig.discoveryAddress'],
      [{ discoveryAddress: 'istiod' }, 'ProxyConfig.discoveryAddress'],
      [{ discoveryAddress: 'istiod:0' }, 'ProxyConfig.discoveryAddress'],
      [{ discoveryAddress: 'istiod_1:15012' }, 'ProxyConfig.discoveryAddress'],
      [{ proxyAdminPort: 0 }, 'ProxyConfig.proxyAdminPort'],
      [{ statusPort: 0 }, 'ProxyConfig.statusPort'],
      [{ statusPort: 70_000 }, 'ProxyConfig.statusPort'],
      [{ controlPlaneAuthPolicy: 'INHERIT' }, 'ProxyConfig.controlPlaneAuthPolicy'],
      [{ tracing: { zipkin: {} } }, 'ProxyConfig.tracing.zipkin.address'],
      [{ tracing: { lightstep: { address: 'x:1', accessToken: 't' } } }, 'ProxyConfig.tracing.lightstep'],
      [{ tracing: { stackdriver: {} } }, 'ProxyConfig.tracing.stackdriver'],
      [
        { tracing: { tlsSettings: { mode: 'MUTUAL', privateKey: '/k' } } },
        'ProxyConfig.tracing.tlsSettings.clientCertificate',
      ],
      [
        { tracing: { zipkin: { address: 'z:1' }, tlsSettings: { mode: 'SIMPLE' } } },
        'ProxyConfig.tracing.tlsSettings.caCertificates',
      ],
      [
        { envoyMetricsService: { address: 'm:1', tlsSettings: { mode: 'MUTUAL' } } },
        'ProxyConfig.envoyMetricsService.tlsSettings.caCertificates',
      ],
      [
        { envoyAccessLogService: { address: 'a:1', tlsSettings: { mode: 'SIMPLE', credentialName: 'c' } } },
        'ProxyConfig.envoyAccessLogService.tlsSettings.caCertificates',
      ],
      [{ drainDuration: '315576000001s' }, 'PROXY_CONFIG.drainDuration'],
      [{ envoyMetricsService: { address: ':1' } }, 'ProxyConfig.envoyMetricsService.address'],
      [{ envoyAccessLogService: { address: 'a:b' } }, 'ProxyConfig.envoyAccessLogService.address'],
      [{ privateKeyProvider: {} }, 'ProxyConfig.privateKeyProvider'],
      [{ privateKeyProvider: { qat: { pollDelay: '0s' } } }, 'ProxyConfig.privateKeyProvider: pollDelay'],
      [
        { connectionSettings: { http2InitialStreamWindowSize: 1 } },
        'ProxyConfig.connectionSettings.http2InitialStreamWindowSize',
      ],
      [{ connectionSettings: { httpIdleTimeout: '-1s' } }, 'ProxyConfig.connectionSettings.httpIdleTimeout'],
    ];
    for (const [config, name] of table) {
      const names = errorsOf(configured(config)).map((error) => error.name);
      assert.deepEqual(names, [name], JSON.stringify(config));
    }
    const all = errorsOf(configured({ statusPort: 0, proxyAdminPort: 0, discoveryAddress: '' }));
    assert.equal(all.length, 3);
  });

  test('accepts addresses by name, IPv4 and bracketed IPv6', () => {
    for (const discoveryAddress of ['istiod:15012', '10.0.0.1:15012', '[fd00::1]:15012', 'istiod.a.svc.:1']) {
      assert.equal(
        proxyConfigOf(parsed(configured({ discoveryAddress })))['discoveryAddress'],
        discoveryAddress,
      );
    }
  });

  test('takes the last two annotations after validation', () => {
    const config = parsed(
      annotated({ 'sidecar.istio.io/discoveryAddress': 'other:1', 'status.sidecar.istio.io/port': '0' }),
    );
    assert.equal(config.xds.discoveryAddress, 'other:1');
    assert.equal(config.status.port, 0);
    const worded = parsed(annotated({ 'status.sidecar.istio.io/port': 'none' }));
    assert.equal(worded.status.port, 0);
    assert.equal(worded.warnings.length, 1);
    assert.equal(errorsOf(annotated({ 'sidecar.istio.io/discoveryAddress': 'istiod' })).length, 1);
  });

  test('chooses the number of workers', () => {
    const table: readonly (readonly [string, InputChanges, number | undefined])[] = [
      ['limit', {}, 4],
      ['ProxyConfig over limit', configured({ concurrency: 2 }), 2],
      ['ProxyConfig zero over limit', configured({ concurrency: 0 }), 0],
      ['flag over all', { ...configured({ concurrency: 2 }), flags: { concurrency: '3' } }, 3],
      ['nothing', { environment: { ISTIO_CPU_LIMIT: '0' } }, undefined],
    ];
    for (const [name, changes, expected] of table) {
      const config = parsed(changes);
      assert.equal(proxyConfigOf(config)['concurrency'], expected, name);
      const position = config.envoy.arguments.indexOf('--concurrency');
      const given = position === -1 ? undefined : config.envoy.arguments[position + 1];
      assert.equal(given, expected ? String(expected) : undefined, name);
    }
    const unlimited = parsed({ environment: { ISTIO_CPU_LIMIT: '0' } });
    assert.match(unlimited.warnings.join('\n'), /CPU count: 4, CPU Limit: 0/);
    assert.match(parsed({ flags: { concurrency: '3' } }).warnings.join('\n'), /legacy --concurrency=3/);
  });

  test('refuses number flags that are no numbers', () => {
    const names = errorsOf({ flags: { concurrency: 'x', stsPort: '' } }).map(({ name }) => name);
    assert.deepEqual(names, ['--concurrency', '--stsPort']);
  });

  test('names a statsd host that needs an address, and drops the sink when there is none', () => {
    const named = configured({ statsdUdpAddress: 'statsd.example:8125' });
    assert.equal(findStatsdHost(agentInputs(named)), 'statsd.example');
    assert.equal(findStatsdHost(agentInputs(configured({ statsdUdpAddress: '10.1.2.3:8125' }))), undefined);
    assert.equal(findStatsdHost(agentInputs()), undefined);
    const unresolved = parsed(named);
    assert.equal(unresolved.envoy.bootstrap.statsd, undefined);
    assert.match(unresolved.warnings.join('\n'), /statsd\.example/);
    assert.equal(proxyConfigOf(unresolved)['statsdUdpAddress'], undefined);
    const resolved = parsed({ ...named, resolvedHosts: new Map([['statsd.example', '10.9.9.9']]) });
    assert.deepEqual(resolved.envoy.bootstrap.statsd, { host: '10.9.9.9', port: 8125 });
    assert.equal(proxyConfigOf(resolved)['statsdUdpAddress'], '10.9.9.9:8125');
    const v6 = parsed({ ...named, resolvedHosts: new Map([['statsd.example', 'fd00::9']]) });
    assert.equal(proxyConfigOf(v6)['statsdUdpAddress'], '[fd00::9]:8125');
    for (const statsdUdpAddress of ['x', 'fd00::1:8125', 'z:http']) {
      const bad = parsed(configured({ statsdUdpAddress }));
      assert.equal(bad.envoy.bootstrap.statsd, undefined, statsdUdpAddress);
      assert.equal(proxyConfigOf(bad)['statsdUdpAddress'], undefined, statsdUdpAddress);
      assert.match(bad.warnings.join('\n'), /is not host:port; no statsd sink/, statsdUdpAddress);
    }
  });

  test('null in a map or list of texts is the empty text', () => {
    const config = parsed(configured({ proxyMetadata: { ISTIO_META_X: null }, extraStatTags: ['a', null] }));
    assert.equal(config.envoy.bootstrap.node.metadata['X'], '');
    assert.deepEqual(proxyConfigOf(config)['extraStatTags'], ['a', '']);
  });

  test('an unreadable mesh config file is an error, an absent one is not', () => {
    const unreadable = { kind: 'unreadable', reason: 'cannot be read (EACCES)' } as const;
    const [error] = errorsOf({ files: { meshConfig: unreadable } });
    assert.equal(error?.name, 'mesh config file ./etc/istio/config/mesh');
  });
});
