import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'node:test';
import { maxHeldResponseBytes } from '../../../agent/xds/response-path.ts';
import { clusterType, deltaRequest, deltaResponse } from './messages.ts';
import { frame, openRawEnvoy, service, startRawIstiod } from './raw-peers.ts';
import { startRelay } from './relay-fixture.ts';
import { startStallingProxy } from './stalling-proxy.ts';

/** Framing only: flag and length as given. */
function header(flag: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = flag;
  bytes.writeUInt32BE(lengthBytes, 1);
  return bytes;
}

/** A protobuf varint. */
function varint(value: number): number[] {
  const low = value % 128;
  return value >= 128 ? [low + 128, ...varint(Math.floor(value / 128))] : [low];
}

test('a request over the bound ends its stream with size, bound and what to change', async (t) => {
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(t, { discoveryAddress: istiod.address, maxRequestBytes: 1000 });
  const fitting = openRawEnvoy(t, relay.config.socketPath);
  const node = { id: 'n'.repeat(1000 - deltaRequest(clusterType, { node: { id: '' } }).length - 4) };
  const largest = deltaRequest(clusterType, { node });
  assert.ok(largest.length <= 1000 && largest.length > 990, `${largest.length} bytes`);
  fitting.send(largest);
  assert.deepEqual(await (await istiod.streams.next()).requests.next(), largest);
  assert.equal(await relay.sample('istio_agent_pilot_xds_recv_max'), largest.length);

  const envoy = openRawEnvoy(t, relay.config.socketPath);
  envoy.send(Buffer.alloc(1001));
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 8);
  assert.match(end.grpcMessage ?? '', /1001 bytes .* 1000 bytes: raise ISTIO_GPRC_MAXRECVMSGSIZE/);
  assert.equal(await relay.sample('istio_agent_envoy_connection_terminations{type="error"}'), 1);
  assert.equal(await relay.sample('istio_agent_istiod_connection_terminations{type="error"}'), 0);
});

test('framing of Envoy that cannot be read ends its stream with a status', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config } = await startRelay(t, { discoveryAddress: istiod.address });
  const cases: readonly (readonly [Buffer, number, RegExp])[] = [
    [header(0, 2 ** 32 - 1), 8, /request of 4294967295 bytes/],
    [header(1, 3), 13, /compressed flag 1/],
    [header(255, 3), 13, /compressed flag 255/],
    [frame(Buffer.from([0x0b, 1, 2])), 13, /no discovery request: wire type 3/],
  ];
  for (const [bytes, code, message] of cases) {
    const envoy = openRawEnvoy(t, config.socketPath);
    envoy.stream.write(bytes);
    const end = await envoy.ended;
    assert.equal(end.grpcStatus, code, end.grpcMessage);
    assert.match(end.grpcMessage ?? '', message);
  }
});

test('framing of istiod that cannot be read ends the stream with a status, after the messages before it', async (t) => {
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(t, { discoveryAddress: istiod.address });
  const good = deltaResponse(clusterType);
  const cases: readonly (readonly [Buffer, number, RegExp])[] = [
    [header(0, 2 ** 32 - 1), 8, /announced a message of 4294967295 bytes, the bound is 2147483647/],
    [header(1, 3), 13, /compressed flag 1/],
    [frame(Buffer.from('garbage')), 13, /no discovery response/],
  ];
  for (const [bytes, code, message] of cases) {
    const envoy = openRawEnvoy(t, relay.config.socketPath);
    envoy.send(deltaRequest(clusterType));
    const upstream = await istiod.streams.next();
    upstream.send();
    upstream.stream.write(Buffer.concat([frame(good), bytes]));
    assert.deepEqual(await envoy.responses.next(), good);
    const end = await envoy.ended;
    assert.equal(end.grpcStatus, code, end.grpcMessage);
    assert.match(end.grpcMessage ?? '', message);
    await upstream.closed;
  }
  assert.equal(await relay.sample('istio_agent_istiod_connection_terminations{type="error"}'), cases.length);
});

test('an announced response of 2 GiB passes from its first chunk', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  upstream.send();
  // A resource that claims almost all of it, with its type in front.
  const any = Buffer.concat([Buffer.from([0x0a, clusterType.length]), Buffer.from(clusterType)]);
  // More than is gathered before a write, less than a thousandth of what the prefix claims.
  const start = Buffer.concat([
    header(0, 2 ** 31 - 1),
    Buffer.from([0x12, ...varint(2 ** 31 - 100)]),
    Buffer.from([0x12, ...varint(2 ** 31 - 200)]),
    any,
    Buffer.alloc(1024 * 1024),
  ]);
  upstream.stream.write(start);
  while (envoy.reader.receivedBytes < start.length - 128 * 1024) await once(envoy.stream, 'data');
});

test('an unknown method, another verb and another content type are refused and leave the stream alone', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config, relay } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  envoy.send(deltaRequest(clusterType));
  await (await istiod.streams.next()).requests.next();
  const unknown = await openRawEnvoy(t, config.socketPath, { headers: { ':path': `${service}/Fetch` } })
    .ended;
  assert.equal(unknown.grpcStatus, 12);
  assert.match(unknown.grpcMessage ?? '', /unknown method .*Fetch/);
  const get = await openRawEnvoy(t, config.socketPath, { headers: { ':method': 'PUT' } }).ended;
  assert.equal(get.httpStatus, 405);
  const json = await openRawEnvoy(t, config.socketPath, { headers: { 'content-type': 'application/json' } })
    .ended;
  assert.equal(json.httpStatus, 415);
  assert.equal(relay.snapshot.stream?.id, 1);
});

test('bytes that are no HTTP/2 close that connection only', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config, relay } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', `${preface}\xff\xff\xff\xff\xff\xff\xff\xff\xff`]) {
    const socket = connect(config.socketPath);
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(Buffer.from(bytes, 'latin1'));
    await once(socket, 'close');
  }
  upstream.send(deltaResponse(clusterType));
  await envoy.responses.next();
  assert.equal(relay.snapshot.stream?.state, 'open');
});

test('broken HTTP/2 of istiod in the middle of a stream ends that stream, and the next one works', async (t) => {
  const istiod = await startRawIstiod(t);
  const target = { host: '127.0.0.1', port: Number(istiod.address.split(':')[1]) };
  const oversizedFrame = Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
  const dataOnNoStream = Buffer.from([0, 0, 1, 0, 0, 0, 0, 0, 99, 7]);
  for (const bytes of [oversizedFrame, dataOnNoStream, Buffer.alloc(200_000, 0xee)]) {
    const proxy = await startStallingProxy(t, target);
    const { config } = await startRelay(t, { discoveryAddress: proxy.address });
    const envoy = openRawEnvoy(t, config.socketPath);
    envoy.send(deltaRequest(clusterType));
    const upstream = await istiod.streams.next();
    upstream.send(deltaResponse(clusterType));
    await envoy.responses.next();
    proxy.inject(bytes);
    const end = await envoy.ended;
    assert.equal(end.grpcStatus, 14);
    assert.match(end.grpcMessage ?? '', /^error reading from server: /);
    const next = openRawEnvoy(t, config.socketPath);
    (await istiod.streams.next()).send(deltaResponse(clusterType));
    await next.responses.next();
  }
});

test('a response whose type comes after its content is held and passes; beyond the bound it ends the stream', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  const upstream = await istiod.streams.next();
  // Field 5 (nonce) first, then field 4 (type_url).
  const nonce = (sizeBytes: number): Buffer => Buffer.from([0x2a, ...varint(sizeBytes)]);
  const typeUrl = Buffer.concat([Buffer.from([0x22, clusterType.length]), Buffer.from(clusterType)]);
  const hidden = Buffer.concat([nonce(300_000), Buffer.alloc(300_000, 'n'), typeUrl]);
  upstream.send(hidden);
  assert.deepEqual(await envoy.responses.next(), hidden);
  upstream.stream.write(Buffer.concat([header(0, 2 ** 31 - 1), nonce(2 ** 31 - 100)]));
  const block = Buffer.alloc(1024 * 1024);
  for (let sent = 0; sent <= maxHeldResponseBytes; sent += block.length) upstream.stream.write(block);
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 8);
  assert.match(end.grpcMessage ?? '', /2147483647 bytes that names no type in its first 67108864 bytes/);
});
