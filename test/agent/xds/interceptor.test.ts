import assert from 'node:assert/strict';
import { once } from 'node:events';
import test, { type TestContext } from 'node:test';
import type {
  InterceptedStream,
  InterceptorFactory,
  StreamInterceptor,
} from '../../../agent/xds/interceptor.ts';
import { maxHeldResponseBytes } from '../../../agent/xds/response-path.ts';
import { maxQueuedDownstreamBytes, maxQueuedUpstreamBytes } from '../../../agent/xds/stream-pair.ts';
import { EventQueue } from './event-queue.ts';
import {
  clusterType,
  deltaRequest,
  deltaResponse,
  extensionType,
  listenerType,
  messages,
} from './messages.ts';
import { frame, openRawEnvoy, startRawIstiod } from './raw-peers.ts';
import { startRelay } from './relay-fixture.ts';

type Seen = 'response' | 'request' | 'lds' | 'close';

/** Records its calls; `stream` is what it may send with. */
class RecordingInterceptor implements StreamInterceptor {
  readonly stream: InterceptedStream;
  readonly calls = new EventQueue<readonly [Seen, Uint8Array?]>();

  constructor(stream: InterceptedStream) {
    this.stream = stream;
  }

  onResponse(message: Uint8Array): void {
    this.calls.push(['response', message]);
  }

  onRequest(message: Uint8Array): void {
    this.calls.push(['request', message]);
  }

  onLdsRequested(): void {
    this.calls.push(['lds']);
  }

  close(): void {
    this.calls.push(['close']);
  }
}

async function openIntercepted(t: TestContext, options: { readonly isReading?: boolean } = {}) {
  const opened = new EventQueue<RecordingInterceptor>();
  const factory: InterceptorFactory = {
    typeUrl: extensionType,
    open(stream) {
      const interceptor = new RecordingInterceptor(stream);
      opened.push(interceptor);
      return interceptor;
    },
  };
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(t, { discoveryAddress: istiod.address }, { interceptors: [factory] });
  const envoy = openRawEnvoy(t, relay.config.socketPath, options);
  const upstream = await istiod.streams.next();
  return { envoy, upstream, relay, interceptor: await opened.next() };
}

test('messages of an intercepted type go to its interceptor whole, all others pass', async (t) => {
  const { envoy, upstream, interceptor, relay } = await openIntercepted(t);
  assert.equal(interceptor.stream.id, 1);
  assert.equal(interceptor.stream.kind, 'delta');
  const subscribe = deltaRequest(extensionType, { resource_names_subscribe: ['a'] });
  envoy.send(subscribe, deltaRequest(clusterType));
  assert.deepEqual(await interceptor.calls.next(), ['request', subscribe]);
  assert.deepEqual(await upstream.requests.next(), deltaRequest(clusterType));
  const push = deltaResponse(extensionType, 3_000_000);
  upstream.send(push, deltaResponse(clusterType, 9));
  const [call, message] = await interceptor.calls.next();
  assert.equal(call, 'response');
  assert.deepEqual(Buffer.from(message ?? []), push);
  assert.deepEqual(await envoy.responses.next(), deltaResponse(clusterType, 9));
  assert.equal(await relay.sample('istio_agent_xds_proxy_requests'), 1);
  assert.equal(await relay.sample('istio_agent_xds_proxy_responses'), 2);
});

/** A response that is named after one type and begins with a resource of another. */
function mixedResponse(sizeBytes: number): Buffer {
  const resources = [
    { type_url: clusterType, value: Buffer.alloc(sizeBytes) },
    { type_url: extensionType, value: Buffer.from('a config with its secret') },
  ];
  return messages.delta.response.encode({
    type_url: extensionType,
    nonce: 'n',
    resources: resources.map((resource) => ({ name: 'r', resource })),
  });
}

test('a response that is named after an intercepted type goes to its interceptor, whatever it begins with', async (t) => {
  const { envoy, upstream, interceptor } = await openIntercepted(t);
  upstream.send();
  for (const sizeBytes of [1, 60_000]) {
    const mixed = mixedResponse(sizeBytes);
    const bytes = frame(mixed);
    // In one piece, and in two whose border is in its name.
    for (const border of [0, bytes.length - 10]) {
      upstream.stream.write(bytes.subarray(0, border));
      upstream.stream.write(bytes.subarray(border));
      const [call, message] = await interceptor.calls.next();
      assert.equal(call, 'response');
      assert.deepEqual(Buffer.from(message ?? []), mixed);
    }
  }
  upstream.send(deltaResponse(clusterType, 9));
  assert.deepEqual(await envoy.responses.next(), deltaResponse(clusterType, 9));
  assert.equal(envoy.responses.pendingCount, 0);
});

for (const sizeBytes of [70_000, 1_000_000]) {
  test(`of such a response of ${sizeBytes} bytes Envoy never gets the end`, async (t) => {
    const { envoy, upstream } = await openIntercepted(t);
    upstream.send(mixedResponse(sizeBytes));
    const end = await envoy.ended;
    assert.equal(end.grpcStatus, 13);
    assert.match(
      end.grpcMessage ?? '',
      /^istiod sent a response of \d+ bytes that is named \S+TypedExtensionConfig and begins with a resource of type \S+Cluster$/,
    );
    assert.equal(envoy.responses.pendingCount, 0);
  });
}

test('messages of the agent wait for the end of a relayed message, and keep their order', async (t) => {
  const { envoy, upstream, interceptor } = await openIntercepted(t);
  const relayed = deltaResponse(clusterType, 400_000);
  const bytes = frame(relayed);
  upstream.send();
  upstream.stream.write(bytes.subarray(0, 200_000));
  if (envoy.reader.receivedBytes === 0) await once(envoy.stream, 'data');
  const made = [1, 2, 3].map((size) => deltaResponse(extensionType, size * 3000));
  for (const message of made) interceptor.stream.sendDownstream(message);
  upstream.stream.write(bytes.subarray(200_000));
  for (const expected of [relayed, ...made]) assert.deepEqual(await envoy.responses.next(), expected);
  // At a boundary they are not held back.
  interceptor.stream.sendDownstream(Buffer.alloc(0));
  assert.deepEqual(await envoy.responses.next(), Buffer.alloc(0));
});

test('requests of the agent go up in order with those of Envoy, and are counted', async (t) => {
  const { envoy, upstream, interceptor, relay } = await openIntercepted(t);
  const requests = [
    deltaRequest(listenerType),
    deltaRequest(extensionType, { response_nonce: '1' }),
    deltaRequest(listenerType, { response_nonce: '2' }),
  ] as const;
  envoy.send(requests[0]);
  // Told after the request was queued, so that what is sent now comes after it.
  assert.deepEqual(await interceptor.calls.next(), ['lds']);
  interceptor.stream.sendUpstream(requests[1]);
  envoy.send(requests[2]);
  for (const expected of requests) assert.deepEqual(await upstream.requests.next(), expected);
  assert.equal(await relay.sample('istio_agent_xds_proxy_requests'), 3);
  assert.equal(interceptor.calls.pendingCount, 0, 'only the first LDS request is told');
});

test('requests that come in one piece go up in order, also around one that an interceptor sends on', async (t) => {
  const factory: InterceptorFactory = {
    typeUrl: extensionType,
    open: (stream) => ({
      onResponse: () => undefined,
      onRequest: (message) => stream.sendUpstream(message),
      close: () => undefined,
    }),
  };
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(t, { discoveryAddress: istiod.address }, { interceptors: [factory] });
  const envoy = openRawEnvoy(t, relay.config.socketPath);
  const requests = [clusterType, clusterType, extensionType, '', listenerType, clusterType].map(
    (typeUrl, index) => deltaRequest(typeUrl, { response_nonce: String(index) }),
  );
  requests.splice(3, 0, Buffer.alloc(0));
  const bytes = Buffer.concat(requests.map((request) => frame(request)));
  envoy.stream.write(bytes);
  const upstream = await istiod.streams.next();
  for (const expected of requests) assert.deepEqual(await upstream.requests.next(), expected);
  // Cut in a header and in a message.
  for (const border of [2, bytes.length - 3]) {
    envoy.stream.write(bytes.subarray(0, border));
    envoy.stream.write(bytes.subarray(border));
    for (const expected of requests) assert.deepEqual(await upstream.requests.next(), expected);
  }
  assert.equal(await relay.sample('istio_agent_xds_proxy_requests'), 3 * requests.length);
});

test('an interceptor may end the stream; calls after the end do nothing', async (t) => {
  const { envoy, upstream, interceptor } = await openIntercepted(t);
  envoy.send(deltaRequest(clusterType));
  await upstream.requests.next();
  interceptor.stream.end({ code: 10, message: 'again, please' });
  assert.deepEqual(await interceptor.calls.next(), ['close']);
  interceptor.stream.sendDownstream(deltaResponse(extensionType));
  interceptor.stream.sendUpstream(deltaRequest(extensionType));
  interceptor.stream.end({ code: 0, message: '' });
  const end = await envoy.ended;
  assert.deepEqual([end.grpcStatus, end.grpcMessage], [10, 'again, please']);
  assert.equal(await upstream.closed, 8);
  assert.equal(upstream.requests.pendingCount, 0);
  assert.equal(envoy.responses.pendingCount, 0);
  assert.equal(interceptor.calls.pendingCount, 0, 'closed once');
});

test('an interceptor that throws ends its stream and nothing else', async (t) => {
  const istiod = await startRawIstiod(t);
  const fail = (): never => {
    throw new Error('defect');
  };
  const throwing: StreamInterceptor = { onResponse: fail, onRequest: fail, close: fail };
  const factories: InterceptorFactory[] = [
    { typeUrl: extensionType, open: () => throwing },
    { typeUrl: extensionType, open: fail },
  ];
  for (const factory of factories) {
    const relay = await startRelay(t, { discoveryAddress: istiod.address }, { interceptors: [factory] });
    const envoy = openRawEnvoy(t, relay.config.socketPath);
    envoy.send(deltaRequest(extensionType));
    const end = await envoy.ended;
    assert.equal(end.grpcStatus, 13);
    assert.ok(relay.logLines.some(({ level, reason }) => level === 'error' && reason === 'defect'));
  }
});

test('a push of an intercepted type over the bound ends the stream before it is held', async (t) => {
  const { envoy, upstream } = await openIntercepted(t);
  const start = frame(deltaResponse(extensionType, 100));
  start.writeUInt32BE(maxHeldResponseBytes + 1, 1);
  upstream.send();
  upstream.stream.write(start);
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 8);
  assert.match(
    end.grpcMessage ?? '',
    /67108865 bytes for .*TypedExtensionConfig, the bound .* 67108864 bytes/,
  );
});

test('messages of the agent for an Envoy that does not read are bounded', async (t) => {
  const { upstream, interceptor, relay } = await openIntercepted(t, { isReading: false });
  const message = Buffer.alloc(1024 * 1024);
  const count = maxQueuedDownstreamBytes / message.length;
  for (let sent = 0; sent < count; sent += 1) interceptor.stream.sendDownstream(message);
  interceptor.stream.sendDownstream(message);
  interceptor.stream.sendDownstream(message);
  assert.deepEqual(await interceptor.calls.next(), ['close']);
  const { lastEnd } = relay.relay.snapshot;
  assert.deepEqual([lastEnd?.status.code, lastEnd?.side], [8, 'agent']);
  assert.match(lastEnd?.status.message ?? '', /queue to Envoy, bounded at 134217728 bytes/);
  await upstream.closed;
});

test('messages of the agent for an istiod that does not read are bounded', async (t) => {
  const { envoy, upstream, interceptor } = await openIntercepted(t);
  upstream.stream.pause();
  const message = Buffer.alloc(1024 * 1024);
  for (let sent = 0; sent <= maxQueuedUpstreamBytes / message.length; sent += 1) {
    interceptor.stream.sendUpstream(message);
  }
  assert.deepEqual(await interceptor.calls.next(), ['close']);
  const end = await envoy.ended;
  assert.equal(end.grpcStatus, 8);
  assert.match(end.grpcMessage ?? '', /queue to istiod, bounded at 16777216 bytes/);
});
