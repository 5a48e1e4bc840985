import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import test from 'node:test';
import { forkRelay } from './forked-relay.ts';
import { clusterType, deltaRequest } from './messages.ts';
import { openRawEnvoy, sotwPath, startRawIstiod } from './raw-peers.ts';

const mebibyte = 1024 * 1024;
/** The largest message that gRPC libraries can name, in bytes. */
const messageBytes = 2 ** 31 - 1;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return Buffer.from(bytes);
}

const field = (number: number, length: number): Buffer =>
  Buffer.concat([Buffer.from([number * 8 + 2]), varint(length)]);

/** A SotW response with one resource of zeros, up to where the zeros begin; they are its last field but the type. */
function startOfPush(): { readonly start: Buffer; readonly zeroBytes: number; readonly end: Buffer } {
  const type = Buffer.from(clusterType);
  const end = Buffer.concat([field(4, type.length), type]);
  const typeOfAny = Buffer.concat([field(1, type.length), type]);
  // Tag and length of `resources` and of `Any.value` take six bytes each at this size.
  const zeroBytes = messageBytes - end.length - typeOfAny.length - 12;
  const any = Buffer.concat([typeOfAny, field(2, zeroBytes)]);
  const framing = Buffer.alloc(5);
  framing.writeUInt32BE(messageBytes, 1);
  return { start: Buffer.concat([framing, field(2, any.length + zeroBytes), any]), zeroBytes, end };
}

test('a push of 2 GiB less one byte arrives whole and is never held', async (t) => {
  const istiod = await startRawIstiod(t);
  const relay = await forkRelay(t, { discoveryAddress: istiod.address });
  const envoy = openRawEnvoy(t, relay.config.socketPath, {
    isReading: false,
    headers: { ':path': sotwPath },
  });
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  await upstream.requests.next();
  upstream.send();
  const beforeBytes = await relay.rssBytes();

  const { start, zeroBytes, end } = startOfPush();
  const totalBytes = start.length + zeroBytes + end.length;
  assert.equal(totalBytes, messageBytes + 5);
  const sent = createHash('sha1');
  const received = createHash('sha1');
  let receivedBytes = 0;
  const arrived = new Promise<void>((resolve, reject) => {
    envoy.ended.then((end) => reject(new Error(`The stream ended: ${end.grpcMessage}`)), reject);
    envoy.stream.on('data', (chunk: Buffer) => {
      received.update(chunk);
      receivedBytes += chunk.length;
      if (receivedBytes >= totalBytes) resolve();
    });
  });
  const write = async (bytes: Buffer): Promise<void> => {
    sent.update(bytes);
    if (!upstream.stream.write(bytes)) await Promise.race([once(upstream.stream, 'drain'), arrived]);
  };
  await write(start);
  const zeros = Buffer.alloc(mebibyte);
  for (let left = zeroBytes; left > 0; left -= zeros.length) await write(zeros.subarray(0, left));
  await write(end);
  await arrived;
  assert.equal(receivedBytes, totalBytes);
  assert.equal(received.digest('hex'), sent.digest('hex'));
  const grownBytes = (await relay.rssBytes()) - beforeBytes;
  assert.ok(grownBytes < 60 * mebibyte, `RSS grew by ${grownBytes} bytes`);
});
