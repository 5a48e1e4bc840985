import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { Metadata } from '@grpc/grpc-js';
import { type GrpcEnvoy, type GrpcIstiodStream, openGrpcEnvoy, startGrpcIstiod } from './grpc-peers.ts';
import {
  clusterType,
  deltaRequest,
  deltaResponse,
  extensionType,
  messages,
  sotwResponse,
} from './messages.ts';
import { startRelay } from './relay-fixture.ts';

test('both kinds of stream work between two grpc-js peers, and the kind is kept', async (t) => {
  const istiod = await startGrpcIstiod(t);
  const { config } = await startRelay(t, { discoveryAddress: istiod.address });
  const request = {
    sotw: messages.sotw.request.encode({ type_url: clusterType }),
    delta: deltaRequest(clusterType),
  };
  const response = { sotw: sotwResponse(clusterType, 100_000), delta: deltaResponse(clusterType, 100_000) };
  for (const kind of ['sotw', 'delta'] as const) {
    const envoy = openGrpcEnvoy(t, config.socketPath, kind);
    envoy.call.write(request[kind]);
    const upstream = await istiod.streams.next();
    assert.equal(upstream.kind, kind);
    assert.deepEqual(upstream.metadata.get('clusterid'), ['Kubernetes']);
    assert.deepEqual(await upstream.requests.next(), request[kind]);
    upstream.call.write(response[kind]);
    assert.deepEqual(await envoy.responses.next(), response[kind]);
    upstream.call.emit('error', { code: 9, details: 'näh', metadata: new Metadata() });
    const status = await envoy.status;
    assert.deepEqual([status.code, status.details], [9, 'näh']);
  }
});

test('a grpc-js client gets every status that the relay makes itself', async (t) => {
  const { config, relay } = await startRelay(t, { discoveryAddress: '127.0.0.1:1' });
  const refused = await openGrpcEnvoy(t, config.socketPath, 'delta').status;
  assert.equal(refused.code, 14);
  assert.match(refused.details, /ECONNREFUSED/);
  await relay.close();
});

const captures = fileURLToPath(new URL('../../../../shared/captures', import.meta.url));

interface CapturedMessage {
  readonly kind: string;
  readonly leg: string;
  readonly dir: string;
  readonly conn: number;
  readonly stream: number;
  readonly bytes: string;
  readonly type_url: string;
}

/** ADS messages of a recording, in order. */
function readCapture(file: string): readonly CapturedMessage[] {
  return readFileSync(join(captures, file), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as CapturedMessage & { readonly method?: string })
    .filter(
      ({ kind, method }) => kind === 'message' && method?.includes('AggregatedDiscoveryService') === true,
    );
}

const own = new Set([
  'type.googleapis.com/istio.networking.nds.v1.NameTable',
  'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig',
]);

const skip = existsSync(captures) ? false : `no recordings in ${captures}`;

test('recorded messages of a real istiod and a real Envoy pass byte for byte', { skip }, async (t) => {
  const istiod = await startGrpcIstiod(t);
  for (const file of readdirSync(captures).filter((name) => name.endsWith('.jsonl'))) {
    await t.test(file, async (t) => {
      const recorded = readCapture(file);
      const bytes = (dir: string, isPassed: (typeUrl: string) => boolean): Buffer[] =>
        recorded
          .filter((message) => message.dir === dir && isPassed(message.type_url))
          .map((message) => Buffer.from(message.bytes, 'base64'));
      const relay = await startRelay(t, { discoveryAddress: istiod.address });
      const kind = file.includes('.sotw.') ? 'sotw' : 'delta';
      const envoy: GrpcEnvoy = openGrpcEnvoy(t, relay.config.socketPath, kind);
      const requests = bytes('envoy>agent', () => true);
      assert.ok(requests.length > 0, 'the recording has requests');
      for (const request of requests) envoy.call.write(request);
      const upstream: GrpcIstiodStream = await istiod.streams.next();
      for (const request of requests) assert.deepEqual(await upstream.requests.next(), request);

      for (const response of bytes('istiod>agent', () => true)) upstream.call.write(response);
      const isRelayed = (typeUrl: string): boolean => !own.has(typeUrl);
      const passed = bytes('istiod>agent', isRelayed);
      assert.ok(passed.length > 0, 'the recording has responses');
      for (const response of passed) assert.deepEqual(await envoy.responses.next(), response);

      // What the recorded agent sent to Envoy is the same, but for the extension configs that it rewrote.
      const isUnchanged = (typeUrl: string): boolean => isRelayed(typeUrl) && typeUrl !== extensionType;
      const expected = bytes('agent>envoy', isUnchanged);
      const got = bytes('istiod>agent', isUnchanged);
      // A recording may end between the two legs.
      assert.deepEqual(got.slice(0, expected.length), expected);
      assert.ok(got.length - expected.length <= 2, `${got.length} to ${expected.length}`);
    });
  }
});
