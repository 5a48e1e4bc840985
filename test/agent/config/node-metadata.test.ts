import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AgentConfig } from '../../../agent/config/agent-config.ts';
import { compatibleIstioVersion, withSocketFacts } from '../../../agent/config/node-metadata.ts';
import { downwardFile, errorsOf, fileOf, type InputChanges, parsed } from './agent-inputs-fixture.ts';

const env = (environment: Readonly<Record<string, string>>): InputChanges => ({ environment });

function metadataOf(config: AgentConfig): Readonly<Record<string, unknown>> {
  return config.envoy.bootstrap.node.metadata;
}

describe('node metadata', () => {
  test('holds what the agent itself knows, keys sorted', () => {
    const { PROXY_CONFIG: _, ...metadata } = metadataOf(parsed(env({ SERVICE_ACCOUNT: 'web' })));
    assert.deepEqual(metadata, {
      ENVOY_PROMETHEUS_PORT: 15_090,
      ENVOY_SKIP_DEPRECATED_LOGS: 'true',
      ENVOY_STATUS_PORT: 15_021,
      INSTANCE_IPS: '10.0.0.5,127.0.0.1,::1',
      ISTIO_VERSION: compatibleIstioVersion,
      METADATA_DISCOVERY: 'false',
      NAME: 'web-0',
      NAMESPACE: 'shop',
      PILOT_SAN: ['istiod.istio-system.svc'],
      SERVICE_ACCOUNT: 'web',
      WORKLOAD_IDENTITY_SOCKET_FILE: 'socket',
    });
    assert.deepEqual(Object.keys(metadata), Object.keys(metadata).toSorted());
  });

  test('a variable goes over proxyMetadata, a JSON object over both', () => {
    const metadata = metadataOf(
      parsed(
        env({
          PROXY_CONFIG: JSON.stringify({
            proxyMetadata: {
              ISTIO_META_MESH_ID: 'low',
              ISTIO_META_NETWORK: 'low',
              OTHER: 'x',
              ISTIO_META_OWN: 'low',
            },
          }),
          ISTIO_META_NETWORK: 'middle',
          ISTIO_META_OWN: 'middle',
          ISTIO_METAJSON_ANY: '{"OWN": "high", "nested": {"a": 1}}',
        }),
      ),
    );
    assert.equal(metadata['MESH_ID'], 'low');
    assert.equal(metadata['NETWORK'], 'middle');
    assert.equal(metadata['OWN'], 'high');
    assert.deepEqual(metadata['nested'], { a: 1 });
    assert.equal('OTHER' in metadata, false);
  });

  test('known keys have their wire types, unknown keys stay raw', () => {
    const table: readonly (readonly [string, string, string, unknown])[] = [
      ['DNS_CAPTURE', 't', 'a true boolean is the text true', 'true'],
      ['DNS_CAPTURE', 'false', 'a false one stays as given', 'false'],
      ['DNS_CAPTURE', '0', 'a false one stays as given', '0'],
      ['REQUESTED_NETWORK_VIEW', 'a,b', 'a list is one text', 'a,b'],
      ['POD_PORTS', '[]', 'no ports', '[]'],
      ['NETWORK', '', 'an empty text', ''],
      ['HTTP10', '1', 'a text that looks like a boolean', '1'],
      ['SOMETHING', 'yes', 'an unknown key', 'yes'],
    ];
    for (const [key, value, name, expected] of table) {
      assert.equal(metadataOf(parsed(env({ [`ISTIO_META_${key}`]: value })))[key], expected, name);
    }
  });

  test('pod ports are encoded anew with three members', () => {
    const text =
      '[\n {"name":"http","containerPort":80,"hostPort":1},\n {"containerPort":53,"protocol":"UDP"}\n]';
    assert.equal(
      metadataOf(parsed(env({ ISTIO_META_POD_PORTS: text })))['POD_PORTS'],
      '[{"name":"http","containerPort":80,"protocol":""},{"containerPort":53,"protocol":"UDP"}]',
    );
  });

  test('members of pod ports are found in any case, and null is a port without any', () => {
    const text = '[{"NAME":"http","ContainerPort":80},null,{"name":null,"containerPort":null}]';
    assert.equal(
      metadataOf(parsed(env({ ISTIO_META_POD_PORTS: text })))['POD_PORTS'],
      '[{"name":"http","containerPort":80,"protocol":""},' +
        '{"containerPort":0,"protocol":""},{"containerPort":0,"protocol":""}]',
    );
  });

  test('a value that does not fit its type is an error that names the variable', () => {
    const table: readonly (readonly [string, string])[] = [
      ['ISTIO_META_DNS_CAPTURE', 'yes'],
      ['ISTIO_META_POD_PORTS', 'nope'],
      ['ISTIO_META_POD_PORTS', '[{"containerPort":"80"}]'],
      ['ISTIO_META_ENVOY_STATUS_PORT', '15021'],
      ['ISTIO_META_LABELS', 'a=b'],
      ['ISTIO_META_PROXY_CONFIG', '{}'],
      ['ISTIO_META_PILOT_SAN', 'x'],
      ['ISTIO_METAJSON_A', '{"CLUSTER_ID": 5}'],
      ['ISTIO_METAJSON_A', '{"LABELS": {"a": 1}}'],
    ];
    for (const [name, value] of table) {
      const [error, ...others] = errorsOf(env({ [name]: value }));
      assert.equal(error?.name, name);
      assert.deepEqual(others, []);
    }
    const [fromMetadata] = errorsOf(
      env({ PROXY_CONFIG: '{"proxyMetadata": {"ISTIO_META_ENABLE_HBONE": "on"}}' }),
    );
    assert.equal(fromMetadata?.name, 'ProxyConfig.proxyMetadata.ISTIO_META_ENABLE_HBONE');
    assert.match(fromMetadata?.problem ?? '', /ENABLE_HBONE must be a boolean in a text, got "on"/);
  });

  test('a JSON variable that is no object is a warning', () => {
    for (const text of ['{', '[]', '1', 'null']) {
      const config = parsed(env({ ISTIO_METAJSON_X: text }));
      assert.match(config.warnings.join('\n'), /ISTIO_METAJSON_X/, text);
    }
  });

  test('the Istio version is the one of the metadata, the image, or the one we are compatible with', () => {
    const table: readonly (readonly [Readonly<Record<string, string>>, string])[] = [
      [{ ISTIO_META_ISTIO_VERSION: '1.30.1', ISTIO_BASE_VERSION: '1.31.0' }, '1.30.1'],
      [{ ISTIO_BASE_VERSION: '1.31.0' }, '1.31.0'],
      [{ ISTIO_META_ISTIO_VERSION: '' }, compatibleIstioVersion],
    ];
    for (const [environment, expected] of table) {
      assert.equal(metadataOf(parsed(env(environment)))['ISTIO_VERSION'], expected);
    }
  });

  test('labels are the static ones overlaid with those of the pod, without the template hash', () => {
    const config = parsed({
      environment: { ISTIO_METAJSON_LABELS: '{"app":"static","tier":"web"}' },
      files: { podLabels: downwardFile({ app: 'pod', 'pod-template-hash': 'abc', 'x/y': 'a"b' }) },
    });
    assert.deepEqual(metadataOf(config)['LABELS'], { app: 'pod', tier: 'web', 'x/y': 'a"b' });
    assert.deepEqual(metadataOf(config)['STATIC_LABELS'], { app: 'static', tier: 'web' });
    // The members of every JSON variable are keys too, this one's included.
    assert.equal(metadataOf(config)['tier'], 'web');
    const without = parsed(env({ ISTIO_METAJSON_LABELS: '{"app":"static"}' }));
    assert.deepEqual(metadataOf(without)['LABELS'], { app: 'static' });
  });

  test('a static label that is no text is empty, with a warning', () => {
    const text = '{"app":"web","n":1,"o":{"x":"y"},"a":["x"],"nothing":null}';
    const config = parsed(env({ ISTIO_METAJSON_LABELS: text }));
    const labels = { app: 'web', n: '', o: '', a: '', nothing: '' };
    assert.deepEqual(metadataOf(config)['STATIC_LABELS'], labels);
    assert.deepEqual(metadataOf(config)['LABELS'], labels);
    assert.match(config.warnings.join('\n'), /label n is not a text; it counts as empty/);
  });

  test('the locality label in its normal form is a static label too where the environment alone gives labels', () => {
    const environment = { ISTIO_METAJSON_LABELS: '{"topology.istio.io/locality":"r.z"}' };
    const alone = metadataOf(parsed({ environment }));
    const both = { 'topology.istio.io/locality': 'r.z', 'istio-locality': 'r/z' };
    assert.deepEqual([alone['LABELS'], alone['STATIC_LABELS']], [both, both]);
    const withFile = metadataOf(parsed({ environment, files: { podLabels: downwardFile({ app: 'web' }) } }));
    assert.deepEqual(withFile['LABELS'], { ...both, app: 'web' });
    assert.deepEqual(withFile['STATIC_LABELS'], { 'topology.istio.io/locality': 'r.z' });
  });

  test('static labels of another JSON variable are labels only beside a labels file', () => {
    const environment = { ISTIO_METAJSON_X: '{"STATIC_LABELS":{"a":"b"},"LABELS":{"c":"d"}}' };
    assert.deepEqual(metadataOf(parsed({ environment }))['LABELS'], { c: 'd' });
    const withFile = metadataOf(parsed({ environment, files: { podLabels: downwardFile({ app: 'web' }) } }));
    assert.deepEqual(withFile['LABELS'], { a: 'b', app: 'web' });
  });

  test('a labels or annotations file with a bad quote counts as absent, with a warning', () => {
    const config = parsed({
      files: { podLabels: fileOf('a="b"\nc=d\n'), podAnnotations: fileOf('no separator\n') },
    });
    assert.equal('LABELS' in metadataOf(config), false);
    assert.match(config.warnings.join('\n'), /pod labels file: line 2 \(key "c"\)/);
    assert.equal('ANNOTATIONS' in metadataOf(config), false);
  });

  test('annotations of the pod are passed on', () => {
    const annotations = { 'a.b/c': 'line 1\nline 2' };
    const config = parsed({ files: { podAnnotations: downwardFile(annotations) } });
    assert.deepEqual(metadataOf(config)['ANNOTATIONS'], annotations);
  });

  test('PILOT_SAN is the name istiod has, and only with TLS', () => {
    const table: readonly (readonly [Readonly<Record<string, unknown>>, unknown])[] = [
      [{ discoveryAddress: 'localhost:15012' }, ['istiod.istio-system.svc']],
      [{ discoveryAddress: 'istiod-1.x.svc:15012' }, ['istiod-1.x.svc']],
      [{ discoveryAddress: '[fd00::1]:15012' }, ['fd00::1']],
      [{ controlPlaneAuthPolicy: 'NONE' }, undefined],
    ];
    for (const [config, expected] of table) {
      assert.deepEqual(
        metadataOf(parsed(env({ PROXY_CONFIG: JSON.stringify(config) })))['PILOT_SAN'],
        expected,
      );
    }
  });

  test('other agent-owned keys appear when they are on', () => {
    const metadata = metadataOf(
      parsed({
        flags: { outlierLogPath: '/dev/stdout', stsPort: '15463' },
        environment: {
          EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true',
          ENVOY_SECURE_METRICS_PORT: '15091',
          ENVOY_SKIP_DEPRECATED_LOGS: 'false',
          DNS_PROXY_ADDR: 'localhost:15053',
          ISTIO_META_ENABLE_HBONE: 'true',
        },
      }),
    );
    assert.equal(metadata['OUTLIER_LOG_PATH'], '/dev/stdout');
    assert.equal(metadata['STS_PORT'], '15463');
    assert.equal(metadata['EXIT_ON_ZERO_ACTIVE_CONNECTIONS'], 'true');
    assert.equal(metadata['ENVOY_SECURE_METRICS_PORT'], 15_091);
    assert.equal('ENVOY_SKIP_DEPRECATED_LOGS' in metadata, false);
    assert.equal(metadata['DNS_PROXY_ADDR'], 'localhost:15053');
    assert.equal(metadata['METADATA_DISCOVERY'], 'true');
    const off = metadataOf(
      parsed(env({ ISTIO_META_ENABLE_HBONE: 'true', PEER_METADATA_DISCOVERY: 'false' })),
    );
    assert.equal(off['METADATA_DISCOVERY'], 'false');
  });

  test('credential sockets that are found later are added in order', () => {
    const metadata = withSocketFacts(
      { A: 1, z: 2 },
      { isCredentialSocketPresent: true, isFileCredentialServed: true },
    );
    assert.deepEqual(Object.entries(metadata), [
      ['A', 1],
      ['credential', 'true'],
      ['file-credential', 'true'],
      ['z', 2],
    ]);
  });

  test('the locality comes from a label, dots standing for slashes', () => {
    const table: readonly (readonly [Readonly<Record<string, string>>, Readonly<Record<string, string>>])[] =
      [
        [{}, {}],
        [{ 'istio-locality': 'r1.z1.s1' }, { region: 'r1', zone: 'z1', sub_zone: 's1' }],
        [{ 'istio-locality': 'r.1/z.1' }, { region: 'r.1', zone: 'z.1' }],
        [{ 'topology.istio.io/locality': 'r2', 'istio-locality': 'r1' }, { region: 'r2' }],
      ];
    for (const [labels, expected] of table) {
      const config = parsed({ files: { podLabels: downwardFile(labels) } });
      assert.deepEqual(config.envoy.bootstrap.node.locality, expected);
    }
    const config = parsed({ files: { podLabels: downwardFile({ 'topology.istio.io/locality': 'r.z' }) } });
    assert.deepEqual(metadataOf(config)['LABELS'], {
      'topology.istio.io/locality': 'r.z',
      'istio-locality': 'r/z',
    });
  });
});

describe('the service cluster', () => {
  const cluster = (
    labels: Readonly<Record<string, string>>,
    config: Readonly<Record<string, unknown>> = {},
    environment: Readonly<Record<string, string>> = {},
  ) =>
    parsed({
      environment: { PROXY_CONFIG: JSON.stringify(config), ...environment },
      files: { podLabels: downwardFile(labels) },
    }).envoy.bootstrap.node.cluster;
  const canonical = {
    'service.istio.io/canonical-name': 'canon',
    app: 'app',
    'app.kubernetes.io/name': 'kube',
  };

  test('follows the naming rules in order', () => {
    const table: readonly (readonly [string, string])[] = [
      [cluster(canonical), 'app.shop'],
      [cluster({ 'app.kubernetes.io/name': 'kube', 'service.istio.io/canonical-name': 'c' }), 'kube.shop'],
      [cluster({ 'service.istio.io/canonical-name': 'c' }), 'c.shop'],
      [cluster({}, {}, { ISTIO_META_WORKLOAD_NAME: 'web' }), 'web.shop'],
      [cluster({}), 'istio-proxy.shop'],
      [cluster({}, {}, { POD_NAMESPACE: '' }), 'istio-proxy'],
      [cluster(canonical, { serviceCluster: 'mine' }), 'mine'],
      [cluster(canonical, { tracingServiceName: 'CANONICAL_NAME_ONLY' }), 'canon'],
      [cluster(canonical, { tracingServiceName: 'CANONICAL_NAME_AND_NAMESPACE' }), 'canon.shop'],
      [cluster(canonical, { tracingServiceName: 'APP_LABEL_AND_NAMESPACE' }), 'app.shop'],
      [cluster({}, { tracingServiceName: 'CANONICAL_NAME_AND_NAMESPACE' }), 'istio-proxy.shop'],
    ];
    for (const [actual, expected] of table) assert.equal(actual, expected);
  });
});
