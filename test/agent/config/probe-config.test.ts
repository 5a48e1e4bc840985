import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatConfigError } from '../../../agent/config/config-report.ts';
import { errorsOf, type InputChanges, parsed, proxyConfigOf } from './agent-inputs-fixture.ts';

const probers = JSON.stringify({ '/app-health/web/readyz': { httpGet: { path: '/ready', port: 8080 } } });
const env = (environment: Readonly<Record<string, string>>): InputChanges => ({ environment });
const readiness = (readinessProbe: object, more: Readonly<Record<string, string>> = {}): InputChanges =>
  env({ PROXY_CONFIG: JSON.stringify({ readinessProbe }), ...more });

describe('application probes', () => {
  test('are none where injection has rewritten none', () => {
    assert.equal(parsed().appProbes, undefined);
    assert.equal(parsed(env({ ISTIO_KUBE_APP_PROBERS: '{}' })).appProbes, undefined);
  });

  test('go to the address of the pod over a connection of their own, and offer HTTP/2', () => {
    const config = parsed(env({ ISTIO_KUBE_APP_PROBERS: probers })).appProbes;
    assert.deepEqual([...(config?.probes.keys() ?? [])], ['/app-health/web/readyz']);
    const { destinationHost, isHttp2Offered, isConnectionKept } = config ?? {};
    assert.deepEqual(
      { destinationHost, isHttp2Offered, isConnectionKept },
      {
        destinationHost: '10.0.0.5',
        isHttp2Offered: true,
        isConnectionKept: false,
      },
    );
  });

  test('follow their switches', () => {
    const config = parsed(
      env({
        ISTIO_KUBE_APP_PROBERS: probers,
        REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION: 'true',
        ISTIO_ENABLE_HTTP2_PROBING: 'false',
        ENABLE_PROBE_KEEPALIVE_CONNECTIONS: 'true',
      }),
    ).appProbes;
    assert.equal(config?.destinationHost, 'localhost');
    assert.equal(config?.isHttp2Offered, false);
    assert.equal(config?.isConnectionKept, true);
  });
});

describe('the readiness probe of a workload', () => {
  test('is none unless ProxyConfig has one', () => {
    assert.equal(parsed().workloadHealth, undefined);
  });

  test('is read from ProxyConfig, which istiod is told whole', () => {
    const probe = { periodSeconds: 2, httpGet: { path: '/ready', port: 8080 } };
    const config = parsed(readiness(probe));
    assert.equal(config.workloadHealth?.isLocalhostProbed, false);
    assert.equal(config.workloadHealth?.probe.periodMs, 2000);
    assert.deepEqual(config.workloadHealth?.probe.method, {
      kind: 'http',
      host: undefined,
      port: 8080,
      isTls: false,
      path: '/ready',
      headers: [],
    });
    assert.deepEqual(proxyConfigOf(config)['readinessProbe'], probe);
  });

  test('asks the local host where probes of old did', () => {
    const config = parsed(
      readiness({ tcpSocket: { port: 1 } }, { REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION: 'true' }),
    );
    assert.equal(config.workloadHealth?.isLocalhostProbed, true);
  });
});

test('the trust bundle of the mesh is asked for when told so', () => {
  assert.equal(parsed().isTrustBundleSubscribed, false);
  assert.equal(parsed(env({ PROXY_CONFIG_XDS_AGENT: 'true' })).isTrustBundleSubscribed, true);
});

test('every fault of DNS and probes is told at once, with what to do', () => {
  const errors = errorsOf({
    environment: {
      ISTIO_META_DNS_CAPTURE: 'true',
      DNS_PROXY_ADDR: 'nowhere',
      ISTIO_KUBE_APP_PROBERS: JSON.stringify({
        '/app-health/web/readyz': { httpGet: { port: 'http' } },
        '/other': { tcpSocket: { port: 1 } },
      }),
      PROXY_CONFIG: JSON.stringify({ readinessProbe: { periodSeconds: -1, tcpSocket: {} } }),
    },
  });
  assert.deepEqual(
    errors.map(({ name }) => name),
    [
      'DNS_PROXY_ADDR',
      'ISTIO_KUBE_APP_PROBERS["/app-health/web/readyz"]',
      'ISTIO_KUBE_APP_PROBERS["/other"]',
      'ProxyConfig.readinessProbe.periodSeconds',
      'ProxyConfig.readinessProbe.tcpSocket.port',
    ],
  );
  for (const error of errors) assert.match(formatConfigError(error), /; .*(?:set|correct) /);
});
