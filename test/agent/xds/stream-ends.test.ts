import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:http2';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import type { XdsTlsConfig } from '../../../agent/config/agent-config.ts';
import { RedialBackoff } from '../../../agent/xds/redial-backoff.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { EventQueue } from './event-queue.ts';
import { clusterType, deltaRequest, deltaResponse } from './messages.ts';
import { frame, type IstiodStream, openRawEnvoy, type RawEnvoy, startRawIstiod } from './raw-peers.ts';
import { type RelayFixture, startRelay } from './relay-fixture.ts';
import { startStallingProxy } from './stalling-proxy.ts';

const istiodEnds = 'istio_agent_istiod_connection_terminations';
const envoyEnds = 'istio_agent_envoy_connection_terminations';

interface Exchange {
  readonly envoy: RawEnvoy;
  readonly upstream: IstiodStream;
  readonly relay: RelayFixture;
}

/** One stream through the relay with a request and, unless told otherwise, a response passed. */
async function openExchange(
  t: TestContext,
  options: { readonly hasResponse?: boolean } = {},
): Promise<Exchange> {
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, relay.config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  await upstream.requests.next();
  if (options.hasResponse !== false) {
    upstream.send(deltaResponse(clusterType));
    await envoy.responses.next();
  }
  return { envoy, upstream, relay };
}

/** A TCP server whose connections a test holds in its hand. */
async function startTcp(
  t: TestContext,
  onConnection: (socket: Socket) => void,
): Promise<{ address: string; server: Server }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

/** A server that takes TCP connections and never answers the TLS handshake. */
async function startSilentTls(t: TestContext) {
  const dials = new EventQueue<Socket>();
  const { address } = await startTcp(t, (socket) => {
    dials.push(socket);
    socket.resume();
  });
  const path = join(await temporaryFolder(t), 'root.pem');
  await writeFile(path, Authority.createRoot().certificate);
  const tls: XdsTlsConfig = {
    serverName: 'istiod',
    root: { kind: 'file', path },
    clientCertificate: undefined,
    compliance: undefined,
  };
  return { dials, changes: { discoveryAddress: address, tls } };
}

test('a status of istiod reaches Envoy with code and message, before and after messages', async (t) => {
  for (const hasResponse of [false, true]) {
    const { envoy, upstream, relay } = await openExchange(t, { hasResponse });
    upstream.end({ 'grpc-status': '16', 'grpc-message': 'token for%20"%C3%BC" expired' });
    const end = await envoy.ended;
    assert.deepEqual(end, {
      httpStatus: 200,
      grpcStatus: 16,
      grpcMessage: 'token for "ü" expired',
      rstCode: 0,
    });
    assert.equal(await relay.sample(`${istiodEnds}{type="error"}`), 1);
    assert.equal(await relay.sample(`${envoyEnds}{type="error"}`), 0);
    assert.equal(await relay.sample(`${envoyEnds}{type="cancelled"}`), 0);
    const { lastEnd, stream } = relay.relay.snapshot;
    assert.equal(stream, undefined);
    assert.deepEqual([lastEnd?.side, lastEnd?.status.code], ['istiod', 16]);
  }
});

test('a trailers-only answer of istiod reaches Envoy', async (t) => {
  const { envoy, upstream } = await openExchange(t, { hasResponse: false });
  upstream.stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '7', 'grpc-message': 'no' },
    { endStream: true },
  );
  const end = await envoy.ended;
  assert.deepEqual([end.grpcStatus, end.grpcMessage], [7, 'no']);
});

test('a clean end of istiod is OK for Envoy, after all messages', async (t) => {
  const { envoy, upstream, relay } = await openExchange(t);
  const last = deltaResponse(clusterType, 500_000);
  upstream.send(last);
  upstream.end({ 'grpc-status': '0' });
  assert.deepEqual(await envoy.responses.next(), last);
  assert.equal((await envoy.ended).grpcStatus, 0);
  assert.equal(await relay.sample(`${istiodEnds}{type="cancelled"}`), 1);
});

test('an end without status, or with OK inside a message, is INTERNAL', async (t) => {
  const first = await openExchange(t);
  first.upstream.stream.once('wantTrailers', () => first.upstream.stream.sendTrailers({ other: 'x' }));
  first.upstream.stream.end();
  const withoutStatus = await first.envoy.ended;
  assert.equal(withoutStatus.grpcStatus, 13);
  assert.match(withoutStatus.grpcMessage ?? '', /no grpc-status/);

  const second = await openExchange(t);
  second.upstream.stream.write(frame(deltaResponse(clusterType)).subarray(0, 9));
  second.upstream.end({ 'grpc-status': '0' });
  const cut = await second.envoy.ended;
  assert.equal(cut.grpcStatus, 13);
  assert.match(cut.grpcMessage ?? '', /in the middle of a message/);
});

test('a reset of istiod is mapped by its code', async (t) => {
  const cases = [
    [constants.NGHTTP2_REFUSED_STREAM, 14],
    [constants.NGHTTP2_CANCEL, 1],
    [constants.NGHTTP2_ENHANCE_YOUR_CALM, 8],
    [constants.NGHTTP2_INTERNAL_ERROR, 13],
    [constants.NGHTTP2_NO_ERROR, 13],
  ] as const;
  for (const [rstCode, grpcStatus] of cases) {
    const { envoy, upstream } = await openExchange(t);
    upstream.stream.close(rstCode);
    const end = await envoy.ended;
    assert.equal(end.grpcStatus, grpcStatus, `RST ${rstCode}: ${end.grpcMessage}`);
    assert.match(end.grpcMessage ?? '', /RST_STREAM/);
  }
});

test('a closed connection of istiod is UNAVAILABLE and expected, a broken one is an error', async (t) => {
  const cases = [
    {
      leave: (socket: Socket) => socket.end(),
      message: /^error reading from server: EOF$/,
      type: 'cancelled',
    },
    {
      leave: (socket: Socket) => socket.resetAndDestroy(),
      message: /^error reading from server: .*ECONNRESET/,
      type: 'error',
    },
  ];
  for (const { leave, message, type } of cases) {
    const istiod = await startRawIstiod(t);
    const relay = await startRelay(t, { discoveryAddress: istiod.address });
    const envoy = openRawEnvoy(t, relay.config.socketPath);
    envoy.send(deltaRequest(clusterType));
    await (await istiod.streams.next()).requests.next();
    for (const socket of istiod.sockets) leave(socket);
    const end = await envoy.ended;
    assert.equal(end.grpcStatus, 14);
    assert.match(end.grpcMessage ?? '', message);
    assert.equal(await relay.sample(`${istiodEnds}{type="${type}"}`), 1);
  }
});

test('after a GOAWAY without error the stream goes on, and its end says so', async (t) => {
  const { envoy, upstream, relay } = await openExchange(t);
  upstream.session.goaway(constants.NGHTTP2_NO_ERROR, 1, Buffer.from('max_age'));
  const response = deltaResponse(clusterType, 100_000);
  upstream.send(response);
  assert.deepEqual(await envoy.responses.next(), response);
  upstream.session.destroy();
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /EOF, received prior goaway: code: NO_ERROR, debug data: "max_age"/);
  assert.equal(await relay.sample(`${istiodEnds}{type="cancelled"}`), 1);
});

test('a GOAWAY with an error ends the stream with UNAVAILABLE', async (t) => {
  const { envoy, upstream, relay } = await openExchange(t);
  upstream.session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, 0, Buffer.from('too_many_pings'));
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /ENHANCE_YOUR_CALM, debug data: "too_many_pings"/);
  assert.equal(await relay.sample(`${istiodEnds}{type="error"}`), 1);
});

test('an istiod that refuses connections is UNAVAILABLE at once, and counted', async (t) => {
  const { address, server } = await startTcp(t, () => undefined);
  server.close();
  await once(server, 'close');
  const backoff = new RedialBackoff({ random: () => 0 });
  const { config, sample, relay } = await startRelay(t, { discoveryAddress: address }, { backoff });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(
    end.grpcMessage ?? '',
    new RegExp(`failed to connect to istiod at ${address}: .*ECONNREFUSED`),
  );
  assert.equal(await sample('istio_agent_istiod_connection_failures'), 1);
  assert.equal(await sample(`${istiodEnds}{type="error"}`), 1);
  assert.equal(relay.snapshot.failedDialCount, 1);

  // istiod comes back: the next stream waits its turn, gets through and ends the series of failures.
  const istiod = await startRawIstiod(t);
  const again = await startRelay(t, { discoveryAddress: istiod.address }, { backoff });
  const envoy = openRawEnvoy(t, again.config.socketPath);
  (await istiod.streams.next()).send(deltaResponse(clusterType));
  await envoy.responses.next();
  assert.equal(backoff.failureCount, 0);
});

test('a bad discovery address is named in the status', async (t) => {
  const { config } = await startRelay(t, { discoveryAddress: 'istiod.svc' });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /"istiod\.svc" is not host:port/);
});

test('a server that accepts and stays silent is given up after the deadline', async (t) => {
  const { address } = await startTcp(t, () => undefined);
  const { config, sample } = await startRelay(t, { discoveryAddress: address }, { connectTimeoutMs: 100 });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /sent no HTTP\/2 settings within \d+ ms/);
  assert.equal(await sample('istio_agent_istiod_connection_failures'), 1);
});

test('a server that never finishes TLS is given up after the deadline', async (t) => {
  const { changes } = await startSilentTls(t);
  const { config } = await startRelay(t, changes, { connectTimeoutMs: 100 });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /within 100 ms: TCP is connected, but the handshake got no answer/);
});

test('a server that closes before its settings, or speaks something else, is a failed dial', async (t) => {
  const closing = await startTcp(t, (socket) => socket.end());
  const talking = await startTcp(t, (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  for (const { address } of [closing, talking]) {
    const { config, sample } = await startRelay(t, { discoveryAddress: address });
    const end = await openRawEnvoy(t, config.socketPath).ended;
    assert.equal(end.grpcStatus, 14);
    assert.match(end.grpcMessage ?? '', /before any HTTP\/2 settings|closed the connection at once/);
    assert.equal(await sample('istio_agent_istiod_connection_failures'), 1);
  }
});

test('an answer that is no gRPC ends the stream with the mapped status', async (t) => {
  const { envoy, upstream } = await openExchange(t, { hasResponse: false });
  upstream.stream.respond({ ':status': 503, 'content-type': 'text/html' });
  upstream.stream.end('<html>');
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /HTTP status 503/);
});

test('a half-open istiod is found by keepalive while the stream is idle', async (t) => {
  const istiod = await startRawIstiod(t);
  const proxy = await startStallingProxy(t, {
    host: '127.0.0.1',
    port: Number(istiod.address.split(':')[1]),
  });
  const relay = await startRelay(t, {
    discoveryAddress: proxy.address,
    keepaliveIntervalMs: 60,
    keepaliveTimeoutMs: 80,
  });
  const envoy = openRawEnvoy(t, relay.config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  await upstream.requests.next();
  // Two answered PINGs first: an idle stream alone is no reason to end it.
  await once(upstream.session, 'ping');
  await once(upstream.session, 'ping');
  assert.equal(relay.relay.snapshot.stream?.state, 'open');
  proxy.stall();
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /keepalive PING within 80 ms/);
  assert.equal(await relay.sample(`${istiodEnds}{type="error"}`), 1);
});

test('an Envoy that hangs is found by keepalive, and its stream to istiod ends', async (t) => {
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(t, {
    discoveryAddress: istiod.address,
    keepaliveIntervalMs: 60,
    keepaliveTimeoutMs: 80,
  });
  const path = `${relay.config.socketPath}-proxy`;
  const proxy = await startStallingProxy(t, { path: relay.config.socketPath }, path);
  const envoy = openRawEnvoy(t, path);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  await upstream.requests.next();
  await once(envoy.session, 'ping');
  proxy.stall();
  assert.equal(await upstream.closed, constants.NGHTTP2_CANCEL);
  assert.equal(await relay.sample(`${envoyEnds}{type="cancelled"}`), 1);
});

test('a new stream of Envoy replaces the old one, which ends with OK', async (t) => {
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(t, { discoveryAddress: istiod.address });
  const first = openRawEnvoy(t, relay.config.socketPath);
  first.send(deltaRequest(clusterType));
  const firstUpstream = await istiod.streams.next();
  firstUpstream.send(deltaResponse(clusterType));
  await first.responses.next();
  const second = openRawEnvoy(t, relay.config.socketPath);
  assert.equal((await first.ended).grpcStatus, 0);
  assert.equal(await firstUpstream.closed, constants.NGHTTP2_CANCEL);
  const secondUpstream = await istiod.streams.next();
  secondUpstream.send(deltaResponse(clusterType, 20));
  assert.deepEqual(await second.responses.next(), deltaResponse(clusterType, 20));
  assert.equal(relay.relay.snapshot.stream?.id, 2);
  assert.equal(relay.logLines.filter(({ msg }) => msg.startsWith('registered overlapping stream')).length, 1);
  assert.equal(await relay.sample(`${envoyEnds}{type="cancelled"}`), 1);
  assert.equal(await relay.sample(`${istiodEnds}{type="cancelled"}`), 0);
});

test('a stream that is still dialling is replaced at once', async (t) => {
  const { changes, dials } = await startSilentTls(t);
  const relay = await startRelay(t, changes);
  const first = openRawEnvoy(t, relay.config.socketPath);
  const dialled = await dials.next();
  const disconnected = once(dialled, 'close');
  openRawEnvoy(t, relay.config.socketPath);
  assert.equal((await first.ended).grpcStatus, 0);
  await disconnected;
  await dials.next();
});

test('when Envoy half-closes, resets or disconnects, the stream to istiod ends', async (t) => {
  const leaves: readonly (readonly [string, (envoy: RawEnvoy) => void])[] = [
    ['half-close', (envoy) => envoy.stream.end()],
    ['reset', (envoy) => envoy.stream.close(constants.NGHTTP2_CANCEL)],
    ['disconnect', (envoy) => envoy.socket.destroy()],
  ];
  for (const [title, leave] of leaves) {
    const { envoy, upstream, relay } = await openExchange(t);
    leave(envoy);
    assert.equal(await upstream.closed, constants.NGHTTP2_CANCEL, title);
    assert.equal(await relay.sample(`${envoyEnds}{type="cancelled"}`), 1, title);
    assert.equal(await relay.sample(`${istiodEnds}{type="cancelled"}`), 0, title);
    if (title === 'half-close') assert.equal((await envoy.ended).grpcStatus, 0);
  }
});

test('close interrupts a dial', async (t) => {
  const { changes, dials } = await startSilentTls(t);
  const { config, relay } = await startRelay(t, changes);
  const envoy = openRawEnvoy(t, config.socketPath);
  await dials.next();
  await relay.close();
  assert.equal((await envoy.ended).grpcStatus, 14);
});

test('close interrupts a back-off', async (t) => {
  const backoff = new RedialBackoff({ random: () => 1, now: () => 0 });
  for (let count = 0; count < 20; count += 1) backoff.recordFailure();
  const { config, relay } = await startRelay(t, {}, { backoff });
  const envoy = openRawEnvoy(t, config.socketPath);
  // An answered PING says that the stream before it was taken.
  await new Promise<void>((resolve) => {
    envoy.session.once('remoteSettings', () => envoy.session.ping(() => resolve()));
  });
  assert.equal(relay.snapshot.stream?.state, 'connecting');
  await relay.close();
  assert.equal((await envoy.ended).grpcStatus, 14);
});
