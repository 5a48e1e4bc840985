import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatConfigError } from '../../../agent/config/config-report.ts';
import { isAddressPending } from '../../../agent/config/instance-addresses.ts';
import { parseAgentConfig } from '../../../agent/config/parse-agent-config.ts';
import {
  agentInputs,
  downwardFile,
  errorsOf,
  fileOf,
  type InputChanges,
  parsed,
} from './agent-inputs-fixture.ts';

const env = (environment: Readonly<Record<string, string>>): InputChanges => ({ environment });
const proxyConfig = (config: unknown): InputChanges => env({ PROXY_CONFIG: JSON.stringify(config) });
const nic = (address: string, interfaceName = 'eth0', isInternal = false) => ({
  address,
  interfaceName,
  isInternal,
});

describe('parsing all inputs', () => {
  test('reports the errors of every source in one go', () => {
    const names = errorsOf({
      type: 'gateway',
      flags: { concurrency: 'x' },
      logFlags: { outputLevel: 'default:loud', asJson: false },
      environment: {
        PROXY_CONFIG: '{"statusPort": 0}',
        ISTIO_META_DNS_CAPTURE: 'yes',
        PILOT_CERT_PROVIDER: 'none',
        ISTIO_PROMETHEUS_ANNOTATIONS: '',
        WORKLOAD_IDENTITY_SOCKET_FILE: 'a/b',
        ENVOY_STATUS_PORT: '99999',
        'XDS_HEADER_bad name': 'x',
      },
    }).map(({ name }) => name);
    assert.deepEqual(names.toSorted(), [
      '--concurrency',
      '--log_output_level',
      'ENVOY_STATUS_PORT',
      'ISTIO_META_DNS_CAPTURE',
      'ISTIO_PROMETHEUS_ANNOTATIONS',
      'PILOT_CERT_PROVIDER',
      'ProxyConfig.statusPort',
      'WORKLOAD_IDENTITY_SOCKET_FILE',
      'XDS_HEADER_bad name',
      'proxy type',
    ]);
  });

  test('prints no secret, neither in errors nor in warnings', () => {
    const secrets = {
      DOCKER_AUTH_CONFIG: 'hunter2-docker',
      HTTP_PROXY: 'http://user:hunter2-proxy@p:1',
      HTTPS_PROXY: 'http://user:hunter2-proxy@p:1',
      'XDS_HEADER_bad name': 'hunter2-header',
      PROXY_CONFIG: '{"tracing": {"lightstep": {"address": "x:1", "accessToken": "hunter2-token"}}}',
    };
    const errors = errorsOf(env(secrets));
    assert.ok(errors.length > 0);
    assert.doesNotMatch(errors.map(formatConfigError).join('\n'), /hunter2/);
    const { PROXY_CONFIG: _, 'XDS_HEADER_bad name': __, ...valid } = secrets;
    const config = parsed(env(valid));
    assert.doesNotMatch(config.warnings.join('\n'), /hunter2/);
    assert.doesNotMatch(JSON.stringify(config.effectiveProxyConfig), /hunter2/);
  });

  test('does not change its inputs', () => {
    const inputs = agentInputs({ files: { podLabels: downwardFile({ 'istio-locality': 'a.b' }) } });
    const before = JSON.stringify(inputs);
    parseAgentConfig(inputs);
    assert.equal(JSON.stringify(inputs), before);
  });

  test('knows the three roles, and says what the others are', () => {
    assert.equal(parsed({ type: undefined }).role, 'sidecar');
    assert.equal(parsed({ type: 'router' }).role, 'router');
    assert.equal(parsed({ type: 'waypoint' }).role, 'waypoint');
    for (const type of ['ztunnel', 'agentgateway']) {
      assert.match(errorsOf({ type })[0]?.problem ?? '', new RegExp(`^${type} runs without Envoy`));
    }
    assert.equal(errorsOf({ type: 'gateway' })[0]?.problem, 'invalid proxy Type: gateway');
  });

  test('builds the node id from role, first address, pod and domain', () => {
    assert.equal(parsed().nodeId, 'sidecar~10.0.0.5~web-0.shop~shop.svc.cluster.local');
    assert.equal(
      parsed({ type: 'router', flags: { domain: 'shop.svc.example' } }).nodeId,
      'router~10.0.0.5~web-0.shop~shop.svc.example',
    );
  });

  test('parses log levels over the built-in ones', () => {
    const levels = (outputLevel: string) =>
      Object.fromEntries(parsed({ logFlags: { outputLevel, asJson: false } }).log.levels);
    assert.deepEqual(levels(''), { default: 'info', grpc: 'none' });
    assert.deepEqual(levels('debug'), { default: 'debug', grpc: 'none' });
    assert.deepEqual(levels('wasm:debug,grpc:info,all:warn'), {
      default: 'info',
      grpc: 'info',
      wasm: 'debug',
      all: 'warn',
    });
    assert.equal(parsed({ logFlags: { outputLevel: '', asJson: true } }).log.format, 'json');
    for (const outputLevel of ['trace', 'a:b:c', 'wasm:', ',']) {
      assert.ok(errorsOf({ logFlags: { outputLevel, asJson: false } }).length > 0, outputLevel);
    }
  });

  test('warns about settings without effect', () => {
    const table: readonly (readonly [InputChanges, RegExp])[] = [
      [
        env({ ISTIO_BOOTSTRAP: '/custom/template.json' }),
        /bootstrap template "\/custom\/template.json" is not read/,
      ],
      [{ flags: { templateFile: '/t.yaml' } }, /bootstrap template/],
      [proxyConfig({ proxyBootstrapTemplatePath: '/x' }), /bootstrap template/],
      [{ flags: { tokenManagerPlugin: 'x' } }, /--tokenManagerPlugin/],
      [env({ XDS_AUTH_PROVIDER: 'gcp' }), /XDS_AUTH_PROVIDER/],
      [env({ FERRY_IGNORED_VARIABLES: 'NODE_OPTIONS NODE_DEBUG' }), /^ignored: NODE_OPTIONS, NODE_DEBUG; /],
    ];
    for (const [changes, pattern] of table) assert.match(parsed(changes).warnings.join('\n'), pattern);
    const stock = proxyConfig({
      proxyBootstrapTemplatePath: './var/lib/istio/envoy/envoy_bootstrap_tmpl.json',
    });
    assert.deepEqual(parsed({ ...stock, root: '/run/agent' }).warnings, []);
  });
});

describe('addresses of the node', () => {
  const addresses = (changes: InputChanges) => {
    const { all, arguments: words } = (({ instanceIps, envoy }) => ({
      all: instanceIps,
      arguments: envoy.arguments,
    }))(parsed(changes));
    return { all, version: words[words.indexOf('--local-address-ip-version') + 1] };
  };

  test('are INSTANCE_IP, then those of the interfaces but loopback, link-local and unspecified ones', () => {
    const { all, version } = addresses({
      interfaces: [
        nic('127.0.0.1', 'lo', true),
        nic('10.0.0.5'),
        nic('192.168.1.1'),
        nic('169.254.1.1'),
        nic('fe80::1'),
        nic('fd00::2'),
        nic('::ffff:172.16.0.9', 'eth1'),
        nic('0.0.0.0', 'eth2'),
      ],
    });
    assert.deepEqual(all, ['10.0.0.5', '192.168.1.1', 'fd00::2', '172.16.0.9']);
    assert.equal(version, 'v4');
  });

  test('fall back to the local host of both families', () => {
    assert.deepEqual(addresses(env({ INSTANCE_IP: 'not an ip' })).all, ['127.0.0.1', '::1']);
  });

  test('leave out excluded interfaces and other spellings of the same address', () => {
    const { all } = addresses({
      environment: { INSTANCE_IP: 'FD00:0::0005' },
      interfaces: [nic('fd00::5'), nic('fd00::6', 'net1'), nic('fd00::7', 'net2')],
      files: { podAnnotations: downwardFile({ 'traffic.sidecar.istio.io/excludeInterfaces': 'net1,other' }) },
    });
    assert.deepEqual(all, ['fd00::5', 'fd00::7']);
  });

  test('make an IPv6 proxy only when all are IPv6', () => {
    const config = parsed({ environment: { INSTANCE_IP: 'fd00::5' }, interfaces: [nic('fd00::5')] });
    assert.equal(config.envoy.localHost, '::1');
    assert.deepEqual(config.envoy.bootstrap.addresses, {
      localHost: '::1',
      wildcard: '::',
      dnsLookupFamily: 'V6_ONLY',
      additional: undefined,
    });
    assert.ok(config.envoy.arguments.includes('v6'));
    const mixed = { environment: { INSTANCE_IP: 'fd00::5' }, interfaces: [nic('10.0.0.5')] };
    assert.equal(parsed(mixed).envoy.localHost, '127.0.0.1');
  });

  test('bind both families with dual stack, the first address leading', () => {
    const dual = (first: string, second: string) =>
      parsed({ environment: { INSTANCE_IP: first, ISTIO_DUAL_STACK: 'true' }, interfaces: [nic(second)] })
        .envoy.bootstrap.addresses;
    assert.deepEqual(dual('fd00::5', '10.0.0.5'), {
      localHost: '::1',
      wildcard: '::',
      dnsLookupFamily: 'ALL',
      additional: { localHost: '127.0.0.1', wildcard: '0.0.0.0' },
    });
    assert.equal(dual('10.0.0.5', 'fd00::5').wildcard, '0.0.0.0');
    assert.equal(dual('10.0.0.5', 'fd00::5').additional?.wildcard, '::');
  });

  test('are looked for again while an interface has none yet', () => {
    assert.equal(isAddressPending([nic('0.0.0.0')]), true);
    assert.equal(isAddressPending([nic('10.0.0.1'), nic('::', 'lo', true)]), false);
  });
});

describe('the connection to istiod', () => {
  const xds = (changes: InputChanges) => parsed(changes).xds;

  test('has stock paths under the root and private defaults', () => {
    assert.deepEqual(
      xds({ root: '/run/agent', ...env({ ISTIO_META_CLUSTER_ID: 'Kubernetes', XDS_HEADER_X_Key: 'a=b' }) }),
      {
        socketPath: '/run/agent/etc/istio/proxy/XDS',
        socketMode: 0o600,
        socketGroupId: undefined,
        discoveryAddress: 'istiod.istio-system.svc:15012',
        tls: {
          serverName: 'istiod.istio-system.svc',
          root: { kind: 'file', path: '/run/agent/var/run/secrets/istio/root-cert.pem' },
          clientCertificate: undefined,
          compliance: undefined,
        },
        tokenPath: '/run/agent/var/run/secrets/tokens/istio-token',
        clusterId: 'Kubernetes',
        headers: { x_key: 'a=b' },
        maxRequestBytes: 4_194_304,
        maxConcurrentStreams: 100_000,
        keepaliveIntervalMs: 30_000,
        keepaliveTimeoutMs: 10_000,
      },
    );
  });

  test('opens the socket to the group of Envoy where Envoy is another user', () => {
    const other = parsed({ userId: 0, ...env({ DNS_PROXY_ADDR: '127.0.0.1:53' }) });
    assert.equal(other.xds.socketMode, 0o660);
    assert.equal(other.xds.socketGroupId, 1337);
    assert.deepEqual(other.envoy.runAs, { userId: 1337, groupId: 1337 });
    assert.equal(parsed(env({ DNS_PROXY_ADDR: '127.0.0.1:53' })).envoy.runAs, undefined);
    assert.equal(parsed({ userId: 0 }).xds.socketMode, 0o600);
    assert.equal(xds(env({ XDS_SOCKET_MODE: '666' })).socketMode, 0o666);
  });

  test('is plaintext with controlPlaneAuthPolicy NONE', () => {
    assert.equal(xds(proxyConfig({ controlPlaneAuthPolicy: 'NONE' })).tls, undefined);
  });

  test('expects a name by discovery address or ISTIOD_SAN', () => {
    const serverName = (discoveryAddress: string, san = '') =>
      xds(env({ PROXY_CONFIG: JSON.stringify({ discoveryAddress }), ISTIOD_SAN: san })).tls?.serverName;
    assert.equal(serverName('istiod.x.svc:15012'), 'istiod.x.svc');
    assert.equal(serverName('localhost:15012'), 'istiod.istio-system.svc');
    assert.equal(serverName('[fd00::1]:15012'), 'fd00::1');
    assert.equal(serverName('10.0.0.1:15012', 'istiod.y.svc'), 'istiod.y.svc');
  });

  test('chooses the root file, first match first', () => {
    const everything = {
      XDS_ROOT_CA: '/xds.pem',
      PROV_CERT: '/prov',
      PROXY_CONFIG: '{"proxyMetadata": {"ISTIO_META_TLS_CLIENT_ROOT_CERT": "mounted.pem"}}',
    };
    const { XDS_ROOT_CA: _, ...withoutExplicit } = everything;
    const { PROV_CERT: __, ...withoutProvisioned } = withoutExplicit;
    const present = { areWorkloadCertificatesPresent: true };
    const table: readonly (readonly [InputChanges, string])[] = [
      [{ ...env(everything), files: present }, '/xds.pem'],
      [
        { ...env(withoutExplicit), files: { ...present, isLegacyRootPresent: true } },
        '/etc/certs/root-cert.pem',
      ],
      [{ ...env(withoutExplicit), files: present }, '/prov/root-cert.pem'],
      [{ ...env(withoutProvisioned), files: present }, '/mounted.pem'],
      [env({ ...withoutProvisioned, FILE_MOUNTED_CERTS: 'true' }), '/mounted.pem'],
      [env({ ...withoutProvisioned, CA_PROVIDER: 'GkeWorkloadCertificate' }), '/mounted.pem'],
      [env({ PILOT_CERT_PROVIDER: 'k8s.io/x' }), '/var/run/secrets/istio/root-cert.pem'],
    ];
    for (const [changes, path] of table) assert.deepEqual(xds(changes).tls?.root, { kind: 'file', path });
    assert.deepEqual(xds(env({ XDS_ROOT_CA: 'SYSTEM' })).tls?.root, { kind: 'system' });
    assert.equal(errorsOf(env({ FILE_MOUNTED_CERTS: 'true' })).length, 1);
    assert.equal(errorsOf(env({ PILOT_CERT_PROVIDER: 'none' })).length, 1);
  });

  test('has a client certificate where one is provisioned or mounted', () => {
    assert.deepEqual(xds(env({ PROV_CERT: 'certs' })).tls?.clientCertificate, {
      keyPath: '/certs/key.pem',
      certificatePath: '/certs/cert-chain.pem',
    });
    const proxyMetadata = {
      ISTIO_META_TLS_CLIENT_ROOT_CERT: '/r.pem',
      ISTIO_META_TLS_CLIENT_KEY: '/k.pem',
      ISTIO_META_TLS_CLIENT_CERT_CHAIN: '/c.pem',
    };
    const mounted = env({ FILE_MOUNTED_CERTS: 'true', PROXY_CONFIG: JSON.stringify({ proxyMetadata }) });
    assert.deepEqual(xds(mounted).tls?.clientCertificate, { keyPath: '/k.pem', certificatePath: '/c.pem' });
    assert.equal(xds(proxyConfig({ proxyMetadata })).tls?.clientCertificate, undefined);
  });

  test('replaces limits that would stop everything', () => {
    const config = parsed(env({ ISTIO_GPRC_MAXSTREAMS: '0', GRPC_KEEPALIVE_TIMEOUT: '-1s' }));
    assert.equal(config.xds.maxConcurrentStreams, 100_000);
    assert.equal(config.xds.keepaliveTimeoutMs, 10_000);
    assert.equal(config.warnings.length, 2);
  });
});

describe('certificate settings', () => {
  test('come from the environment, with paths under the root', () => {
    const { identity } = parsed({
      root: '/run/agent',
      ...env({
        CA_ADDR: 'localhost:15012',
        SERVICE_ACCOUNT: 'web',
        TRUST_DOMAIN: 'mesh.example',
        ECC_SIGNATURE_ALGORITHM: 'ECDSA',
        SECRET_TTL: '1h',
        SECRET_GRACE_PERIOD_RATIO: '0.25',
        OUTPUT_CERTS: 'out',
        KUBERNETES_SERVICE_HOST: '10.0.0.1',
      }),
    });
    assert.equal(identity.csr.spiffeId, 'spiffe://mesh.example/ns/shop/sa/web');
    assert.deepEqual(identity.csr.key, { kind: 'ecdsa', curve: 'P-256' });
    assert.equal(identity.ca.address, 'localhost:15012');
    assert.equal(identity.certificateTtlMs, 3_600_000);
    assert.deepEqual(identity.rotation, { graceRatio: 0.25, graceRatioJitter: 0.01 });
    assert.deepEqual(identity.output, { folder: '/run/agent/out', fileMode: 0o644 });
    assert.equal(identity.isFileMounted, false);
  });

  test('their errors are reported with all the others', () => {
    const errors = errorsOf(
      env({
        CREDENTIAL_FETCHER_TYPE: 'GoogleComputeEngine',
        ENVOY_STATUS_PORT: '0',
        WORKLOAD_RSA_KEY_SIZE: '1024',
      }),
    );
    assert.deepEqual(errors.map(({ name }) => name).sort(), [
      'CREDENTIAL_FETCHER_TYPE',
      'ENVOY_STATUS_PORT',
      'WORKLOAD_RSA_KEY_SIZE',
    ]);
  });
});

describe('Wasm settings', () => {
  const wasm = (environment: Readonly<Record<string, string>>) => parsed(env(environment)).wasm;

  test('have the stock defaults', () => {
    assert.deepEqual(wasm({}), {
      isConversionEnabled: true,
      dataFolder: '/var/lib/istio/data',
      policyFile: undefined,
      insecureRegistries: [],
      moduleExpiryMs: 86_400_000,
      purgeIntervalMs: 3_600_000,
      httpRequestTimeoutMs: 15_000,
      httpMaxAttemptCount: 5,
      maxModuleBytes: 268_435_456,
      blockedCidrs: [],
      registryCredentials: { configPaths: [], inlineConfig: undefined },
      outboundProxy: { http: undefined, https: undefined, noProxy: '' },
    });
  });

  test('the policy file is a path from the root, and none when it is empty', () => {
    assert.equal(wasm({ WASM_POLICY_FILE: 'etc/ferry/policy.yaml' }).policyFile, '/etc/ferry/policy.yaml');
    assert.equal(wasm({ WASM_POLICY_FILE: '' }).policyFile, undefined);
  });

  test('a policy file that could have no effect is an error', () => {
    const [error, ...others] = errorsOf(
      env({
        WASM_POLICY_FILE: '/etc/ferry/policy.yaml',
        ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION: 'false',
      }),
    );
    assert.ok(error);
    assert.match(
      formatConfigError(error),
      /^WASM_POLICY_FILE: has no effect while .* is false.*; set that to true/,
    );
    assert.deepEqual(others, []);
  });

  test('zero is a default, and attempts are at least one', () => {
    const config = wasm({
      WASM_MODULE_EXPIRY: '0',
      WASM_PURGE_INTERVAL: '0s',
      WASM_HTTP_REQUEST_TIMEOUT: '0',
      WASM_HTTP_REQUEST_MAX_RETRIES: '0',
      ISTIO_WASM_MAX_BINARY_SIZE_BYTES: '-1',
    });
    assert.equal(config.moduleExpiryMs, 86_400_000);
    assert.equal(config.purgeIntervalMs, 3_600_000);
    assert.equal(config.httpRequestTimeoutMs, 5000);
    assert.equal(config.httpMaxAttemptCount, 1);
    assert.equal(config.maxModuleBytes, 268_435_456);
  });

  test('hosts are compared as written, bad ranges are warned about', () => {
    const config = parsed(
      env({
        WASM_INSECURE_REGISTRIES: 'localhost:5000, other',
        BLOCKED_CIDRS_IN_WASM_FETCH: ' 10.0.0.0/8 ,fd00::/8,10.0.0.0/33,10.1.1.1,,x/8,1.2.3.4/5/6',
      }),
    );
    assert.deepEqual(config.wasm.insecureRegistries, ['localhost:5000', ' other']);
    assert.deepEqual(config.wasm.blockedCidrs, ['10.0.0.0/8', 'fd00::/8']);
    assert.equal(config.warnings.length, 4);
    assert.match(parsed(env({ WASM_INSECURE_REGISTRIES: '*' })).warnings.join(''), /every registry/);
  });

  test('looks for registry credentials in the stock order', () => {
    assert.deepEqual(
      wasm({
        DOCKER_CONFIG: 'docker',
        HOME: '/home/x',
        REGISTRY_AUTH_FILE: '/auth.json',
        XDG_RUNTIME_DIR: '/run/user/1',
        DOCKER_AUTH_CONFIG: '{"auths":{}}',
      }).registryCredentials,
      {
        configPaths: ['/docker/config.json', '/auth.json', '/run/user/1/containers/auth.json'],
        inlineConfig: '{"auths":{}}',
      },
    );
    assert.deepEqual(wasm({ HOME: '/home/x' }).registryCredentials.configPaths, [
      '/home/x/.docker/config.json',
    ]);
  });

  test('reads proxies in both spellings, capitals first', () => {
    assert.deepEqual(
      wasm({ HTTP_PROXY: 'http://a', http_proxy: 'http://b', https_proxy: 'http://c', no_proxy: '.x' })
        .outboundProxy,
      { http: 'http://a', https: 'http://c', noProxy: '.x' },
    );
  });
});

describe('metrics of the application', () => {
  const targets = (annotations: unknown, type = 'sidecar') =>
    parsed({
      type,
      environment: {
        ISTIO_PROMETHEUS_ANNOTATIONS:
          typeof annotations === 'string' ? annotations : JSON.stringify(annotations),
      },
    }).status.applicationTargets;

  test('come from the single port and path, or from the targets', () => {
    const table: readonly (readonly [unknown, unknown])[] = [
      [{ scrape: 'true', path: '/m', port: '8080' }, [{ port: 8080, path: '/m' }]],
      [{}, [{ port: 80, path: '/metrics' }]],
      [{ scrape: 'false', port: '8080' }, []],
      [{ scrape: 'no', port: '8080' }, [{ port: 8080, path: '/metrics' }]],
      [{ path: 'm' }, [{ port: 80, path: '/m' }]],
      [
        {
          port: '1',
          path: '/ignored',
          targets: [
            { port: '08080', path: '' },
            { port: '9100', path: '/x' },
          ],
        },
        [
          { port: 8080, path: '/metrics' },
          { port: 9100, path: '/x' },
        ],
      ],
    ];
    for (const [annotations, expected] of table) assert.deepEqual(targets(annotations), expected);
    assert.deepEqual(targets('not JSON', 'router'), []);
    assert.deepEqual(parsed().status.applicationTargets, []);
  });

  test('are refused on ports that are none or not the application’s', () => {
    const table: readonly (readonly [unknown, RegExp])[] = [
      ['', /failed to unmarshal ISTIO_PROMETHEUS_ANNOTATIONS/],
      ['[]', /failed to unmarshal/],
      [{ port: '15020' }, /application port is the same as agent port/],
      [{ targets: [{ port: '015020' }] }, /target port 15020 is the same as agent port/],
      [{ port: '15090' }, /target port 15090 is reserved for Istio \(Envoy Prometheus \(already merged\)\)/],
      [{ targets: [{ port: '15000' }] }, /reserved for Istio \(Envoy admin\)/],
      [{ port: 'http' }, /invalid target port "http"/],
      [{ port: '0' }, /invalid target port 0|invalid target port "0"/],
      [{ targets: [{ port: 8080 }] }, /invalid target port 8080/],
      [{ targets: ['8080'] }, /invalid target port ""/],
    ];
    for (const [annotations, pattern] of table) {
      const text = typeof annotations === 'string' ? annotations : JSON.stringify(annotations);
      const errors = errorsOf(env({ ISTIO_PROMETHEUS_ANNOTATIONS: text }));
      assert.match(errors[0]?.problem ?? '', pattern, text);
    }
  });

  test('settings of the status server are passed on', () => {
    const { status } = parsed(
      env({
        METRICS_LOCALHOST_ACCESS_ONLY: 'true',
        PILOT_AGENT_MERGE_ENVOY_STATS: 'false',
        ENVOY_PROMETHEUS_PORT: '1',
      }),
    );
    assert.deepEqual(status, {
      port: 15_020,
      envoyPrometheusPort: 1,
      isEnvoyStatsMerged: false,
      isMetricsLocalOnly: true,
      isProfilingOn: true,
      applicationTargets: [],
    });
  });
});

describe('the command line of Envoy', () => {
  const words = (changes: InputChanges) => parsed(changes).envoy.arguments.join(' ');

  test('is the stock one, in its order', () => {
    assert.equal(
      words({
        flags: { proxyLogLevel: 'warning', proxyComponentLogLevel: 'misc:error' },
        root: '/run/agent',
      }),
      '-c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 ' +
        '--file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning ' +
        '--component-log-level misc:error --skip-deprecated-logs --concurrency 4',
    );
  });

  test('carries every optional part in place', () => {
    const line = words({
      flags: { proxyLogLevel: 'info,misc:error,upstream:debug', proxyComponentLogLevel: 'ignored:info' },
      environment: {
        PROXY_CONFIG: JSON.stringify({
          configPath: '/etc/x/',
          drainDuration: '10s',
          fileFlushInterval: '0.5s',
          fileFlushMinSizeKb: 32,
        }),
        ENVOY_SKIP_DEPRECATED_LOGS: 'false',
        ISTIO_ENVOY_ENABLE_CORE_DUMP: 'true',
        ISTIO_BOOTSTRAP_OVERRIDE: '/o.yaml',
        HOST_IP: 'fd00::9',
      },
      files: { bootstrapOverride: fileOf('a: "$(HOST_IP):1"\nb: "[$(HOST_IP)]:2"\n') },
    });
    assert.equal(
      line,
      '-c /etc/x/envoy-rev.json --drain-time-s 10 --drain-strategy immediate --local-address-ip-version v4 ' +
        '--file-flush-interval-msec 500 --disable-hot-restart --allow-unknown-static-fields --file-flush-min-size-kb 32 ' +
        '-l info --component-log-level misc:error,upstream:debug --enable-core-dump ' +
        '--config-yaml {"a":"[fd00::9]:1","b":"[fd00::9]:2"} --concurrency 4',
    );
  });

  test('uses a custom config file as it is', () => {
    const { envoy } = parsed(proxyConfig({ customConfigFile: '/my/envoy.yaml' }));
    assert.equal(envoy.customConfigPath, '/my/envoy.yaml');
    assert.deepEqual(envoy.arguments.slice(0, 2), ['-c', '/my/envoy.yaml']);
  });

  test('goes without an override that cannot be read, with a warning', () => {
    const table: readonly (readonly [InputChanges['files'], RegExp])[] = [
      [{}, /there is no such file/],
      [{ bootstrapOverride: { kind: 'unreadable', reason: 'cannot be read (EACCES)' } }, /EACCES/],
      [{ bootstrapOverride: fileOf('{') }, /neither YAML nor JSON/],
    ];
    for (const [files, pattern] of table) {
      const config = parsed({ ...env({ ISTIO_BOOTSTRAP_OVERRIDE: '/o.yaml' }), ...(files ? { files } : {}) });
      assert.equal(config.envoy.arguments.includes('--config-yaml'), false);
      assert.match(config.warnings.join('\n'), pattern);
    }
  });

  test('a policy of compliance limits every connection of the agent; an unknown one is an error', () => {
    for (const policy of ['fips-140-2', 'fips-140-3', 'pqc'] as const) {
      const { compliance, xds, identity } = parsed(env({ COMPLIANCE_POLICY: policy }));
      assert.deepEqual(
        [compliance, xds.tls?.compliance, identity.ca.tls?.compliance],
        [policy, policy, policy],
      );
    }
    const [error, ...others] = errorsOf(env({ COMPLIANCE_POLICY: 'FIPS' }));
    assert.equal(error?.name, 'COMPLIANCE_POLICY');
    assert.match(error?.problem ?? '', /"FIPS" is not a policy/);
    assert.deepEqual(others, []);
  });

  test('limits ciphers with a FIPS policy', () => {
    assert.match(
      parsed(env({ COMPLIANCE_POLICY: 'fips-140-3' })).envoy.extraEnvironment['GRPC_SSL_CIPHER_SUITES'] ?? '',
      /^ECDHE-ECDSA/,
    );
    assert.deepEqual(parsed().envoy.extraEnvironment, {});
  });

  test('the drain settings follow role, ProxyConfig and environment', () => {
    const { envoy } = parsed({
      type: 'router',
      environment: {
        PROXY_CONFIG: '{"terminationDrainDuration": "250ms"}',
        MINIMUM_DRAIN_DURATION: '3s',
        EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true',
        ENVOY_SECURE_METRICS_PORT: '15091',
        GRPC_XDS_BOOTSTRAP: '',
      },
    });
    assert.equal(envoy.isInboundDrainOnly, false);
    assert.equal(parsed().envoy.isInboundDrainOnly, true);
    assert.equal(envoy.terminationDrainMs, 250);
    assert.equal(envoy.minimumDrainMs, 3000);
    assert.equal(envoy.exitOnZeroActiveConnections, true);
    assert.deepEqual(envoy.ownListenerPorts, [15_021, 15_090, 15_091]);
    assert.equal(envoy.grpcBootstrap, undefined);
    assert.deepEqual(parsed().envoy.grpcBootstrap, {
      path: '/etc/istio/proxy/grpc-bootstrap.json',
      socketPath: '/etc/istio/proxy/XDS',
      certificateFolder: undefined,
    });
    assert.equal(parsed(env({ DISABLE_ENVOY: 'true' })).envoy.isEnabled, false);
  });
});
