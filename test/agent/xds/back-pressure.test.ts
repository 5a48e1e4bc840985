import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ClientHttp2Stream, ServerHttp2Stream } from 'node:http2';
import test from 'node:test';
import { forkRelay } from './forked-relay.ts';
import { clusterType, deltaRequest, deltaResponse } from './messages.ts';
import { deltaPath, frame, openRawEnvoy, startRawIstiod } from './raw-peers.ts';
import { startRelay } from './relay-fixture.ts';

const mebibyte = 1024 * 1024;

/** Writes for as long as the other side takes; resolves with how many bytes it took before it stopped. */
async function fill(stream: ServerHttp2Stream | ClientHttp2Stream, bytes: Buffer): Promise<number> {
  const chunkBytes = 64 * 1024;
  let written = 0;
  while (written < bytes.length) {
    const chunk = bytes.subarray(written, written + chunkBytes);
    const isTaken = await new Promise<boolean>((resolve) => {
      // A write is done when the peer's window had room for it; a stalled peer never opens one. A PING that came back
      // since says that everything before it was dealt with.
      stream.write(chunk, () => resolve(true));
      let pings = 0;
      const ping = (): void => {
        if (pings === 200) resolve(false);
        else if (stream.session?.destroyed === false) {
          pings += 1;
          stream.session.ping(() => setImmediate(ping));
        }
      };
      ping();
    });
    if (!isTaken) return written;
    written += chunk.length;
  }
  return written;
}

test('a push of 100 MB to an Envoy that does not read stays with istiod, and arrives whole afterwards', async (t) => {
  const istiod = await startRawIstiod(t);
  const relay = await forkRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, relay.config.socketPath, { isReading: false });
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  await upstream.requests.next();
  // Warm up: code and windows of a first megabyte are not growth.
  const warmUp = frame(deltaResponse(clusterType, mebibyte));
  upstream.send();
  upstream.stream.write(warmUp);
  let receivedBytes = 0;
  const take = async (untilBytes: number): Promise<void> => {
    while (receivedBytes < untilBytes) {
      const chunk = envoy.stream.read() as Buffer | null;
      if (chunk === null) await once(envoy.stream, 'readable');
      else receivedBytes += chunk.length;
    }
  };
  await take(warmUp.length);
  const beforeBytes = await relay.rssBytes();

  const push = frame(deltaResponse(clusterType, 100 * mebibyte));
  const takenBytes = await fill(upstream.stream, push);
  assert.ok(takenBytes < 20 * mebibyte, `istiod could send ${takenBytes} bytes`);
  const stalledBytes = await relay.rssBytes();
  assert.ok(stalledBytes - beforeBytes < 40 * mebibyte, `RSS grew by ${stalledBytes - beforeBytes} bytes`);

  // The chunk that was not taken is still queued at istiod; the rest follows it.
  upstream.stream.write(push.subarray(takenBytes + 64 * 1024));
  await take(warmUp.length + push.length);
  assert.equal(receivedBytes, warmUp.length + push.length);
  const afterBytes = await relay.rssBytes();
  assert.ok(afterBytes - beforeBytes < 40 * mebibyte, `RSS grew by ${afterBytes - beforeBytes} bytes`);
});

test('requests to an istiod that does not read stay with Envoy, and arrive whole afterwards', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath);
  const upstream = await istiod.streams.next();
  upstream.stream.pause();
  const request = deltaRequest(clusterType, { node: { id: 'n'.repeat(mebibyte) } });
  const count = 40;
  const bytes = Buffer.concat(Array.from({ length: count }, () => frame(request)));
  const takenBytes = await fill(envoy.stream, bytes);
  assert.ok(takenBytes < 20 * mebibyte, `Envoy could send ${takenBytes} bytes`);
  // The other direction is free meanwhile.
  upstream.send(deltaResponse(clusterType, 10_000));
  assert.deepEqual(await envoy.responses.next(), deltaResponse(clusterType, 10_000));
  upstream.stream.resume();
  envoy.stream.write(bytes.subarray(takenBytes + 64 * 1024));
  for (let index = 0; index < count; index += 1) assert.deepEqual(await upstream.requests.next(), request);
});

test('an Envoy that does not read does not hold its own requests back', async (t) => {
  const istiod = await startRawIstiod(t);
  const { config, sample } = await startRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, config.socketPath, { isReading: false });
  const upstream = await istiod.streams.next();
  upstream.send();
  await fill(upstream.stream, frame(deltaResponse(clusterType, 20 * mebibyte)));
  const request = deltaRequest(clusterType);
  envoy.send(request);
  assert.deepEqual(await upstream.requests.next(), request);
  assert.equal(await sample('istio_agent_xds_proxy_requests'), 1);
  assert.equal(envoy.stream.sentHeaders[':path'], deltaPath);
});
