import assert from 'node:assert/strict';
import { access, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import test from 'node:test';
import type { ListenError } from '../../../agent/grpc/listener.ts';
import { clusterType, deltaRequest, deltaResponse, extensionType, listenerType } from './messages.ts';
import { deltaPath, openRawEnvoy, sotwPath, startRawIstiod } from './raw-peers.ts';
import { startRelay } from './relay-fixture.ts';

test('a request reaches istiod byte for byte, and a response reaches Envoy byte for byte', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config, relay } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  const request = deltaRequest(clusterType, { node: { id: 'sidecar~10.0.0.1~a.b~c' } });
  envoy.send(request);
  const upstream = await istiod.streams.next();
  assert.deepEqual(await upstream.requests.next(), request);
  const response = deltaResponse(clusterType, 300_000);
  upstream.send(response);
  assert.deepEqual(await envoy.responses.next(), response);
  const { stream } = relay.snapshot;
  assert.equal(stream?.state, 'open');
  assert.equal(stream?.kind, 'delta');
  assert.equal(stream?.upstreamAddress, istiod.address);
  assert.deepEqual([stream?.requestCount, stream?.responseCount], [1, 1]);
});

for (const [path, words] of [
  [deltaPath, 'connected to delta upstream XDS server'],
  [sotwPath, 'connected to upstream XDS server'],
] as const) {
  test(`the log tells each connection to istiod as the stock agent does: ${words}`, async (t) => {
    const istiod = await startRawIstiod(t);
    const { config, logLines } = await startRelay(t, { discoveryAddress: istiod.address });
    const envoy = openRawEnvoy(t, config.socketPath, { headers: { ':path': path } });
    envoy.send(deltaRequest(clusterType));
    const upstream = await istiod.streams.next();
    const response = deltaResponse(clusterType);
    upstream.send(response);
    assert.deepEqual(await envoy.responses.next(), response);
    const told = logLines.filter(({ level }) => level === 'info').map(({ msg }) => msg);
    assert.deepEqual(told, [`${words}: ${istiod.address}`]);
  });
}

test('istiod gets the method of Envoy, the metadata of the agent and nothing that Envoy sent as metadata', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config, logLines } = await startRelay(t, {
    discoveryAddress: istiod.address,
    clusterId: '',
    headers: { 'x-team': 'a=b', connection: 'close', 'raw-bin': 'ü', 'grpc-timeout': '1S', bad: 'a\nb' },
  });
  openRawEnvoy(t, config.socketPath, { headers: { ':path': sotwPath, 'x-envoy-internal': 'true' } });
  const { headers } = await istiod.streams.next();
  assert.equal(headers[':path'], sotwPath);
  assert.equal(headers[':authority'], istiod.address);
  assert.equal(headers[':scheme'], 'http');
  assert.equal(headers.te, 'trailers');
  assert.equal(headers['content-type'], 'application/grpc');
  assert.equal(headers['clusterid'], '');
  assert.equal(headers['x-team'], 'a=b');
  assert.equal(headers['raw-bin'], 'w7w');
  for (const name of [
    'x-envoy-internal',
    'grpc-accept-encoding',
    'grpc-timeout',
    'connection',
    'bad',
    'authorization',
  ]) {
    assert.equal(headers[name], undefined, name);
  }
  const refused = logLines.filter(({ msg }) => msg.startsWith('a header from XDS_HEADER_'));
  assert.deepEqual(
    refused.map(({ name }) => name),
    ['connection', 'grpc-timeout', 'bad'],
  );
});

test('responses that are not for Envoy are dropped with an error line, and their neighbours pass', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config, logLines, sample } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  const workload = deltaResponse('type.googleapis.com/istio.workload.Workload');
  const last = deltaResponse(listenerType);
  upstream.send(
    deltaResponse('type.googleapis.com/istio.workload.Address', 200_000),
    workload,
    deltaResponse('istio.io/debug/syncz'),
    Buffer.alloc(0),
    last,
  );
  assert.deepEqual(await envoy.responses.next(), workload);
  assert.deepEqual(await envoy.responses.next(), last);
  const dropped = logLines.filter(({ level }) => level === 'error').map(({ typeUrl }) => typeUrl);
  assert.deepEqual(dropped, ['type.googleapis.com/istio.workload.Address', 'istio.io/debug/syncz', '']);
  assert.equal(await sample('istio_agent_xds_proxy_responses'), 5);
});

test('ECDS passes untouched when no interceptor takes it', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  const response = deltaResponse(extensionType, 1000);
  (await istiod.streams.next()).send(response);
  assert.deepEqual(await envoy.responses.next(), response);
});

test('the socket has the configured mode and group, and is gone after close', async (t) => {
  // Only root may give a file to a group that is not its own.
  const socketGroupId = process.getuid?.() === 0 ? 4711 : (process.getgid?.() ?? 0);
  const { config, relay } = await startRelay(t, { socketMode: 0o660, socketGroupId });
  const { mode, gid } = await stat(config.socketPath);
  assert.deepEqual([mode & 0o777, gid], [0o660, socketGroupId]);
  const folder = await stat(dirname(config.socketPath));
  assert.deepEqual([folder.mode & 0o777, folder.gid], [0o750, socketGroupId]);
  await relay.close();
  await assert.rejects(access(config.socketPath), { code: 'ENOENT' });
});

test('an old socket file is replaced, and a path that cannot be used is named', async (t) => {
  const first = await startRelay(t, {});
  const second = await startRelay(t, { socketPath: first.config.socketPath });
  await access(second.config.socketPath);
  const folder = dirname(first.config.socketPath);
  await assert.rejects(startRelay(t, { socketPath: folder }), (error: ListenError) => {
    assert.equal(error.code, 'remove');
    assert.ok(error.message.startsWith(`failed to remove unix://${folder}: `), error.message);
    return true;
  });
  const tooLong = `${folder}/${'x'.repeat(200)}`;
  await assert.rejects(startRelay(t, { socketPath: tooLong }), (error: ListenError) => {
    assert.equal(error.code, 'listen');
    assert.ok(error.message.startsWith(`failed to listen on unix socket "${tooLong}": `), error.message);
    return true;
  });
});

test('close ends open streams with UNAVAILABLE and leaves no connection', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config, relay } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  upstream.send(deltaResponse(clusterType));
  await envoy.responses.next();
  await relay.close();
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 14);
  assert.equal(end.grpcMessage, 'the agent is stopping');
  assert.equal(await upstream.closed, 8);
});
