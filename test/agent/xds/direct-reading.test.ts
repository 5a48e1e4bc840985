import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import test, { type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { readDirectly } from '../../../agent/xds/direct-reading.ts';

/** Four default windows of HTTP/2: without the window given back it never comes. */
const contentBytes = 256 * 1024;

/** What is done with the stream, one after the other, over and over until it ends. */
const step = fc.constantFrom(
  'pause' as const,
  'resume' as const,
  'pause in listener' as const,
  'turn' as const,
);

async function startServer(t: TestContext, answer: (stream: ServerHttp2Stream) => void): Promise<string> {
  const server = createServer();
  server.on('stream', answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('all bytes come once and in order, however the stream is paused and resumed, and then its end', async (t) => {
  const content = Buffer.alloc(contentBytes);
  for (let at = 0; at < contentBytes; at += 4) content.writeUInt32BE(at, at);
  const url = await startServer(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.end(content);
  });
  const session = connect(url);
  t.after(() => session.close());
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const stream = session.request({ ':path': '/' });
      readDirectly(stream);
      const seen: Buffer[] = [];
      let isPausing = false;
      stream.on('data', (chunk: Buffer) => {
        seen.push(chunk);
        if (isPausing) stream.pause();
        isPausing = false;
      });
      while (!stream.readableEnded) {
        for (const each of steps) {
          if (each === 'pause') stream.pause();
          else if (each === 'resume') stream.resume();
          else if (each === 'pause in listener') isPausing = true;
          else await turn();
        }
        stream.resume();
        await turn();
      }
      assert.deepEqual(Buffer.concat(seen).equals(content), true);
    }),
    { numRuns: 60 },
  );
});

test('a paused stream takes no more than its window and what it may hold', async (t) => {
  let server: ServerHttp2Stream | undefined;
  const url = await startServer(t, (stream) => {
    server = stream;
    stream.respond({ ':status': 200 });
    stream.write(Buffer.alloc(16 * contentBytes));
  });
  const session = connect(url);
  t.after(() => session.destroy());
  const stream = session.request({ ':path': '/' });
  readDirectly(stream);
  let seenBytes = 0;
  stream.on('data', (chunk: Buffer) => {
    seenBytes += chunk.length;
    stream.pause();
  });
  await once(stream, 'pause');
  for (let count = 0; count < 200; count += 1) await turn();
  assert.ok(seenBytes <= 64 * 1024, `${seenBytes} bytes were given out`);
  assert.ok((server?.writableLength ?? 0) > 8 * contentBytes, 'the rest waits at the server');
});
