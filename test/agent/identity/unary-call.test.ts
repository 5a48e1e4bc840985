import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  createServer as createHttp2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import test, { type TestContext } from 'node:test';
import { callUnary, type UnaryCallOptions } from '../../../agent/identity/unary-call.ts';
import { atEnd } from '../../support/test-end.ts';

const emptyFrame = Buffer.alloc(5);
/** A SETTINGS frame without settings: all that a peer needs to take a connection for HTTP/2. */
const settingsFrame = Buffer.from('000000040000000000', 'hex');

async function listen(t: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(t, () => void server.close());
  return (server.address() as AddressInfo).port;
}

/** A server of HTTP/2 whose streams go to `onStream`. */
async function startServer(t: TestContext, onStream: (stream: ServerHttp2Stream) => void) {
  const server = createHttp2Server();
  const sessions: ServerHttp2Session[] = [];
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => undefined);
  });
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    onStream(stream);
  });
  return { port: await listen(t, server), sessions };
}

async function call(port: number, changes: Partial<UnaryCallOptions> = {}) {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const outcome = callUnary(socket, {
    headers: { ':method': 'POST', ':path': '/a.B/C', 'content-type': 'application/grpc', te: 'trailers' },
    message: Buffer.from('hello'),
    maxAnswerBytes: 1000,
    timeoutMs: 60_000,
    keepaliveIntervalMs: 60_000,
    keepaliveTimeoutMs: 60_000,
    signal: new AbortController().signal,
    ...changes,
  });
  return { outcome, socket };
}

test('one message goes out and half-closes the stream; the answer comes back, the connection is closed', async (t) => {
  const received: Buffer[] = [];
  const { port } = await startServer(t, (stream) => {
    stream.on('data', (chunk: Buffer) => received.push(chunk));
    stream.once('end', () => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      // Cut in the middle of the framing.
      const frame = Buffer.from(`0000000005${Buffer.from('world').toString('hex')}`, 'hex');
      stream.write(frame.subarray(0, 3));
      stream.end(frame.subarray(3));
    });
  });
  const { outcome, socket } = await call(port);
  const answered = await outcome;
  assert.ok(answered.kind === 'answer');
  assert.equal(answered.message.toString(), 'world');
  assert.equal(Buffer.concat(received).toString('hex'), `0000000005${Buffer.from('hello').toString('hex')}`);
  assert.equal(socket.destroyed, true);
});

test('a server that never answers is given up when the time is over', async (t) => {
  const { port } = await startServer(t, (stream) => void stream.resume());
  const { outcome, socket } = await call(port, { timeoutMs: 20 });
  assert.deepEqual(await outcome, {
    kind: 'failed',
    status: { code: 4, message: 'no complete answer within 20 ms' },
  });
  assert.equal(socket.destroyed, true);
});

test('a connection that is half open is found by a PING', async (t) => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.resume();
    // Speaks HTTP/2 just long enough to be believed.
    socket.write(settingsFrame);
  });
  atEnd(t, () => {
    for (const socket of sockets) socket.destroy();
  });
  const { outcome } = await call(await listen(t, server), { keepaliveIntervalMs: 5, keepaliveTimeoutMs: 5 });
  const failed = await outcome;
  assert.ok(failed.kind === 'failed');
  assert.equal(failed.status.code, 14);
  assert.match(failed.status.message, /did not answer a keepalive PING within 5 ms/);
});

for (const { name, end, pattern, code } of [
  {
    name: 'a stream that is reset',
    end: (stream: ServerHttp2Stream) => stream.close(7),
    code: 14,
    pattern: /RST_STREAM with error code: REFUSED_STREAM/,
  },
  {
    name: 'a connection that is cut',
    end: (stream: ServerHttp2Stream) => void stream.session?.socket.destroy(),
    code: 14,
    pattern: /error reading from server/,
  },
  {
    name: 'a server that goes away',
    end: (stream: ServerHttp2Stream) => stream.session?.destroy(),
    code: 14,
    pattern: /error reading from server/,
  },
  {
    name: 'an answer that is cut by the end of the stream',
    end: (stream: ServerHttp2Stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.end(emptyFrame.subarray(0, 3));
    },
    code: 13,
    pattern: /ended without a status/,
  },
]) {
  test(`${name} is a failed call`, async (t) => {
    const { port } = await startServer(t, end);
    const failed = await (await call(port)).outcome;
    assert.ok(failed.kind === 'failed');
    assert.equal(failed.status.code, code, failed.status.message);
    assert.match(failed.status.message, pattern);
  });
}

test('an abort rejects with its reason and closes the connection, before and during the call', async (t) => {
  const seen = Promise.withResolvers<void>();
  const { port } = await startServer(t, () => seen.resolve());
  const ending = new AbortController();
  const { outcome, socket } = await call(port, { signal: ending.signal });
  const rejected = assert.rejects(outcome, { message: 'ending' });
  await seen.promise;
  ending.abort(new Error('ending'));
  await rejected;
  assert.equal(socket.destroyed, true);
  const late = await call(port, { signal: ending.signal });
  await assert.rejects(late.outcome, { message: 'ending' });
});

test('headers that cannot be sent are a failed call, not a crash', async (t) => {
  const { port } = await startServer(t, () => undefined);
  const failed = await (await call(port, { headers: { connection: 'close' } })).outcome;
  assert.equal(failed.kind, 'failed');
});
