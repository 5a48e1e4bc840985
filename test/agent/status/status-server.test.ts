import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { Exchange, Route } from '../../../agent/status/route.ts';
import { StatusServer, StatusServerError } from '../../../agent/status/status-server.ts';
import { ask, type HttpAnswer, RecordingLog, StatusFixture } from './status-fixture.ts';

function routeOf(path: string, handle: (exchange: Exchange) => Promise<void>): Route {
  return { path, localOnly: false, method: undefined, handle };
}

async function startWith(...moreRoutes: readonly Route[]): Promise<StatusFixture> {
  return StatusFixture.start({ moreRoutes });
}

/** Sends raw bytes and gives everything that comes back until the connection ends. */
async function exchangeRaw(port: number, bytes: string): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port });
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString('latin1')));
  socket.write(bytes);
  await once(socket, 'close');
  return text;
}

test('a port that is taken is an error that says which, why and what to do', async () => {
  await using fixture = await StatusFixture.start();
  const { port } = fixture.server;
  const second = new StatusServer({ port, routes: [], log: new RecordingLog() });
  await assert.rejects(second.listen(), (error) => {
    assert.ok(error instanceof StatusServerError);
    assert.equal(error.code, 'bind');
    assert.match(error.message, new RegExp(`port ${port}`));
    assert.match(error.message, /EADDRINUSE/);
    assert.match(error.message, /statusPort/);
    return true;
  });
  await second.close();
  await assert.rejects(second.listen(), { code: 'state' });
});

test('a server that never listened, or is closed twice, closes', async () => {
  const server = new StatusServer({ port: 0, routes: [], log: new RecordingLog() });
  await server.close();
  await server.close();
  assert.throws(() => server.port, { code: 'state' });
});

test('both address families are served', async (context) => {
  await using fixture = await StatusFixture.start();
  assert.equal((await fixture.ask('/healthz/ready', { host: '127.0.0.1' })).status, 200);
  try {
    assert.equal((await fixture.ask('/healthz/ready', { host: '::1' })).status, 200);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL') throw error;
    context.diagnostic('this machine has no IPv6 loopback address');
  }
});

test('close refuses new connections at once while an open answer finishes', async () => {
  const gate = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  const fixture = await startWith(
    routeOf('/slow', async ({ answer }) => {
      started.resolve();
      await gate.promise;
      await answer.endWithText(200, 'finished');
    }),
  );
  const { port } = fixture.server;
  // A connection that its client would keep, and that is open when the listener closes.
  const agent = new Agent({ keepAlive: true });
  const open = fixture.ask('/slow', { agent });
  await started.promise;
  const closing = fixture.server.close();
  await assert.rejects(ask(port, '/healthz/ready'), { code: 'ECONNREFUSED' });
  gate.resolve();
  assert.equal((await open).body.toString(), 'finished');
  await closing;
  assert.deepEqual(fixture.log.messages('warn'), [], 'nothing was broken off');
  agent.destroy();
});

test('without its listener the server still finishes open answers, however long they take', async () => {
  const gate = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  // With no grace at all, so that close would break them at once.
  const fixture = await StatusFixture.start({
    closeGraceMs: 0,
    moreRoutes: [
      routeOf('/hook', async ({ answer }) => {
        started.resolve();
        await gate.promise;
        await answer.endWithText(200, 'finished');
      }),
    ],
  });
  const { port } = fixture.server;
  const open = fixture.ask('/hook');
  await started.promise;
  fixture.server.stopListening();
  await assert.rejects(ask(port, '/healthz/ready'), { code: 'ECONNREFUSED' });
  gate.resolve();
  assert.equal((await open).body.toString(), 'finished');
  await fixture.server.close();
  assert.deepEqual(fixture.log.messages('warn'), [], 'nothing was broken off');
});

test('close ends idle connections', async () => {
  const fixture = await StatusFixture.start();
  const agent = new Agent({ keepAlive: true });
  const outgoing = request({ port: fixture.server.port, path: '/healthz/ready', agent }).end();
  const [response] = (await once(outgoing, 'response')) as [NodeJS.ReadableStream];
  const { socket } = outgoing;
  response.resume();
  await once(response, 'end');
  const ended = once(socket as NonNullable<typeof socket>, 'close');
  await fixture.server.close();
  await ended;
  agent.destroy();
});

test('an answer that outlives the grace of close is broken, with a log line', async () => {
  const started = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<unknown>();
  const fixture = await StatusFixture.start({
    closeGraceMs: 20,
    moreRoutes: [
      routeOf('/hung', async ({ answer }) => {
        answer.clientGone.addEventListener('abort', () => gone.resolve(answer.clientGone.reason));
        started.resolve();
        await gone.promise;
      }),
    ],
  });
  const open = fixture.ask('/hung');
  const broken = assert.rejects(open, { code: 'ECONNRESET' });
  await started.promise;
  await fixture.server.close();
  await broken;
  assert.equal(((await gone.promise) as Error).name, 'ClientGoneError');
  assert.ok(
    fixture.log.messages('warn').includes('status server breaks answers that were still open'),
    'no log line',
  );
});

const bigText = 'metric_with_a_name{label="value"} 1\n'.repeat(1000);

async function askCompressed(size: number, acceptEncoding?: string, method = 'GET'): Promise<HttpAnswer> {
  await using fixture = await startWith(
    routeOf('/text', async ({ answer }) => {
      // Several writes: the decision is made on all bytes so far.
      const bytes = Buffer.from(bigText.slice(0, size));
      for (let at = 0; at < size; at += 700) await answer.write(bytes.subarray(at, Math.min(size, at + 700)));
      await answer.end();
    }),
  );
  const headers = acceptEncoding === undefined ? {} : { 'accept-encoding': acceptEncoding };
  return await fixture.ask('/text', { headers, method });
}

const compressions: readonly (readonly [number, string | undefined, string | undefined])[] = [
  [36_000, undefined, undefined],
  [36_000, 'br', undefined],
  [36_000, 'gzip', 'gzip'],
  [36_000, 'gzip, deflate, br, zstd', 'zstd'],
  [36_000, 'gzip;q=1, zstd;q=0.9', 'gzip'],
  [1024, 'gzip', 'gzip'],
  [1023, 'gzip', undefined],
  [0, 'gzip', undefined],
];

for (const [size, header, encoding] of compressions) {
  test(`${size} bytes for Accept-Encoding ${header ?? '(absent)'} go out ${encoding ?? 'plain'}`, async () => {
    const answer = await askCompressed(size, header);
    assert.equal(answer.headers['content-encoding'], encoding);
    assert.equal(answer.headers.vary, 'Accept-Encoding');
    const body =
      encoding === 'gzip'
        ? gunzipSync(answer.body)
        : encoding === 'zstd'
          ? zstdDecompressSync(answer.body)
          : answer.body;
    assert.equal(body.toString(), bigText.slice(0, size));
    assert.equal(answer.headers['content-length'], size < 1024 ? String(size) : undefined);
  });
}

test('HEAD gets no body and no compression', async () => {
  const answer = await askCompressed(36_000, 'gzip', 'HEAD');
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['content-encoding'], undefined);
  assert.equal(answer.body.length, 0);
});

test('a client that leaves in the middle of a compressed or plain answer ends its writer', async () => {
  for (const acceptEncoding of ['identity', 'gzip', 'zstd']) {
    const ended = Promise.withResolvers<unknown>();
    await using fixture = await startWith(
      routeOf('/endless', async ({ answer }) => {
        try {
          // Random bytes do not shrink, so that the compressor too must wait for the client.
          const noise = crypto.getRandomValues(Buffer.alloc(64 * 1024));
          for (;;) await answer.write(noise);
        } catch (error) {
          ended.resolve(error);
          throw error;
        }
      }),
    );
    const controller = new AbortController();
    const asked = fixture.ask('/endless', {
      headers: { 'accept-encoding': acceptEncoding },
      onBytes: () => controller.abort(),
      signal: controller.signal,
    });
    await asked.catch(() => undefined);
    assert.equal(((await ended.promise) as Error).name, 'ClientGoneError', acceptEncoding);
    assert.deepEqual(fixture.log.messages('error'), []);
  }
});

test('a client that leaves while a request waits behind another one ends that writer too', async () => {
  const started = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<unknown>();
  await using fixture = await startWith(
    routeOf('/first', async ({ answer }) => {
      await gate.promise;
      await answer.endWithText(200, 'first');
    }),
    routeOf('/second', async ({ answer }) => {
      started.resolve();
      try {
        for (;;) await answer.write(Buffer.from(bigText));
      } catch (error) {
        ended.resolve(error);
        throw error;
      }
    }),
  );
  const socket = connect({ host: '127.0.0.1', port: fixture.server.port });
  socket.write('GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n');
  await started.promise;
  socket.resetAndDestroy();
  assert.equal(((await ended.promise) as Error).name, 'ClientGoneError');
  gate.resolve();
});

test('a handler that fails gives 500, or a broken answer when bytes have left', async () => {
  await using fixture = await startWith(
    routeOf('/early', () => Promise.reject(new Error('broken early'))),
    routeOf('/late', async ({ answer }) => {
      await answer.write(Buffer.from(bigText));
      throw new Error('broken late');
    }),
  );
  const early = await fixture.ask('/early');
  assert.equal(early.status, 500);
  assert.equal(early.headers['x-content-type-options'], 'nosniff');
  for (const encoding of ['identity', 'gzip']) {
    const late = await fixture
      .ask('/late', { headers: { 'accept-encoding': encoding } })
      .catch((error: NodeJS.ErrnoException) => error.code);
    assert.ok(late === 'ECONNRESET' || (typeof late === 'object' && !late.isComplete), encoding);
  }
  assert.deepEqual(
    fixture.log.lines.filter((line) => line.level === 'error').map((line) => line.fields.error),
    ['broken early', 'broken late', 'broken late'],
  );
});

test('unknown, unclean and broken paths', async () => {
  await using fixture = await StatusFixture.start();
  const unknown = await fixture.ask('/nothing');
  assert.equal(unknown.status, 404);
  assert.equal(unknown.body.toString(), '404 page not found\n');
  assert.equal(unknown.headers['content-type'], 'text/plain; charset=utf-8');
  assert.equal(unknown.headers['x-content-type-options'], 'nosniff');
  assert.equal(unknown.headers.vary, 'Accept-Encoding');
  for (const method of ['GET', 'POST']) {
    const unclean = await fixture.ask('//x/..//healthz/ready?a=b', { method });
    assert.equal(unclean.status, 307);
    assert.equal(unclean.headers.location, '/healthz/ready?a=b');
  }
  assert.equal((await fixture.ask('/%zz')).status, 400);
  const absolute = await exchangeRaw(
    fixture.server.port,
    'GET http://pod:15020/healthz/ready HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n',
  );
  assert.match(absolute, /^HTTP\/1\.1 200 OK\r\n/);
});

test('a request body is thrown away and its connection not used again', async () => {
  await using fixture = await StatusFixture.start();
  const body = 'x'.repeat(100);
  const text = await exchangeRaw(
    fixture.server.port,
    `POST /healthz/ready HTTP/1.1\r\nHost: pod\r\nContent-Length: 100\r\n\r\n${body}`,
  );
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(text, /^Connection: close\r$/m);
});

test('headers over the limit are refused', async () => {
  await using fixture = await StatusFixture.start();
  const text = await exchangeRaw(
    fixture.server.port,
    `GET /healthz/ready HTTP/1.1\r\nHost: pod\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
  );
  assert.match(text, /^HTTP\/1\.1 431 /);
});

test('routes of other parts stand beside those of the agent', async () => {
  await using fixture = await startWith(
    routeOf('/app-health/', async ({ answer, path }) =>
      answer.endWithText(400, `app prober config does not exists for ${path}`),
    ),
  );
  const answer = await fixture.ask('/app-health/x/readyz');
  assert.equal(answer.status, 400);
  assert.equal(answer.body.toString(), 'app prober config does not exists for /app-health/x/readyz');
});
