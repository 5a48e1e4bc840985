import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatConfigError } from '../../../agent/config/config-report.ts';
import type { DnsConfig } from '../../../agent/config/dns-config.ts';
import { errorsOf, type InputChanges, parsed } from './agent-inputs-fixture.ts';

const usual = {
  host: 'localhost',
  port: 15_053,
  isForwardedBeforeTable: false,
  resolvConfPaths: ['/etc/resolv.conf'],
};

function inputs(
  environment: Readonly<Record<string, string>>,
  options: { readonly type?: string; readonly userId?: number } = {},
): InputChanges {
  return { ...options, environment: { ISTIO_META_DNS_CAPTURE: 'true', ...environment } };
}

function dnsOf(...given: Parameters<typeof inputs>): DnsConfig {
  const { dns } = parsed(inputs(...given));
  assert.ok(dns);
  return dns;
}

describe('the DNS proxy', () => {
  test('is off by default, and on for a sidecar with capture or whoever enables the server', () => {
    assert.equal(parsed().dns, undefined);
    assert.equal(parsed(inputs({}, { type: 'router' })).dns, undefined);
    assert.equal(parsed(inputs({}, { type: 'waypoint' })).dns, undefined);
    assert.deepEqual(dnsOf({}), {
      address: usual,
      forwardTimeoutMs: 5000,
      isForwardedInParallel: false,
      proxyNamespace: 'shop',
    });
    for (const type of ['sidecar', 'router', 'waypoint']) {
      const environment = { ISTIO_META_ENABLE_DNS_SERVER: '1' };
      assert.deepEqual(parsed({ type, environment }).dns?.address, usual);
    }
  });

  test('takes its time and whom it asks from the environment', () => {
    const config = dnsOf({ DNS_FORWARD_TIMEOUT: '250ms', DNS_FORWARD_PARALLEL: 'true' });
    assert.equal(config.forwardTimeoutMs, 250);
    assert.equal(config.isForwardedInParallel, true);
    for (const text of ['0', '-1s'])
      assert.equal(dnsOf({ DNS_FORWARD_TIMEOUT: text }).forwardTimeoutMs, 5000);
    assert.deepEqual(dnsOf({ DNS_RESOLV_CONF: '/run/resolv' }).address.resolvConfPaths, ['/run/resolv']);
  });

  const machinePaths = ['/var/lib/istio/resolv.conf', '/etc/resolv.conf'];
  const addresses: readonly (readonly [string, number, Partial<DnsConfig['address']>])[] = [
    ['', 1337, {}],
    ['localhost:5300', 0, { port: 5300 }],
    ['[::1]:5300', 1337, { host: '::1', port: 5300 }],
    // No host is all addresses, as in Go.
    [':5300', 1337, { host: '::', port: 5300 }],
    [
      '127.0.0.1:53',
      0,
      { host: '127.0.0.1', port: 53, isForwardedBeforeTable: true, resolvConfPaths: machinePaths },
    ],
  ];
  for (const [text, userId, expected] of addresses) {
    test(`listens where DNS_PROXY_ADDR "${text}" says (user ${userId})`, () => {
      assert.deepEqual(dnsOf({ DNS_PROXY_ADDR: text }, { userId }).address, { ...usual, ...expected });
    });
  }

  test('leaves port 53 to root, with a warning', () => {
    const { dns, warnings } = parsed(inputs({ DNS_PROXY_ADDR: ':53' }, { userId: 1337 }));
    assert.deepEqual(dns?.address, usual);
    assert.match(
      warnings.join('\n'),
      /DNS_PROXY_ADDR :53: only root may listen on port 53, using localhost:15053/,
    );
  });

  for (const text of ['localhost', 'localhost:0', 'localhost:99999', '::1:5300']) {
    test(`has no address ${text}`, () => {
      assert.deepEqual(errorsOf(inputs({ DNS_PROXY_ADDR: text })).map(formatConfigError), [
        `DNS_PROXY_ADDR: ${JSON.stringify(text)} is not host:port; set a port from 1 to 65535`,
      ]);
      // Where there is no proxy nobody minds.
      assert.equal(parsed({ environment: { DNS_PROXY_ADDR: text } }).dns, undefined);
    });
  }

  test('reads no resolv.conf whose place depends on the working directory', () => {
    assert.deepEqual(errorsOf(inputs({ DNS_RESOLV_CONF: 'resolv.conf' })).map(formatConfigError), [
      'DNS_RESOLV_CONF: "resolv.conf" is not an absolute path; set a path from /',
    ]);
  });
});
