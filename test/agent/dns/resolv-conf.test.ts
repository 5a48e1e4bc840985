import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DnsPlan, planDns } from '../../../agent/dns/dns-settings.ts';
import { parseResolvConf } from '../../../agent/dns/resolv-conf.ts';

const texts: readonly (readonly [string, string, Partial<ReturnType<typeof parseResolvConf>>])[] = [
  [
    'one of Kubernetes',
    'search shop.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n',
    { nameservers: ['10.96.0.10'], searchDomains: ['shop.svc.cluster.local', 'svc.cluster.local'] },
  ],
  ['nothing', '', { nameservers: [], searchDomains: [] }],
  ['the last of domain and search', 'search a b\ndomain c\n', { searchDomains: ['c'] }],
  [
    'comments and white space',
    '  # nameserver 1.1.1.1\n;x\n\tnameserver\t::1  # v6\r\nnameserver\n',
    { nameservers: ['::1'] },
  ],
  [
    'both families, one twice',
    'nameserver 1.1.1.1\nnameserver fe80::1%eth0\nnameserver 1.1.1.1',
    { nameservers: ['1.1.1.1', 'fe80::1%eth0'] },
  ],
  [
    'names as nameservers',
    'nameserver dns.example\nnameserver 1.2.3',
    { nameservers: [], ignored: ['dns.example', '1.2.3'] },
  ],
];

for (const [name, text, expected] of texts) {
  test(`a resolv.conf with ${name} is read`, () => {
    assert.deepEqual(parseResolvConf(text), { nameservers: [], searchDomains: [], ignored: [], ...expected });
  });
}

test('a resolv.conf of thousands of lines gives short lists', () => {
  const lines = Array.from({ length: 5000 }, (_, index) => `nameserver 10.1.${index >> 8}.${index & 255}`);
  assert.equal(parseResolvConf(lines.join('\n')).nameservers.length, 16);
});

function plan(host: string, port: number, resolvConf: string): DnsPlan {
  const address = { host, port, isForwardedBeforeTable: false };
  return planDns(address, parseResolvConf(resolvConf), { ownAddresses: ['10.0.0.5'] });
}

const families: readonly (readonly [string, readonly string[]])[] = [
  ['nameserver 10.96.0.10', ['127.0.0.1']],
  ['nameserver fd00::10', ['::1']],
  ['nameserver fd00::10\nnameserver 10.96.0.10', ['127.0.0.1', '::1']],
  ['', ['127.0.0.1']],
];

for (const [resolvConf, expected] of families) {
  test(`localhost with ${JSON.stringify(resolvConf)} is ${expected.join(' and ')}`, () => {
    assert.deepEqual(
      plan('localhost', 15_053, resolvConf).listeners,
      expected.map((address) => ({ address, port: 15_053 })),
    );
  });
}

test('nameservers are asked on port 53, the first search domain is kept', () => {
  const { upstreams, searchDomain, warnings } = plan(
    'localhost',
    15_053,
    'nameserver 1.1.1.1\nnameserver 127.0.0.1\nsearch a b',
  );
  assert.deepEqual(upstreams, [
    { address: '1.1.1.1', port: 53 },
    { address: '127.0.0.1', port: 53 },
  ]);
  assert.deepEqual([searchDomain, warnings], ['a', []]);
});

const loops: readonly (readonly [string, string, readonly string[]])[] = [
  ['127.0.0.1', 'nameserver 127.0.0.1\nnameserver 127.0.0.53', ['127.0.0.53']],
  ['localhost', 'nameserver ::1\nnameserver 127.0.0.1\nnameserver 1.1.1.1', ['1.1.1.1']],
  ['0.0.0.0', 'nameserver 127.0.0.53\nnameserver 10.0.0.5\nnameserver 1.1.1.1', ['1.1.1.1']],
];

for (const [address, resolvConf, expected] of loops) {
  test(`a proxy on port 53 of ${address} does not ask itself`, () => {
    const { upstreams, warnings } = plan(address, 53, resolvConf);
    assert.deepEqual(
      upstreams.map((upstream) => upstream.address),
      expected,
    );
    assert.match(warnings[0] ?? '', /is the DNS proxy itself; it is not asked/);
  });
}

test('a resolv.conf that leads nowhere is told', () => {
  const { warnings } = plan('localhost', 15_053, 'nameserver dns.example');
  assert.match(warnings[0] ?? '', /"dns.example" of resolv\.conf is no IP address/);
  assert.match(warnings[1] ?? '', /no nameserver to ask/);
});
