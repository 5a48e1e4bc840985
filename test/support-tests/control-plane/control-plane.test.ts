import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { ControlPlane, type ControlPlaneOptions } from '../../support/control-plane/control-plane.ts';
import type { Resource, XdsMode } from '../../support/control-plane/discovery-messages.ts';
import { extensionConfig } from '../../support/control-plane/extension-configs.ts';
import { shortTypeOf, typeUrls } from '../../support/control-plane/type-urls.ts';
import { World } from '../../support/control-plane/world.ts';
import { type ReceivedResponse, testNode, XdsClient } from './xds-client.ts';

const { cds, eds, lds, rds, ecds } = typeUrls;
const modes: readonly XdsMode[] = ['sotw', 'delta'];

function resource(typeUrl: string, name: string, content = name): Resource {
  return { name, typeUrl, value: Buffer.from(content) };
}

function plugin(name: string, content = name): Resource {
  return extensionConfig(name, 'type.googleapis.com/test.Filter', Buffer.from(content));
}

const world = World.of(resource(cds, 'c1'), resource(lds, 'l1'), resource(rds, 'r1'), plugin('p1'));

async function start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  return await ControlPlane.start({ world, ...options });
}

/** Opens a stream that has CDS, LDS and one plugin, all acknowledged. */
async function subscribed(controlPlane: ControlPlane, mode: XdsMode): Promise<XdsClient> {
  const client = new XdsClient(controlPlane.address, mode);
  client.send({ typeUrl: cds, node: testNode });
  client.ack(await client.next());
  client.send({ typeUrl: lds });
  client.ack(await client.next());
  client.send({ typeUrl: ecds, names: ['p1'] });
  client.ack(await client.next(), ['p1']);
  await controlPlane.waitForAck('ecds');
  return client;
}

function namesOf(controlPlane: ControlPlane, { nonce }: ReceivedResponse): readonly string[] {
  const entry = controlPlane.journal.entries.find((item) => item.kind === 'response' && item.nonce === nonce);
  assert.ok(entry?.kind === 'response');
  return entry.resourceNames;
}

for (const mode of modes) {
  describe(`a ${mode} stream`, () => {
    test('gets one version for all types, and a nonce that starts with it', async () => {
      await using controlPlane = await start();
      await using client = new XdsClient(controlPlane.address, mode);
      client.send({ typeUrl: cds, node: testNode });
      client.send({ typeUrl: lds });
      const responses = [await client.next(), await client.next()];
      for (const response of responses) {
        assert.equal(response.version, controlPlane.version);
        assert.match(response.version, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\/1$/);
        assert.match(
          response.nonce.slice(response.version.length),
          /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
        );
      }
      assert.notEqual(responses[0]?.nonce, responses[1]?.nonce);
    });

    test('gets a change of a plugin as listeners and all subscribed plugins, in this order', async () => {
      await using controlPlane = await start({ world: world.with(plugin('p2'), plugin('p3')) });
      await using client = await subscribed(controlPlane, mode);
      const before = controlPlane.version;
      client.send(
        mode === 'sotw'
          ? {
              typeUrl: ecds,
              names: ['p1', 'p2'],
              nonce: controlPlane.syncz()[0]?.resources[ecds]?.sent ?? '',
            }
          : { typeUrl: ecds, names: ['p2'] },
      );
      const added = await client.next();
      assert.deepEqual(namesOf(controlPlane, added), ['p2'], 'a new subscription is answered alone');
      assert.equal(added.version, before, 'an answer has the version of the last push');

      const push = controlPlane.applyWorld(controlPlane.world.with(plugin('p2', 'new')));
      const [first, second] = [await client.next(), await client.next()];
      assert.deepEqual([first.typeUrl, second.typeUrl], [lds, ecds]);
      assert.deepEqual(namesOf(controlPlane, second), ['p1', 'p2']);
      assert.deepEqual([first.version, second.version], [push.version, push.version]);
      assert.match(push.version, /\/2$/);
      assert.deepEqual(
        push.responses.map(({ nonce }) => nonce),
        [first.nonce, second.nonce],
      );
    });

    test('gets no push when nothing changed, and no plugins when a route changed', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      assert.deepEqual(controlPlane.applyWorld(world.with(plugin('p1'))).responses, []);
      client.send({ typeUrl: rds, names: ['r1'] });
      client.ack(await client.next(), ['r1']);
      await controlPlane.waitForAck('rds');
      const push = controlPlane.applyWorld(world.with(resource(rds, 'r1', 'changed')));
      assert.deepEqual(
        push.responses.map(({ typeUrl }) => shortTypeOf(typeUrl)),
        ['rds'],
      );
    });

    test('gets all types in order CDS, EDS, LDS, RDS, ECDS', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      client.send({ typeUrl: rds, names: ['r1'] });
      client.send({ typeUrl: eds, names: ['c1'] });
      await client.next();
      await client.next();
      controlPlane.push();
      const order = [];
      for (let count = 0; count < 5; count += 1) order.push(shortTypeOf((await client.next()).typeUrl));
      assert.deepEqual(order, ['cds', 'eds', 'lds', 'rds', 'ecds']);
    });

    test('learns of a removed plugin by its absence alone, and keeps its subscription', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      controlPlane.applyWorld(world.without('ecds', 'p1'));
      await client.next();
      const gone = await client.next();
      assert.equal(gone.typeUrl, ecds);
      assert.deepEqual(gone.resources, []);
      assert.deepEqual(gone.removed, []);
      client.ack(gone, ['p1']);
      controlPlane.applyWorld(world);
      await client.next();
      assert.deepEqual(namesOf(controlPlane, await client.next()), ['p1'], 'it comes back unasked');
    });

    test('gets an empty load assignment and an empty route table for unknown names', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      client.send({ typeUrl: eds, names: ['nowhere'] });
      const endpoints = await client.next();
      assert.equal(endpoints.resources[0]?.value.toString('latin1'), '\n\x07nowhere');
      client.send({ typeUrl: rds, names: ['none'] });
      const routes = await client.next();
      assert.equal(routes.resources[0]?.value.toString('latin1'), '\n\x04none:\0');
    });

    test('counts a NACK, stands in error, and is synced again after an ACK of the same nonce', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      const { version } = controlPlane.pushEcds();
      const response = await client.next();
      assert.equal(controlPlane.syncz()[0]?.resources[ecds]?.state, 'stale');
      client.nack(response, 'module refused');
      const nack = await controlPlane.waitForNack('ecds', { version });
      assert.equal(nack.message, 'module refused');
      assert.equal(nack.code, 13);
      assert.equal(nack.isStale, false);
      assert.equal(controlPlane.syncz()[0]?.resources[ecds]?.state, 'error');
      assert.match(controlPlane.metrics(), /^pilot_total_xds_rejects\{type="ecds"\} 1$/m);
      client.ack(response, ['p1']);
      const ack = await controlPlane.waitForAck('ecds', { version });
      assert.equal(ack.nonce, response.nonce);
      assert.equal(controlPlane.syncz()[0]?.resources[ecds]?.state, 'synced');
      assert.equal(client.waitingCount, 0, 'nothing is sent again');
    });

    test('has stale ACKs ignored and stale NACKs counted', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      const first = controlPlane.pushEcds();
      const old = await client.next();
      controlPlane.pushEcds();
      const current = await client.next();
      client.ack(old, ['p1']);
      await controlPlane.waitForRequest('the stale ACK', ({ verdict }) => verdict === 'stale');
      assert.equal(controlPlane.syncz()[0]?.resources[ecds]?.state, 'stale');
      assert.equal(controlPlane.counter('pilot_xds_expired_nonce', 'ecds'), 1);
      client.nack(old, 'too late', ['p1']);
      const nack = await controlPlane.waitForNack('ecds');
      assert.equal(nack.isStale, true);
      assert.equal(nack.version, first.version);
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 1);
      client.ack(current, ['p1']);
      await controlPlane.waitForAck('ecds');
    });

    test('has no headers before the first response', async () => {
      await using controlPlane = await start();
      controlPlane.mute();
      await using client = new XdsClient(controlPlane.address, mode);
      client.send({ typeUrl: cds, node: testNode });
      await controlPlane.waitForStream();
      assert.equal(client.hasHeaders, false);
      controlPlane.unmute();
      await client.next();
      assert.equal(client.hasHeaders, true);
    });

    test('gets neither answer nor push while muted, and the present state afterwards', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      controlPlane.mute('ecds');
      controlPlane.applyWorld(world.with(plugin('p1', 'second')));
      controlPlane.applyWorld(world.with(plugin('p1', 'third')));
      assert.deepEqual([(await client.next()).typeUrl, (await client.next()).typeUrl], [lds, lds]);
      const { responses } = controlPlane.unmute();
      const late = await client.next();
      assert.equal(responses.length, 1);
      assert.equal(late.typeUrl, ecds);
      assert.deepEqual(late.resources[0]?.value, plugin('p1', 'third').value);
    });

    test('ends with the status a test gives', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      controlPlane.closeStreams({ code: status.UNAVAILABLE, details: 'moving on' });
      const { code, details } = await client.status();
      assert.equal(code, status.UNAVAILABLE);
      assert.equal(details, 'moving on');
      assert.deepEqual(controlPlane.openStreams, []);
    });

    test('ends with OK when the client ends it', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      client.halfClose();
      assert.equal((await client.status()).code, status.OK);
    });

    test('is refused without a node, and with bytes that are no request', async () => {
      await using controlPlane = await start();
      await using nameless = new XdsClient(controlPlane.address, mode);
      nameless.send({ typeUrl: cds });
      const { code, details } = await nameless.status();
      assert.equal(code, status.INVALID_ARGUMENT);
      assert.equal(details, 'missing node information');
      await using garbled = new XdsClient(controlPlane.address, mode);
      garbled.sendBytes(Buffer.from([0x07]));
      assert.equal((await garbled.status()).code, status.INTERNAL);
    });

    test('may report health first, which is recorded and never answered', async () => {
      await using controlPlane = await start();
      await using client = new XdsClient(controlPlane.address, mode);
      client.send({ typeUrl: typeUrls.health, error: { code: 13, message: 'status 500' } });
      client.send({ typeUrl: cds, node: testNode });
      assert.equal((await client.next()).typeUrl, cds);
      const report = await controlPlane.waitForRequest('health', ({ verdict }) => verdict === 'unanswered');
      assert.equal(report.request.error?.message, 'status 500');
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', typeUrls.health), 0);
    });

    test('serves again on the same port after a restart, as an istiod that knows nothing', async () => {
      await using controlPlane = await start();
      const client = await subscribed(controlPlane, mode);
      const { port, version } = controlPlane;
      await controlPlane.stop();
      assert.equal((await client.status()).code, status.UNAVAILABLE);
      await client.close();
      await assert.rejects(controlPlane.waitForStream({ timeoutMs: 1 }), { code: 'deadline' });
      await controlPlane.start();
      assert.equal(controlPlane.port, port);
      await using again = new XdsClient(controlPlane.address, mode);
      again.send({ typeUrl: cds, node: testNode });
      const response = await again.next();
      assert.notEqual(response.version, version);
      assert.match(response.version, /\/1$/);
      const stream = await controlPlane.waitForStream({ after: 1 });
      assert.equal(stream.id, 2);
      again.ack(response);
      assert.equal((await controlPlane.waitForAck('cds', { afterVersion: version })).streamId, 2);
    });

    test('can be sent any response, of any size, and any bytes', async () => {
      await using controlPlane = await start();
      await using client = await subscribed(controlPlane, mode);
      const value = Buffer.alloc(8 * 1024 * 1024, 'x');
      const push = controlPlane.pushRaw({
        typeUrl: 'type.googleapis.com/test.Big',
        resources: [{ name: 'big', typeUrl: 'type.googleapis.com/test.Big', value }],
        version: 'v9',
        nonce: 'n9',
      });
      const big = await client.next();
      await push.flushed;
      assert.equal(big.resources[0]?.value.length, value.length);
      assert.deepEqual([big.version, big.nonce], ['v9', 'n9']);
      client.ack(big);
      assert.equal((await controlPlane.waitForAck('type.googleapis.com/test.Big')).version, 'v9');
      controlPlane.openStreams[0]?.sendBytes(Buffer.from([0x0a, 0x01, 0x76]));
      assert.equal((await client.next()).version, 'v');
    });
  });
}

test('a delta stream hears of removed listeners, also of those it kept from an earlier stream', async () => {
  await using controlPlane = await start({ world: world.with(resource(lds, 'l2')) });
  const client = await subscribed(controlPlane, 'delta');
  controlPlane.applyWorld(controlPlane.world.without('lds', 'l1'));
  assert.deepEqual((await client.next()).removed, ['l1']);
  await client.close();
  await using again = new XdsClient(controlPlane.address, 'delta');
  again.send({ typeUrl: lds, node: testNode, initialVersions: { l1: '', l2: '' } });
  const response = await again.next();
  assert.deepEqual(response.removed, ['l1']);
  assert.deepEqual(namesOf(controlPlane, response), ['l2']);
});

test('a delta stream gets its endpoints again after its clusters', async () => {
  await using controlPlane = await start();
  await using client = new XdsClient(controlPlane.address, 'delta');
  client.send({ typeUrl: eds, names: ['c1'], node: testNode });
  client.ack(await client.next());
  client.send({ typeUrl: cds });
  assert.deepEqual([(await client.next()).typeUrl, (await client.next()).typeUrl], [cds, eds]);
});

test('a delta stream gets an empty answer when it unsubscribes from a plugin', async () => {
  await using controlPlane = await start();
  await using client = await subscribed(controlPlane, 'delta');
  client.send({ typeUrl: ecds, unsubscribe: ['p1'] });
  assert.deepEqual((await client.next()).resources, []);
});

test('a name table is one resource without a name, pushed when it changes', async () => {
  await using controlPlane = await start();
  await using client = await subscribed(controlPlane, 'delta');
  client.send({ typeUrl: typeUrls.nds });
  client.send({ typeUrl: rds, names: ['r1'] });
  assert.equal((await client.next()).typeUrl, rds, 'a type the world does not know is not answered');
  controlPlane.applyWorld(world.with(resource(typeUrls.nds, '', 'table')));
  const table = await client.next();
  assert.equal(table.typeUrl, typeUrls.nds);
  assert.equal(table.resources[0]?.value.toString(), 'table');
});

test('the stream shows the headers and the node of its client', async () => {
  await using controlPlane = await start();
  await using client = new XdsClient(controlPlane.address, 'delta', {
    headers: { authorization: 'Bearer secret-token', clusterid: 'Kubernetes', 'x-team': 'a' },
  });
  client.send({ typeUrl: cds, node: testNode });
  const stream = await controlPlane.waitForStream();
  assert.deepEqual(stream.metadata['authorization'], ['Bearer secret-token']);
  assert.deepEqual(stream.metadata['clusterid'], ['Kubernetes']);
  assert.deepEqual(stream.metadata['x-team'], ['a']);
  assert.equal(stream.authority, controlPlane.address);
  assert.equal(stream.node?.id, testNode.id);
});

test('a wait that fails says what was awaited and what was seen, and no token', async () => {
  await using controlPlane = await start();
  await using client = new XdsClient(controlPlane.address, 'sotw', {
    headers: { authorization: 'Bearer secret-token' },
  });
  client.send({ typeUrl: ecds, names: ['p1'], node: testNode });
  await client.next();
  const { version } = controlPlane;
  await assert.rejects(controlPlane.waitForAck('ecds', { version, timeoutMs: 5 }), (error: Error) => {
    assert.match(error.message, /gave up after 5 ms waiting for an ACK of ecds of version /);
    assert.match(error.message, /#2 stream 1 <- ecds subscribe names p1/);
    assert.match(error.message, /-> ecds answer nonce .* \[p1\]/);
    assert.doesNotMatch(error.message, /secret-token/);
    return true;
  });
});

test('a wait can be given up, and fails when the control plane closes', async () => {
  const controlPlane = await start();
  const aborted = controlPlane.waitForStream({ signal: AbortSignal.abort() });
  await assert.rejects(aborted, { code: 'aborted' });
  const cut = assert.rejects(controlPlane.waitForSubscription('p1'), { code: 'not_running' });
  await controlPlane.close();
  await cut;
  await assert.rejects(controlPlane.waitForAck('ecds'), { code: 'not_running' });
  await assert.rejects(controlPlane.start(), { code: 'not_running' });
});

test('a stream whose responses pile up is ended, and nothing else', async () => {
  await using controlPlane = await start();
  await using client = await subscribed(controlPlane, 'delta');
  await using other = await subscribed(controlPlane, 'delta');
  const one = { typeUrl: typeUrls.nds, resources: [] };
  while (controlPlane.openStreams.length === 2) controlPlane.pushRaw(one, { streamId: 1 });
  const { code, details } = await client.status();
  assert.equal(code, status.RESOURCE_EXHAUSTED);
  assert.match(details, /left 5000 responses unread/);
  assert.throws(() => controlPlane.pushRaw(one, { streamId: 1 }), { code: 'no_stream' });
  controlPlane.pushEcds();
  assert.equal((await other.next()).typeUrl, ecds);
});

test('a port in use is said so', async () => {
  await using controlPlane = await start();
  await assert.rejects(start({ port: controlPlane.port }), { code: 'listen', message: /give a free port/ });
});

test('metrics and sync status are served over HTTP', async () => {
  await using controlPlane = await start({ statusPort: 0 });
  await using client = await subscribed(controlPlane, 'delta');
  const read = async (path: string): Promise<string> =>
    await (await fetch(`${controlPlane.statusUrl}${path}`)).text();
  const metrics = await read('/metrics');
  assert.match(metrics, /^pilot_xds 1$/m);
  assert.match(metrics, /^pilot_xds_pushes\{type="ecds"\} 1$/m);
  assert.doesNotMatch(metrics, /rejects/, 'a counter that never moved is not there');
  const [status] = JSON.parse(await read('/debug/syncz')) as Record<string, unknown>[];
  assert.equal(status?.['proxy'], testNode.id);
  assert.equal(status?.['extensionconfig_sent'], status?.['extensionconfig_acked']);
  assert.equal(client.waitingCount, 0);
});

test('closing frees the port and leaves no connection', async () => {
  const controlPlane = await start({ statusPort: 0 });
  const client = await subscribed(controlPlane, 'sotw');
  assert.equal(controlPlane.connectionCount, 1);
  const { port, statusUrl } = controlPlane;
  await controlPlane.close();
  await client.close();
  assert.equal(controlPlane.connectionCount, 0);
  for (const closed of [port, Number(new URL(statusUrl ?? '').port)]) {
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    connect(closed, '127.0.0.1').on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
    assert.equal(await promise, 'ECONNREFUSED');
  }
});
