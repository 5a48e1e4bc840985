import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { promisify } from 'node:util';
import packets from 'dns-packet';
import type { DnsAddress } from '../../../agent/config/dns-config.ts';
import { DnsError } from '../../../agent/dns/dns-error.ts';
import { openDnsProxy } from '../../../agent/dns/dns-part.ts';
import { DnsProxy, type DnsProxyOptions } from '../../../agent/dns/dns-proxy.ts';
import type { DnsEndpoint, DnsPlan } from '../../../agent/dns/dns-settings.ts';
import { DnsMetrics } from '../../../metrics/dns-metrics.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { dig, isDigThere } from '../../support/dns-lookup.ts';
import { freePorts } from '../../support/free-ports.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { RecordingLog } from '../status/status-fixture.ts';
import { EventQueue } from '../xds/event-queue.ts';
import { answerTo, askTcp, askUdp, encodeQuery, startUpstream, type UpstreamQuery } from './dns-peers.ts';
import { encodeNameTable, serviceHost } from './name-table-fixture.ts';

const table = encodeNameTable({
  ...Object.fromEntries([
    serviceHost('web', 'shop', '10.0.0.1', 'fd00::1'),
    serviceHost('big', 'shop', ...Array.from({ length: 60 }, (_, index) => `10.1.0.${index}`)),
  ]),
  '*.wild.example': { ips: ['10.0.0.9'], registry: 'External' },
  'www.outside.example': { ips: ['10.0.0.8'], registry: 'External' },
});

/** No socket of Node can send from port 0. */
const rawSocketSkipReason = (() => {
  const script = 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)';
  const isAllowed = spawnSync('python3', ['-c', script], { stdio: 'ignore' }).status === 0;
  return isAllowed ? false : 'this user may not open raw sockets, or there is no python3';
})();

type Endpoint = DnsProxy['endpoints'][number];

interface Started {
  readonly proxy: DnsProxy;
  readonly endpoint: Endpoint;
  readonly log: RecordingLog;
  readonly registry: MetricRegistry;
  /** Value of a series without the prefix, 0 when it is absent. */
  readonly sample: (series: string) => Promise<number>;
}

async function start(
  t: TestContext,
  plan: Partial<DnsPlan> = {},
  options: Partial<DnsProxyOptions> & { readonly isTableGiven?: boolean } = {},
): Promise<Started> {
  const log = new RecordingLog();
  const registry = new MetricRegistry();
  const proxy = new DnsProxy({
    plan: {
      listeners: [{ address: '127.0.0.1', port: 0 }],
      upstreams: [],
      searchDomain: 'shop.svc.cluster.local',
      isForwardedBeforeTable: false,
      warnings: [],
      ...plan,
    },
    proxyNamespace: 'shop',
    proxyDomain: 'shop.svc.cluster.local',
    forwardTimeoutMs: 5000,
    isForwardedInParallel: false,
    metrics: new DnsMetrics(registry),
    log,
    ...options,
  });
  await onFreePort(() => proxy.listen());
  t.after(async () => proxy.close());
  if (options.isTableGiven !== false) proxy.update(table);
  const [endpoint] = proxy.endpoints;
  assert.ok(endpoint);
  const sample = async (series: string): Promise<number> => {
    const line = (await registry.exposition())
      .split('\n')
      .find((text) => text.startsWith(`istio_agent_${series} `));
    return Number(line?.split(' ').at(-1) ?? 0);
  };
  return { proxy, endpoint, log, registry, sample };
}

/**
 * With port 0 the proxy is given a TCP port that is free, and takes the UDP port of the same number, which another
 * process may have: then it tries another.
 */
async function onFreePort<Value>(open: () => Promise<Value>): Promise<Value> {
  for (let triesLeft = 20; ; triesLeft -= 1) {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof DnsError) || error.code !== 'bind' || triesLeft === 0) throw error;
    }
  }
}

const data = (bytes: Buffer): readonly unknown[] =>
  (packets.decode(bytes).answers ?? []).map((record) => (record as { data?: unknown }).data);
const code = (bytes: Buffer): unknown => (packets.decode(bytes) as { rcode?: unknown }).rcode;

const local: readonly (readonly [string, 'A' | 'AAAA', readonly unknown[]])[] = [
  ['web.shop.svc.cluster.local', 'A', ['10.0.0.1']],
  ['web', 'AAAA', ['fd00::1']],
  ['WEB.Shop', 'A', ['10.0.0.1']],
  ['any.thing.wild.example', 'A', ['10.0.0.9']],
  ['any.thing.wild.example', 'AAAA', []],
  ['www.outside.example.shop.svc.cluster.local', 'A', ['www.outside.example', '10.0.0.8']],
];

test('names of the mesh are answered over both protocols without an upstream', async (t) => {
  const { endpoint, sample } = await start(t);
  for (const [name, type, expected] of local) {
    const query = encodeQuery(name, type);
    const overUdp = await askUdp(endpoint, query);
    assert.deepEqual(data(overUdp), expected, name);
    assert.equal(code(overUdp), 'NOERROR');
    const [overTcp] = await askTcp(endpoint, [query]);
    assert.ok(overTcp);
    assert.deepEqual(data(overTcp), expected, name);
  }
  assert.equal(await sample('dns_requests_total'), 2 * local.length);
  assert.equal(await sample('dns_upstream_requests_total'), 0);
});

test('addresses are shuffled, a CNAME stays in front', async (t) => {
  const numbers = [0.9, 0, 0.5];
  let turn = 0;
  const random = (): number => numbers[(turn += 1) % numbers.length] ?? 0;
  const { endpoint, proxy } = await start(t, {}, { random });
  proxy.update(encodeNameTable({ 'many.example': { ips: ['1.1.1.1', '2.2.2.2', '3.3.3.3'] } }));
  const orders = new Set<string>();
  for (let round = 0; round < 12; round += 1) {
    const [cname, ...addresses] = data(
      await askUdp(endpoint, encodeQuery('many.example.shop.svc.cluster.local')),
    );
    assert.equal(cname, 'many.example');
    assert.deepEqual(new Set(addresses), new Set(['1.1.1.1', '2.2.2.2', '3.3.3.3']));
    assert.equal(addresses.length, 3);
    orders.add(addresses.join(' '));
  }
  assert.ok(orders.size > 1, [...orders].join('; '));
});

test('a long answer is cut over UDP to what the client takes, and whole over TCP', async (t) => {
  const { endpoint } = await start(t);
  const plain = packets.decode(await askUdp(endpoint, encodeQuery('big.shop')));
  assert.equal(plain.flag_tc, true);
  assert.ok((plain.answers?.length ?? 0) < 60);
  const additionals: packets.Answer[] = [
    {
      type: 'OPT',
      name: '.',
      udpPayloadSize: 4096,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: 0,
      flag_do: false,
      options: [],
    },
  ];
  const roomy = packets.decode(await askUdp(endpoint, encodeQuery('big.shop', 'A', { additionals })));
  assert.deepEqual([roomy.flag_tc, roomy.answers?.length], [false, 60]);
  const [overTcp] = await askTcp(endpoint, [encodeQuery('big.shop')]);
  assert.ok(overTcp);
  assert.deepEqual([packets.decode(overTcp).flag_tc, data(overTcp).length], [false, 60]);
});

test('other names go to an upstream byte for byte, over the same protocol', async (t) => {
  const upstream = await startUpstream(t, (query) =>
    query.send(
      answerTo(query, [
        { type: 'A', name: 'other.example', data: query.protocol === 'udp' ? '1.1.1.1' : '2.2.2.2' },
      ]),
    ),
  );
  const { endpoint, sample } = await start(t, { upstreams: [upstream.endpoint] });
  const query = encodeQuery('OTHER.example');
  assert.deepEqual(data(await askUdp(endpoint, query)), ['1.1.1.1']);
  const [overTcp] = await askTcp(endpoint, [query]);
  assert.ok(overTcp);
  assert.deepEqual(data(overTcp), ['2.2.2.2']);
  assert.deepEqual(
    upstream.queries.map(({ protocol, bytes }) => [protocol, bytes.equals(query)]),
    [
      ['udp', true],
      ['tcp', true],
    ],
  );
  assert.equal(await sample('dns_upstream_requests_total'), 2);
  assert.equal(await sample('dns_upstream_request_duration_seconds_count'), 2);
  assert.equal(await sample('dns_upstream_failures_total'), 0);
});

for (const [name, query] of [
  ['another type of a known name', encodeQuery('web.shop', 'HTTPS')],
  [
    'another class of a known name',
    packets.encode({ type: 'query', id: 4711, questions: [{ type: 'A', name: 'web.shop', class: 'CH' }] }),
  ],
] as const) {
  test(`${name} is the upstream's to answer`, async (t) => {
    const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [], { flags: 3 })));
    const { endpoint } = await start(t, { upstreams: [upstream.endpoint] });
    // Any answer of an upstream is final, NXDOMAIN too.
    assert.equal(code(await askUdp(endpoint, query)), 'NXDOMAIN');
    assert.equal(upstream.queries.length, 1);
  });
}

test('records of types that nobody knows pass through', async (t) => {
  const bytes = Buffer.concat([
    Buffer.from('1267 8180 0001 0001 0000 0000'.replaceAll(' ', ''), 'hex'),
    packets.encode({ type: 'query', questions: [{ type: 'A', name: 'odd.example' }] }).subarray(12),
    Buffer.from('c00c ff01 0001 00000005 0003 abcdef'.replaceAll(' ', ''), 'hex'),
  ]);
  const upstream = await startUpstream(t, (query) => query.send(bytes));
  const { endpoint } = await start(t, { upstreams: [upstream.endpoint] });
  const query = packets.encode({
    type: 'query',
    id: 0x1267,
    questions: [{ type: 'A', name: 'odd.example' }],
  });
  assert.deepEqual(await askUdp(endpoint, query), bytes);
});

test('what is no answer to the query is not taken for one', async (t) => {
  const upstream = await startUpstream(t, (query) => {
    query.send(Buffer.from('garbage'));
    query.send(answerTo(query, [{ type: 'A', name: 'x.example', data: '6.6.6.6' }], { id: 1 }));
    query.send(
      answerTo(query, [{ type: 'A', name: 'x.example', data: '6.6.6.6' }], {
        questions: [{ type: 'A', name: 'y.example' }],
      }),
    );
    query.send(answerTo(query, [{ type: 'A', name: 'x.example', data: '1.1.1.1' }]));
  });
  const { endpoint } = await start(t, { upstreams: [upstream.endpoint] });
  assert.deepEqual(data(await askUdp(endpoint, encodeQuery('x.example'))), ['1.1.1.1']);
});

/** Asks a proxy with this upstream and one that answers, over UDP and TCP. */
async function assertPassedOver(t: TestContext, dead: DnsEndpoint): Promise<void> {
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [])));
  // No number of this kind changes the order.
  const { endpoint } = await start(t, { upstreams: [dead, upstream.endpoint] }, { random: () => 0.99 });
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'NOERROR');
  const [overTcp] = await askTcp(endpoint, [encodeQuery('x.example')]);
  assert.ok(overTcp);
  assert.equal(code(overTcp), 'NOERROR');
  assert.equal(upstream.queries.length, 2);
}

test('an upstream that is not there is passed over', async (t) => {
  // Nobody listens on the first port, and no process is given it by chance.
  await assertPassedOver(t, { address: '127.0.0.1', port: 1 });
});

test('an upstream to which there is no way is passed over', async (t) => {
  // The kernel refuses to connect to the broadcast address at once, as to an address without a route.
  await assertPassedOver(t, { address: '255.255.255.255', port: 53 });
});

test('when every upstream is out of reach the client gets SERVFAIL and the log says why', async (t) => {
  const unreachable = { address: '255.255.255.255', port: 53 };
  const { endpoint, log } = await start(t, { upstreams: [unreachable] });
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'SERVFAIL');
  assert.match(
    String(log.lines.find(({ message }) => message === 'upstream failure')?.fields['error']),
    /255\.255\.255\.255: .*EACCES/,
  );
});

test('when no upstream answers in time the client gets SERVFAIL', async (t) => {
  const upstream = await startUpstream(t, () => undefined);
  const { endpoint, sample, log } = await start(
    t,
    { upstreams: [upstream.endpoint] },
    { forwardTimeoutMs: 100 },
  );
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'SERVFAIL');
  const [overTcp] = await askTcp(endpoint, [encodeQuery('x.example')]);
  assert.ok(overTcp);
  assert.equal(code(overTcp), 'SERVFAIL');
  assert.equal(await sample('dns_upstream_failures_total'), 2);
  assert.match(
    String(log.lines.find(({ message }) => message === 'upstream failure')?.fields['error']),
    /no answer within 100 ms/,
  );
});

test('an upstream that breaks the connection, or says something else over it, is a failure', async (t) => {
  const upstream = await startUpstream(t, (query) => {
    if (upstream.queries.length === 1) query.destroy();
    else query.send(Buffer.from('something else'));
  });
  const { endpoint } = await start(t, { upstreams: [upstream.endpoint] });
  for (let round = 0; round < 2; round += 1) {
    const [answer] = await askTcp(endpoint, [encodeQuery('x.example')]);
    assert.ok(answer);
    assert.equal(code(answer), 'SERVFAIL');
  }
});

test('without a nameserver other names are SERVFAIL', async (t) => {
  const { endpoint } = await start(t);
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'SERVFAIL');
});

test('a nameserver that is down makes a line now and then, not one for each query', async (t) => {
  let nowMs = 50_000;
  t.mock.method(performance, 'now', () => nowMs);
  const { endpoint, log } = await start(t);
  const failures = () =>
    log.lines.filter(({ level, message }) => level === 'info' && message === 'upstream failure');
  for (let count = 0; count < 5; count += 1) await askUdp(endpoint, encodeQuery(`x${count}.example`));
  assert.equal(failures().length, 1);
  nowMs += 10_000;
  await askUdp(endpoint, encodeQuery('y.example'));
  assert.deepEqual(
    failures().map(({ fields }) => [fields['name'], fields['untoldCount']]),
    [
      ['x0.example.', undefined],
      ['y.example.', 4],
    ],
  );
});

test('in parallel mode all upstreams are asked and the first answer counts', async (t) => {
  const silent = await startUpstream(t, () => undefined);
  const both = new EventQueue<UpstreamQuery>();
  const quick = await startUpstream(t, (query) => both.push(query));
  const { endpoint } = await start(
    t,
    { upstreams: [silent.endpoint, quick.endpoint] },
    { isForwardedInParallel: true },
  );
  const answer = askUdp(endpoint, encodeQuery('x.example'));
  const query = await both.next();
  query.send(answerTo(query, [{ type: 'A', name: 'x.example', data: '1.1.1.1' }]));
  assert.deepEqual(data(await answer), ['1.1.1.1']);
  assert.equal(silent.queries.length, 1);
});

test('an upstream answer that is longer than the client takes is cut', async (t) => {
  const answers = Array.from(
    { length: 60 },
    (_, index): packets.Answer => ({ type: 'A', name: 'x.example', data: `10.0.0.${index}` }),
  );
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, answers)));
  const { endpoint } = await start(t, { upstreams: [upstream.endpoint] });
  const bytes = await askUdp(endpoint, encodeQuery('x.example'));
  assert.ok(bytes.length <= 512);
  assert.equal(packets.decode(bytes).flag_tc, true);
});

test('before the first table nothing is answered, and the pod is not ready', async (t) => {
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [])));
  const { endpoint, proxy } = await start(t, { upstreams: [upstream.endpoint] }, { isTableGiven: false });
  assert.equal(
    await proxy.readinessCheck.check(),
    'istio DNS capture is turned ON and DNS lookup table is not ready yet',
  );
  assert.equal(proxy.nameTable(), undefined);
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'SERVFAIL');
  assert.equal(upstream.queries.length, 0);
  proxy.update(undefined);
  assert.equal(await proxy.readinessCheck.check(), undefined);
  assert.deepEqual(proxy.nameTable(), {});
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'NOERROR');
});

test('on port 53 of a machine names are forwarded before the first table', async (t) => {
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [])));
  const { endpoint } = await start(
    t,
    { upstreams: [upstream.endpoint], isForwardedBeforeTable: true },
    { isTableGiven: false },
  );
  assert.equal(code(await askUdp(endpoint, encodeQuery('web.shop'))), 'NOERROR');
  assert.equal(upstream.queries.length, 1);
});

test('a push replaces the whole table, and a bad one leaves it', async (t) => {
  const { endpoint, proxy } = await start(t);
  proxy.update(encodeNameTable({ 'new.example': { ips: ['1.1.1.1'] } }));
  assert.deepEqual(data(await askUdp(endpoint, encodeQuery('new.example'))), ['1.1.1.1']);
  assert.equal(code(await askUdp(endpoint, encodeQuery('web.shop'))), 'SERVFAIL');
  assert.throws(() => proxy.update(Buffer.from('0a05', 'hex')), { name: 'WireFormatError' });
  assert.deepEqual(data(await askUdp(endpoint, encodeQuery('new.example'))), ['1.1.1.1']);
});

test('the debug page is the table as protobuf JSON, with the made names', async (t) => {
  const { proxy } = await start(t);
  proxy.update(
    encodeNameTable(
      Object.fromEntries([
        serviceHost('web', 'shop', '10.0.0.1'),
        ['x.example', { ips: ['::1'], registry: 'External', alt_hosts: ['y'] }],
      ]),
    ),
  );
  const made = { ips: ['10.0.0.1'], registry: 'Kubernetes' };
  assert.deepEqual(proxy.nameTable(), {
    table: new Map<string, unknown>([
      ['web.shop.svc.cluster.local', { ...made, shortname: 'web', namespace: 'shop' }],
      ['x.example', { ips: ['::1'], registry: 'External', altHosts: ['y'] }],
      ['web.shop.svc.cluster.local.', made],
      ['web.shop.', made],
      ['web.shop.svc.', made],
      ['web.', made],
      ['x.example.', { ips: ['::1'], registry: 'External' }],
    ]),
  });
});

test('a query of the agent that the traffic rules send back to it fails at once', async (t) => {
  const upstreams: DnsEndpoint[] = [];
  const { endpoint, log, sample } = await start(t, { upstreams });
  // The nameserver is the proxy's own address, which is what the rules make of any nameserver.
  upstreams.push(endpoint);
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'SERVFAIL');
  const [overTcp] = await askTcp(endpoint, [encodeQuery('y.example')]);
  assert.ok(overTcp);
  assert.equal(code(overTcp), 'SERVFAIL');
  assert.equal(await sample('dns_requests_total'), 4);
  const told = log.messages('error').filter((message) => message.includes('1337'));
  assert.equal(told.length, 1);
});

test('queries beyond the bound fail at once instead of waiting', async (t) => {
  const seen = new EventQueue<UpstreamQuery>();
  const upstream = await startUpstream(t, (query) => seen.push(query));
  const { endpoint, log } = await start(t, { upstreams: [upstream.endpoint] });
  const client = createSocket('udp4');
  t.after(() => client.close());
  client.connect(endpoint.port, endpoint.address);
  await once(client, 'connect');
  const refused = new Set<number>();
  const answered = new EventQueue<Buffer>();
  client.on('message', (message) => answered.push(message));
  // In rounds, so that no datagram is lost in a full buffer.
  for (let id = 1; id <= 1000; id += 1) {
    client.send(packets.encode({ type: 'query', id, questions: [{ type: 'A', name: 'x.example' }] }));
    await seen.next();
  }
  client.send(packets.encode({ type: 'query', id: 2000, questions: [{ type: 'A', name: 'x.example' }] }));
  const answer = packets.decode(await answered.next());
  refused.add(answer.id ?? 0);
  assert.deepEqual([...refused], [2000]);
  assert.equal((answer as { rcode?: unknown }).rcode, 'SERVFAIL');
  assert.equal(log.messages('error').length, 1);
});

test('garbage is survived on both protocols', async (t) => {
  const { endpoint } = await start(t);
  const client = createSocket('udp4');
  t.after(() => client.close());
  for (const bytes of ['', 'x', 'a longer text that is no query at all']) {
    client.send(bytes, endpoint.port, endpoint.address);
  }
  const socket = connect(endpoint.port, endpoint.address);
  socket.on('error', () => undefined);
  socket.write(Buffer.from([255, 255]));
  socket.write('the begin of a message that never ends');
  await once(socket, 'ready');
  socket.destroy();
  const [refusal, answer] = await askTcp(endpoint, [
    Buffer.concat([encodeQuery('web.shop').subarray(0, 12), Buffer.from([255])]),
    encodeQuery('web.shop'),
  ]);
  assert.ok(refusal && answer);
  assert.equal(code(refusal), 'FORMERR');
  assert.deepEqual(data(answer), ['10.0.0.1']);
  assert.deepEqual(data(await askUdp(endpoint, encodeQuery('web.shop'))), ['10.0.0.1']);
});

test('a datagram from port 0 is no query', { skip: rawSocketSkipReason }, async (t) => {
  const { endpoint } = await start(t);
  const script = [
    'import socket, struct, sys',
    'query = bytes.fromhex(sys.argv[2])',
    'raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)',
    'head = struct.pack("!HHHH", 0, int(sys.argv[1]), 8 + len(query), 0)',
    'raw.sendto(head + query, ("127.0.0.1", 0))',
  ].join('\n');
  const query = encodeQuery('web');
  await promisify(execFile)('python3', ['-c', script, String(endpoint.port), query.toString('hex')]);
  assert.deepEqual(data(await askUdp(endpoint, query)), ['10.0.0.1']);
});

test('many queries on one connection are all answered, although the client has said its last', async (t) => {
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [])));
  const { endpoint } = await start(t, { upstreams: [upstream.endpoint] });
  const queries = Array.from({ length: 200 }, (_, id) =>
    packets.encode({
      type: 'query',
      id,
      questions: [{ type: 'A', name: id % 10 === 0 ? 'x.example' : 'web.shop' }],
    }),
  );
  const answers = await askTcp(endpoint, queries);
  assert.deepEqual(
    answers.map((answer) => answer.readUInt16BE(0)).toSorted((left, right) => left - right),
    queries.map((_, id) => id),
  );
});

test('closing ends queries that wait and leaves no socket', async (t) => {
  const seen = new EventQueue<UpstreamQuery>();
  const upstream = await startUpstream(t, (query) => seen.push(query));
  const [port = 0] = await freePorts(1);
  const listeners = [{ address: '127.0.0.1', port }];
  const { endpoint, proxy } = await start(t, { listeners, upstreams: [upstream.endpoint] });
  const socket = connect(endpoint.port, endpoint.address);
  socket.on('error', () => undefined);
  const closed = once(socket, 'close');
  socket.write(Buffer.concat([Buffer.from([0, encodeQuery('x.example').length]), encodeQuery('x.example')]));
  await seen.next();
  await proxy.close();
  await closed;
  const again = createSocket('udp4');
  again.bind(endpoint.port, endpoint.address);
  await once(again, 'listening');
  again.close();
});

const hasIpv6 = Object.values(networkInterfaces()).some((list) =>
  list?.some(({ address }) => address === '::1'),
);

test('it listens on IPv6 too', { skip: hasIpv6 ? false : 'this machine has no ::1' }, async (t) => {
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [])), '::1');
  const { proxy } = await start(t, {
    listeners: [
      { address: '127.0.0.1', port: 0 },
      { address: '::1', port: 0 },
    ],
    upstreams: [upstream.endpoint],
  });
  const endpoint = proxy.endpoints[1];
  assert.ok(endpoint);
  assert.deepEqual(data(await askUdp(endpoint, encodeQuery('web.shop', 'AAAA'))), ['fd00::1']);
  assert.equal(code(await askUdp(endpoint, encodeQuery('x.example'))), 'NOERROR');
  const [overTcp] = await askTcp(endpoint, [encodeQuery('x.example')]);
  assert.ok(overTcp);
  assert.equal(code(overTcp), 'NOERROR');
});

async function isTcpPortFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}

test('a port that is taken is an error that says what to do, and nothing stays open', async (t) => {
  // The proxy takes the TCP port of the same number first, and no client is given that meanwhile.
  const [port = 0] = await freePorts(1);
  const taken = createSocket('udp4');
  taken.bind(port, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const listeners = [{ address: '127.0.0.1', port }];
  await assert.rejects(start(t, { listeners }), {
    name: 'DnsError',
    code: 'bind',
    message: /cannot listen on 127\.0\.0\.1 port \d+ \(udp\): .*EADDRINUSE.*set DNS_PROXY_ADDR/s,
  });
  // The TCP port had been opened before.
  assert.equal(await isTcpPortFree(port), true);
});

interface Opened {
  readonly root: string;
  readonly open: (address?: Partial<DnsAddress>) => ReturnType<typeof openDnsProxy>;
}

async function prepare(t: TestContext, files: Readonly<Record<string, string>>): Promise<Opened> {
  const root = await temporaryFolder(t);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(root, path, '..'), { recursive: true });
    await writeFile(join(root, path), text);
  }
  const open = async (address: Partial<DnsAddress> = {}) =>
    onFreePort(() =>
      openDnsProxy({
        config: {
          address: {
            host: 'localhost',
            port: 0,
            isForwardedBeforeTable: false,
            resolvConfPaths: ['/etc/resolv.conf'],
            ...address,
          },
          forwardTimeoutMs: 5_000,
          isForwardedInParallel: false,
          proxyNamespace: 'shop',
        },
        proxyDomain: 'shop.svc.cluster.local',
        instanceIps: [],
        root,
        metrics: new DnsMetrics(new MetricRegistry()),
        log: new RecordingLog(),
      }),
    );
  return { root, open };
}

test('of two files the first that exists is read', async (t) => {
  const resolvConfPaths = ['/var/lib/istio/resolv.conf', '/etc/resolv.conf'];
  const files = { 'etc/resolv.conf': 'nameserver 127.0.0.1\n' };
  for (const [more, expected] of [
    [{}, '127.0.0.1'],
    [{ 'var/lib/istio/resolv.conf': 'nameserver ::1\n' }, '::1'],
  ] as const) {
    const { open } = await prepare(t, { ...files, ...more });
    const proxy = await open({ resolvConfPaths });
    const addresses = proxy.endpoints.map(({ address }) => address);
    await proxy.close();
    assert.deepEqual(addresses, [expected]);
  }
});

test('the proxy opens from resolv.conf', async (t) => {
  const { open } = await prepare(t, {
    'etc/resolv.conf': 'nameserver 127.0.0.1\nsearch shop.svc.cluster.local\n',
  });
  const proxy = await open();
  t.after(async () => proxy.close());
  proxy.update(table);
  const [endpoint] = proxy.endpoints;
  assert.ok(endpoint);
  assert.deepEqual(data(await askUdp(endpoint, encodeQuery('www.outside.example.shop.svc.cluster.local'))), [
    'www.outside.example',
    '10.0.0.8',
  ]);
});

const refusals: readonly (readonly [
  string,
  Readonly<Record<string, string>>,
  Partial<DnsAddress>,
  RegExp,
])[] = [
  ['no resolv.conf', {}, {}, /cannot read \/etc\/resolv\.conf: ENOENT/],
  ['a huge resolv.conf', { 'etc/resolv.conf': '#'.repeat(70_000) }, {}, /over 65536 bytes/],
  [
    'neither of two files',
    {},
    { resolvConfPaths: ['/var/lib/istio/resolv.conf', '/etc/resolv.conf'] },
    /cannot read \/etc\/resolv\.conf: ENOENT/,
  ],
  [
    'a host that nobody knows',
    { 'etc/resolv.conf': '' },
    { host: 'no host' },
    /"no host" of DNS_PROXY_ADDR cannot be looked up/,
  ],
];

for (const [name, files, address, message] of refusals) {
  test(`the proxy does not open with ${name}`, async (t) => {
    const { open } = await prepare(t, files);
    await assert.rejects(open(address), { name: 'DnsError', code: 'settings', message });
  });
}

test('dig understands every answer', {
  skip: isDigThere ? false : 'dig is not installed (Debian: bind9-dnsutils)',
}, async (t) => {
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [], { flags: 3 })));
  const { endpoint } = await start(t, { upstreams: [upstream.endpoint] });
  const short = (...args: readonly string[]) => dig(endpoint, '+short', ...args);
  assert.equal(await short('web.shop.svc.cluster.local'), '10.0.0.1\n');
  assert.equal(await short('web.shop', 'AAAA', '+tcp'), 'fd00::1\n');
  assert.equal(await short('www.outside.example.shop.svc.cluster.local'), 'www.outside.example.\n10.0.0.8\n');
  const whole = await dig(endpoint, 'a.wild.example');
  assert.match(whole, /status: NOERROR/);
  assert.match(whole, /flags: qr aa rd ra;/);
  assert.match(whole, /^a\.wild\.example\.\s+30\s+IN\s+A\s+10\.0\.0\.9$/m);
  assert.match(whole, /EDNS: version: 0, flags:; udp: 1232/);
  assert.doesNotMatch(whole, /Warning|malformed|extra bytes/i);
  // Cut over UDP, then whole over TCP: dig asks again by itself.
  const long = await dig(endpoint, 'big.shop', '+noedns');
  assert.match(long, /Truncated, retrying in TCP mode/);
  assert.match(long, /ANSWER: 60/);
  assert.match(await dig(endpoint, 'big.shop', '+noedns', '+ignore'), /flags: qr aa tc rd ra;/);
  assert.match(await dig(endpoint, 'unknown.example'), /status: NXDOMAIN/);
  assert.match(await dig(endpoint, 'web.shop', '+opcode=notify'), /status: NOTIMP/);
  assert.match(await dig(endpoint, 'web.shop', '+edns=1', '+noednsneg'), /status: BADVERS/);
});
