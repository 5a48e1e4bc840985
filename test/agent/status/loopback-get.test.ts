import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { ChunkedBody } from '../../../agent/status/chunked-body.ts';
import { type LoopbackResponse, loopbackGet } from '../../../agent/status/loopback-get.ts';
import { ScrapeError } from '../../../agent/status/scrape-error.ts';
import { startPage, startPeer } from './status-fixture.ts';

interface RawServer extends AsyncDisposable {
  readonly port: number;
}

/** Answers each connection with the bytes of `pieces`, each in a write of its own, then closes it. */
async function startRaw(
  pieces: readonly string[],
  how: 'end' | 'reset' | 'keep_open' = 'end',
): Promise<RawServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', () => void send(socket));
  });
  const send = async (socket: Socket): Promise<void> => {
    for (const piece of pieces) await new Promise((resolve) => socket.write(piece, 'latin1', resolve));
    if (how === 'end') socket.end();
    if (how === 'reset') socket.resetAndDestroy();
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function textOf(response: LoopbackResponse): Promise<string> {
  let text = '';
  for await (const chunk of response.body) text += chunk.toString('latin1');
  return text;
}

async function get(port: number, signal = new AbortController().signal): Promise<LoopbackResponse> {
  return loopbackGet({ port, target: '/x?y', headers: new Map([['accept', 'a/b']]), signal });
}

const bodies: readonly (readonly [string, string, string])[] = [
  ['a length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more', 'hello'],
  ['no length', 'HTTP/1.0 200 OK\r\n\r\nhello', 'hello'],
  [
    'chunks',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;ext="x"\r\nhe\r\n03\r\nllo\r\n0\r\nTrailer: x\r\n\r\nrest',
    'hello',
  ],
  ['bare line feeds', 'HTTP/1.1 200\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n', 'hello'],
  [
    'an interim answer',
    'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    'hello',
  ],
  ['an empty body', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ''],
  [
    'the same length twice',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello',
    'hello',
  ],
];

for (const [what, wire, body] of bodies) {
  test(`a body with ${what} is read, in one piece and byte by byte`, async () => {
    for (const pieces of [[wire], wire.split('')]) {
      await using server = await startRaw(pieces);
      assert.equal(await textOf(await get(server.port)), body);
    }
  });
}

const faults: readonly (readonly [string, string, ScrapeError['code']])[] = [
  ['an end before the answer', '', 'cut'],
  ['an end inside of the head', 'HTTP/1.1 200 OK\r\nContent-', 'cut'],
  ['an end before the length', 'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello', 'cut'],
  ['an end inside of a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello', 'cut'],
  [
    'an end before the last chunk',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
    'cut',
  ],
  ['no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n', 'protocol'],
  ['a folded header', 'HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n', 'protocol'],
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello', 'protocol'],
  ['a negative length', 'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello', 'protocol'],
  ['an unknown coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n', 'protocol'],
  ['a bad chunk size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n', 'protocol'],
  ['data behind a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n', 'protocol'],
  ['a head without end', `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(100_000)}`, 'protocol'],
  [
    'a chunk size line without end',
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;${'x'.repeat(3000)}`,
    'protocol',
  ],
];

for (const [what, wire, code] of faults) {
  test(`an answer with ${what} is refused as ${code}`, async () => {
    await using server = await startRaw(wire === '' ? [] : [wire]);
    await assert.rejects(
      async () => textOf(await get(server.port)),
      (error) => error instanceof ScrapeError && error.code === code,
    );
  });
}

test('a reset connection is a cut answer', async () => {
  await using server = await startRaw(['HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello'], 'reset');
  await assert.rejects(async () => textOf(await get(server.port)), { name: 'ScrapeError', code: 'cut' });
});

test('an abort ends the wait for an answer and for a body with its own reason', async () => {
  for (const pieces of [[], ['HTTP/1.1 200 OK\r\n\r\nhello']]) {
    await using server = await startRaw(pieces, 'keep_open');
    const controller = new AbortController();
    const reason = new ScrapeError('timeout', 'over');
    const reading = (async () => {
      const response = await get(server.port, controller.signal);
      for await (const chunk of response.body) if (chunk.length > 0) controller.abort(reason);
    })();
    if (pieces.length === 0) controller.abort(reason);
    await assert.rejects(reading, reason);
  }
});

test('a server on the IPv6 loopback address alone is found', async (context) => {
  const server = await startRawOn('::1');
  if (server === undefined) {
    context.skip('this machine has no IPv6 loopback address');
    return;
  }
  await using started = server;
  assert.equal((await get(started.port)).status, 200);
});

async function startRawOn(host: string) {
  try {
    return await startPeer((_request, response) => response.end('x'), host);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRNOTAVAIL') return undefined;
    throw error;
  }
}

test('where nobody listens both addresses are named', async () => {
  const { port } = await withFreedPort();
  await assert.rejects(get(port), (error) => {
    assert.ok(error instanceof ScrapeError);
    assert.equal(error.code, 'connect');
    assert.match(error.message, /127\.0\.0\.1/);
    assert.match(error.message, /::1/);
    return true;
  });
});

async function withFreedPort(): Promise<{ readonly port: number }> {
  const page = await startPage('');
  const { port } = page;
  await page[Symbol.asyncDispose]();
  return { port };
}

for (const target of ['/a b', '/a\r\nX: y', '/ä€']) {
  test(`the target ${JSON.stringify(target)} is refused before a connection is made`, async () => {
    const request = { port: 1, target, headers: new Map(), signal: new AbortController().signal };
    await assert.rejects(loopbackGet(request), { name: 'ScrapeError', code: 'protocol' });
  });
}

test('chunked bodies come out the same however they are cut', () => {
  const parts = fc.array(fc.string({ minLength: 1, maxLength: 40 }), { maxLength: 6 });
  fc.assert(
    fc.property(parts, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (texts, sizes) => {
      const data = texts.map((text) => Buffer.from(text));
      const wire = Buffer.concat([
        ...data.flatMap((bytes) => [
          Buffer.from(`${bytes.length.toString(16)}\r\n`),
          bytes,
          Buffer.from('\r\n'),
        ]),
        Buffer.from('0\r\n\r\n'),
      ]);
      const body = new ChunkedBody();
      const out: Buffer[] = [];
      for (let at = 0, turn = 0; at < wire.length; turn += 1) {
        const size = sizes[turn % sizes.length] ?? 1;
        assert.equal(body.isDone, false);
        for (const bytes of body.decode(wire.subarray(at, at + size))) out.push(Buffer.from(bytes));
        at += size;
      }
      assert.equal(body.isDone, true);
      assert.deepEqual(Buffer.concat(out), Buffer.concat(data));
    }),
    { seed: 15020 },
  );
});
