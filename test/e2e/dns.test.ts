import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { describe, type TestContext, test } from 'node:test';
import packets from 'dns-packet';
import { answerTo, startUpstream } from '../agent/dns/dns-peers.ts';
import { encodeNameTable, type HostFixture, serviceHost } from '../agent/dns/name-table-fixture.ts';
import type { Resource } from '../support/control-plane/discovery-messages.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { type DnsLookup, type DnsQuestion, isDigThere, lookUpAt } from '../support/dns-lookup.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import { poll } from '../support/polling.ts';
import { type Mode, modes, skipReason } from './gateway.ts';
import { Pod } from './pod.ts';

const hosts: Readonly<Record<string, HostFixture>> = {
  ...Object.fromEntries([
    serviceHost('web', 'shop', '10.0.0.1', 'fd00::1'),
    serviceHost('api', 'default', '10.0.0.2'),
    serviceHost('big', 'shop', ...Array.from({ length: 60 }, (_, index) => `10.1.0.${index}`)),
  ]),
  '*.wild.example': { ips: ['240.240.0.9'], registry: 'External' },
  'www.outside.example': { ips: ['10.0.0.8'], registry: 'External' },
};

/** istiod sends the table as one resource without a name. */
const nameTable = (table: Readonly<Record<string, HostFixture>>): Resource => ({
  name: '',
  typeUrl: typeUrls.nds,
  value: encodeNameTable(table),
});

/** A loopback address that nothing else listens on: the nameservers of resolv.conf have no port but 53. */
const nameserver = '127.53.0.1';
/** The response code NXDOMAIN. */
const nonexistent = 3;
const hasIpv6 = Object.values(networkInterfaces()).some((list) =>
  list?.some(({ address }) => address === '::1'),
);

interface DnsPod {
  readonly pod: Pod;
  readonly port: number;
  readonly ask: (question: DnsQuestion, address?: string) => Promise<DnsLookup>;
}

async function startDnsPod(
  t: TestContext,
  mode: Mode,
  options: { readonly env?: Readonly<Record<string, string>>; readonly isTableHeld?: boolean } = {},
): Promise<DnsPod> {
  t.diagnostic(isDigThere ? 'asked with dig' : 'dig is not installed: asked with a client of the tests');
  const [port = 0] = await freePorts(1);
  const pod = await Pod.start(t, {
    mode,
    resources: [nameTable(hosts)],
    prepare: async ({ workspace, controlPlane }) => {
      const resolvConf = await workspace.write(
        'etc/resolv.conf',
        `search default.svc.cluster.local svc.cluster.local\nnameserver ${nameserver}\n`,
      );
      if (options.isTableHeld === true) controlPlane.mute('nds');
      return {
        env: {
          ISTIO_META_DNS_CAPTURE: 'true',
          DNS_PROXY_ADDR: `:${port}`,
          DNS_RESOLV_CONF: resolvConf,
          ...options.env,
        },
      };
    },
  });
  const ask = (question: DnsQuestion, address = '127.0.0.1') => lookUpAt({ address, port }, question);
  return { pod, port, ask };
}

for (const mode of modes) {
  describe(`DNS over ${mode}`, { skip: skipReason }, () => {
    test('a name of the mesh is answered over both protocols and both address families', async (t) => {
      const { pod, ask } = await startDnsPod(t, mode);
      await pod.agent.waitUntilReady();
      await pod.controlPlane.waitForAck('nds');
      const addresses = hasIpv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1'];
      if (!hasIpv6) t.diagnostic('this machine has no ::1: IPv6 was not asked over');
      for (const address of addresses) {
        for (const protocol of ['udp', 'tcp'] as const) {
          const at = (question: DnsQuestion) => ask({ ...question, protocol }, address);
          const { status, flags, answers } = await at({ name: 'web.shop.svc.cluster.local' });
          assert.deepEqual([status, answers], ['NOERROR', ['web.shop.svc.cluster.local A 10.0.0.1']]);
          assert.ok(flags.includes('aa') && flags.includes('ra'), flags.join());
          assert.deepEqual((await at({ name: 'web.shop', type: 'AAAA' })).answers, ['web.shop AAAA fd00::1']);
        }
      }
    });

    test('short names, the search domain, wildcards and long answers are as the stock agent has them', async (t) => {
      const { pod, ask } = await startDnsPod(t, mode);
      await pod.agent.waitUntilReady();
      const answersOf = async (name: string) => (await ask({ name })).answers;
      assert.deepEqual(await answersOf('api'), ['api A 10.0.0.2']);
      assert.deepEqual(await answersOf('WEB.Shop.svc'), ['WEB.Shop.svc A 10.0.0.1']);
      assert.deepEqual(await answersOf('www.outside.example.default.svc.cluster.local'), [
        'www.outside.example.default.svc.cluster.local CNAME www.outside.example',
        'www.outside.example A 10.0.0.8',
      ]);
      assert.deepEqual(await answersOf('a.b.wild.example'), ['a.b.wild.example A 240.240.0.9']);
      // Known, but without an address of this family: no error, so that clients take the other one.
      assert.deepEqual(await ask({ name: 'api', type: 'AAAA' }), {
        status: 'NOERROR',
        flags: ['qr', 'aa', 'rd', 'ra'],
        answers: [],
      });
      const cut = await ask({ name: 'big.shop', isPlain: true });
      assert.ok(cut.flags.includes('tc'), cut.flags.join());
      assert.ok(cut.answers.length < 60);
      assert.equal((await ask({ name: 'big.shop', protocol: 'tcp' })).answers.length, 60);
    });

    test('the pod is not ready before the first table, and says so', async (t) => {
      const { pod, ask } = await startDnsPod(t, mode, { isTableHeld: true });
      const { agent, controlPlane } = pod;
      const reason = 'istio DNS capture is turned ON and DNS lookup table is not ready yet';
      await poll(
        async () => {
          const { status } = await httpGet(`${agent.statusUrl}/healthz/ready`);
          assert.equal(status, 503);
          return agent.logLines.some((line) => line.includes(reason))
            ? { done: true, value: undefined }
            : { done: false, seen: agent.logTail(1) };
        },
        { what: 'A probe that failed for DNS alone', deadlineMs: 20_000 },
      );
      const early = await httpGet(`${agent.statusUrl}/debug/ndsz`);
      assert.deepEqual([early.status, early.text], [404, '{}']);
      assert.equal((await ask({ name: 'web.shop' })).status, 'SERVFAIL');
      controlPlane.unmute();
      await agent.waitUntilReady();
      assert.deepEqual((await ask({ name: 'web.shop' })).answers, ['web.shop A 10.0.0.1']);
      const page = await httpGet(`${agent.statusUrl}/debug/ndsz`);
      assert.equal(page.status, 200);
      const { table } = JSON.parse(page.text) as { table: Record<string, { ips: string[] }> };
      assert.deepEqual(table['web.shop.svc.cluster.local']?.ips, ['10.0.0.1', 'fd00::1']);
    });

    test('each push replaces the table; one that cannot be read is refused and changes nothing', async (t) => {
      const { pod, ask } = await startDnsPod(t, mode);
      const { agent, controlPlane } = pod;
      await agent.waitUntilReady();
      const serve = (resource: Resource) => controlPlane.applyWorld(controlPlane.world.with(resource));
      const next = serve(nameTable(Object.fromEntries([serviceHost('web', 'shop', '10.9.9.9')])));
      await controlPlane.waitForAck('nds', { version: next.version });
      assert.deepEqual((await ask({ name: 'web.shop' })).answers, ['web.shop A 10.9.9.9']);
      assert.deepEqual((await ask({ name: 'api' })).answers, []);
      const broken = serve({ name: '', typeUrl: typeUrls.nds, value: Buffer.from('0a05', 'hex') });
      const nack = await controlPlane.waitForNack('nds', { version: broken.version });
      assert.match(nack.message, /\S/);
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'nds'), 1);
      assert.deepEqual((await ask({ name: 'web.shop' })).answers, ['web.shop A 10.9.9.9']);
    });

    test('names are answered while istiod is away, and the table is asked for when it is back', async (t) => {
      const { pod, ask } = await startDnsPod(t, mode);
      const { agent, controlPlane } = pod;
      await agent.waitUntilReady();
      await controlPlane.stop();
      assert.deepEqual((await ask({ name: 'web.shop' })).answers, ['web.shop A 10.0.0.1']);
      controlPlane.applyWorld(
        controlPlane.world.with(nameTable(Object.fromEntries([serviceHost('web', 'shop', '10.9.9.9')]))),
      );
      await controlPlane.start();
      await controlPlane.waitForAck('nds', { version: controlPlane.version, timeoutMs: 30_000 });
      assert.deepEqual((await ask({ name: 'web.shop' })).answers, ['web.shop A 10.9.9.9']);
    });
  });
}

describe('DNS outside of the mesh', { skip: skipReason }, () => {
  test('is asked of the nameserver of resolv.conf, over the same protocol, and counted', async (t) => {
    const refused = { flags: packets.RECURSION_AVAILABLE | nonexistent };
    let upstream: Awaited<ReturnType<typeof startUpstream>>;
    try {
      upstream = await startUpstream(
        t,
        (query) => {
          const [question] = query.packet.questions ?? [];
          const isKnown = question?.name === 'elsewhere.example';
          const answers = [{ type: 'A' as const, name: 'elsewhere.example', ttl: 5, data: '192.0.2.7' }];
          query.send(isKnown ? answerTo(query, answers) : answerTo(query, [], refused));
        },
        nameserver,
        53,
      );
    } catch (error) {
      t.skip(`port 53 of ${nameserver} cannot be had: ${String(error)}`);
      return;
    }
    const { pod, ask } = await startDnsPod(t, 'delta');
    await pod.agent.waitUntilReady();
    for (const protocol of ['udp', 'tcp'] as const) {
      const { answers } = await ask({ name: 'elsewhere.example', protocol });
      assert.deepEqual(answers, ['elsewhere.example A 192.0.2.7']);
      assert.equal(upstream.queries.at(-1)?.protocol, protocol);
    }
    assert.equal((await ask({ name: 'unknown.example' })).status, 'NXDOMAIN');
    // Only addresses are in the table: other types of a known name are asked for elsewhere.
    assert.equal((await ask({ name: 'web.shop.svc.cluster.local', type: 'TXT' })).status, 'NXDOMAIN');
    await ask({ name: 'web.shop' });
    const metrics = await pod.agent.metrics();
    assert.match(metrics, /^istio_agent_dns_requests_total 5$/m);
    assert.match(metrics, /^istio_agent_dns_upstream_requests_total 4$/m);
    assert.match(metrics, /^istio_agent_dns_upstream_request_duration_seconds_count 4$/m);
    assert.doesNotMatch(metrics, /^istio_agent_dns_upstream_failures_total/m);
  });

  test('is a server failure where the nameserver is dead, and counted', async (t) => {
    const { pod, ask } = await startDnsPod(t, 'delta', { env: { DNS_FORWARD_TIMEOUT: '250ms' } });
    await pod.agent.waitUntilReady();
    for (const protocol of ['udp', 'tcp'] as const) {
      assert.equal((await ask({ name: 'elsewhere.example', protocol })).status, 'SERVFAIL');
    }
    assert.match(await pod.agent.metrics(), /^istio_agent_dns_upstream_failures_total 2$/m);
  });

  test('a sidecar that does not capture DNS opens no DNS port and asks istiod for no table', async (t) => {
    const { pod, port } = await startDnsPod(t, 'delta', { env: { ISTIO_META_DNS_CAPTURE: 'false' } });
    await pod.agent.waitUntilReady();
    await assert.rejects(once(connect(port, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' });
    const types = pod.controlPlane.journal.entries.flatMap((entry) =>
      entry.kind === 'request' ? [entry.request.typeUrl] : [],
    );
    assert.ok(types.includes(typeUrls.lds) && !types.includes(typeUrls.nds), types.join());
  });

  test('a DNS port that is taken ends the agent with the reason', async (t) => {
    const taken = createServer().listen(0, '::');
    await once(taken, 'listening');
    t.after(() => taken.close());
    const { port } = taken.address() as AddressInfo;
    const { pod } = await startDnsPod(t, 'delta', { env: { DNS_PROXY_ADDR: `:${port}` } });
    const { code } = await pod.agent.exited;
    assert.equal(code, 255);
    assert.match(pod.agent.logTail(), /the DNS proxy cannot listen on :: port \d+ \(tcp\).*EADDRINUSE/);
  });
});
