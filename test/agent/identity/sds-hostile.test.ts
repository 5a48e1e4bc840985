import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { join, resolve } from 'node:path';
import test, { type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { systemClock } from '../../../agent/clock.ts';
import { CertificateStore } from '../../../agent/identity/certificate-store.ts';
import { FileCertificates } from '../../../agent/identity/file-certificates.ts';
import { SdsServer } from '../../../agent/identity/sds-server.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { LogCapture, MetricsCapture, nodeId, SdsClient, servicePath } from './sds-fixture.ts';
import { encodeSecretRequest } from './secret-codec.ts';

/** A server over real files, whose retries are over at once. */
async function startServer(t: TestContext) {
  const folder = await temporaryFolder(t);
  const logs = new LogCapture();
  const { metrics } = new MetricsCapture();
  const log = logs.root.scope('cache');
  let nowMs = 0;
  const files = new FileCertificates({
    debounceMs: 1,
    onChange: () => undefined,
    metrics,
    log,
    // Each look at the clock is later than the patience for files: no test waits ten seconds.
    clock: { ...systemClock, now: () => (nowMs += 20_000) },
    random: Math.random,
  });
  const authority = Authority.createRoot('root');
  const issued = authority.issue(['spiffe://td/ns/a/sa/b']);
  const store = new CertificateStore({
    resolvePath: (path) => resolve(folder, path),
    workloadFiles: {
      certificatePath: join(folder, 'none'),
      keyPath: join(folder, 'none'),
      rootPath: join(folder, 'none'),
      areRequired: false,
      areOwnOutput: false,
    },
    files,
    issue: async () =>
      Promise.resolve({
        certificateChain: Buffer.from(issued.certificate),
        privateKey: Buffer.from(issued.key),
        root: authority.certificate,
        issuedAtMs: Date.now(),
        notAfterMs: Date.now() + 86_400_000,
      }),
    rotation: { graceRatio: 0.5, graceRatioJitter: 0 },
    output: undefined,
    onUpdate: () => undefined,
    log,
    clock: systemClock,
    random: Math.random,
  });
  const socketPath = join(folder, 'socket');
  const server = new SdsServer({
    socketPath,
    purpose: 'workload certificates',
    source: store,
    crlPath: undefined,
    keyProvider: undefined,
    metrics,
    log: logs.root.scope('sds'),
    clock: systemClock,
  });
  await server.listen();
  atEnd(t, async () => {
    await server.close();
    await store.close();
  });
  return { folder, socketPath, logs, server };
}

function openSession(t: TestContext, socketPath: string): ClientHttp2Session {
  const session = connect('http://localhost', { createConnection: () => connectSocket(socketPath) });
  session.on('error', () => undefined);
  atEnd(t, () => session.destroy());
  return session;
}

function openStream(session: ClientHttp2Session, headers: OutgoingHttpHeaders = {}): ClientHttp2Stream {
  const stream = session.request(
    {
      ':method': 'POST',
      ':path': `${servicePath}/StreamSecrets`,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    },
    { endStream: false },
  );
  stream.on('error', () => undefined);
  return stream;
}

/** The gRPC status of a stream, wherever it stands. */
async function statusOf(stream: ClientHttp2Stream): Promise<{ code: string; message: string }> {
  let found: IncomingHttpHeaders = {};
  stream.on('response', (headers) => {
    if (headers['grpc-status'] !== undefined) found = headers;
  });
  stream.on('trailers', (headers) => {
    found = headers;
  });
  stream.resume();
  await once(stream, 'close');
  return {
    code: String(found['grpc-status']),
    message: decodeURIComponent(String(found['grpc-message'] ?? '')),
  };
}

function frame(message: Uint8Array, flag = 0, length = message.byteLength): Buffer {
  const header = Buffer.alloc(5);
  header[0] = flag;
  header.writeUInt32BE(length, 1);
  return Buffer.concat([header, message]);
}

const hello = (...names: readonly string[]) => frame(encodeSecretRequest({ nodeId, names }));

const refusals: readonly {
  readonly name: string;
  readonly bytes: Buffer;
  readonly code: string;
  readonly message: RegExp;
}[] = [
  {
    name: 'bytes that are no protobuf',
    bytes: frame(Buffer.from('ffffffffff', 'hex')),
    code: '13',
    message: /no DiscoveryRequest/,
  },
  { name: 'a compressed message', bytes: frame(Buffer.from('x'), 1), code: '12', message: /compress/ },
  {
    name: 'a message that is announced with 4 GB',
    bytes: frame(Buffer.alloc(0), 0, 0xffffffff),
    code: '8',
    message: /4294967295 bytes, the bound is 4194304 bytes/,
  },
  { name: 'an empty message', bytes: frame(Buffer.alloc(0)), code: '3', message: /missing node/ },
  {
    name: 'more names than anybody needs',
    bytes: hello(...Array.from({ length: 1001 }, (_, index) => `n${index}`)),
    code: '8',
    message: /1001 names, the bound is 1000/,
  },
  { name: 'a name of 1 MB', bytes: hello('n'.repeat(1_000_000)), code: '8', message: /8300 characters/ },
  {
    name: 'a file resource with one path',
    bytes: hello('file-cert:/a'),
    code: '2',
    message: /not of the form file-cert:/,
  },
  {
    name: 'a file resource with three paths',
    bytes: hello('file-cert:/a~/b~/c'),
    code: '2',
    message: /not of the form/,
  },
  {
    name: 'a root without a path',
    bytes: hello('file-root:'),
    code: '2',
    message: /not of the form file-root:/,
  },
  { name: 'a path with a zero byte', bytes: hello('file-root:/a\0b'), code: '2', message: /not of the form/ },
  {
    name: 'a device that never ends',
    bytes: hello('file-root:/dev/zero'),
    code: '2',
    message: /\/dev\/zero is not a regular file/,
  },
  { name: 'a folder', bytes: hello('file-root:/etc'), code: '2', message: /\/etc is not a regular file/ },
  {
    name: 'a file that is not there',
    bytes: hello('file-root:/no/such'),
    code: '2',
    message: /failed to read \/no\/such: ENOENT/,
  },
  {
    name: 'a file without certificates, whose contents stay here',
    bytes: hello('file-root:/etc/passwd'),
    code: '2',
    message:
      /^failed to generate secret for file-root:\/etc\/passwd: \/etc\/passwd holds no readable PEM certificate \(0 found\)/,
  },
];

for (const { name, bytes, code, message } of refusals) {
  test(`${name}: the stream ends with a reason, the next client is served`, async (t) => {
    const { socketPath } = await startServer(t);
    const stream = openStream(openSession(t, socketPath));
    stream.write(bytes);
    const seen = await statusOf(stream);
    assert.equal(seen.code, code);
    assert.match(seen.message, message);
    await new SdsClient(t, socketPath).ask('default');
  });
}

test('a pipe that nobody writes to does not hold up the stream', async (t) => {
  const { folder, socketPath } = await startServer(t);
  await promisify(execFile)('mkfifo', [join(folder, 'pipe')]);
  const stream = openStream(openSession(t, socketPath));
  stream.write(hello('file-root:pipe'));
  assert.match((await statusOf(stream)).message, /pipe is not a regular file/);
});

test('a file above the bound is not read', async (t) => {
  const { folder, socketPath } = await startServer(t);
  await writeFile(join(folder, 'big.pem'), Buffer.alloc(1024 * 1024 + 1));
  const stream = openStream(openSession(t, socketPath));
  stream.write(hello('file-root:big.pem'));
  assert.match((await statusOf(stream)).message, /has 1048577 bytes, the bound is 1048576 bytes/);
});

test('many starts of certificates without an end cost no more than one', async (t) => {
  const { folder, socketPath } = await startServer(t);
  await writeFile(join(folder, 'starts.pem'), '-----BEGIN CERTIFICATE-----\n'.repeat(35_000));
  const stream = openStream(openSession(t, socketPath));
  stream.write(hello('file-root:starts.pem'));
  assert.match((await statusOf(stream)).message, /no readable PEM certificate \(0 found\)/);
});

test('answers that would add up to too much are refused', async (t) => {
  const { folder, socketPath } = await startServer(t);
  const { certificate } = Authority.createRoot('root');
  await writeFile(join(folder, 'roots.pem'), certificate.repeat(Math.floor(1_000_000 / certificate.length)));
  const stream = openStream(openSession(t, socketPath));
  // Each is another resource, though of the same file.
  stream.write(hello(...Array.from({ length: 6 }, (_, index) => `file-root:${'./'.repeat(index)}roots.pem`)));
  const seen = await statusOf(stream);
  assert.deepEqual([seen.code, /more than 4194304 bytes/.test(seen.message)], ['8', true]);
});

test('a client that asks and asks without reading is not read either', async (t) => {
  const { socketPath } = await startServer(t);
  const stream = openStream(openSession(t, socketPath));
  // Its answers fill the window of the stream; the server then must not take more of what it asks.
  stream.pause();
  stream.write(Buffer.concat(Array.from({ length: 7000 }, () => hello('default'))));
  // Others are served meanwhile: time enough to read all of it, for a server that would.
  for (let count = 0; count < 100; count += 1) await new SdsClient(t, socketPath).ask('default');
  assert.ok(stream.writableLength > 0, 'the server went on reading');
});

test('a request of 100 kB that comes byte by byte is put together', async (t) => {
  const { socketPath } = await startServer(t);
  const stream = openStream(openSession(t, socketPath));
  const request = hello(...Array.from({ length: 13 }, (_, index) => `${index}`.repeat(4000)));
  for (const byte of request) stream.write(Buffer.of(byte));
  await once(stream, 'data');
});

test('requests that are never finished add up to a bound, and what they held is free again', async (t) => {
  const { socketPath } = await startServer(t);
  const unfinished = frame(Buffer.alloc(4 * 1024 * 1024 - 1), 0, 4 * 1024 * 1024);
  const sessions = Array.from({ length: 17 }, () => openSession(t, socketPath));
  const streams = sessions.map((session) => openStream(session));
  const refused = Promise.race(streams.map(statusOf));
  for (const stream of streams) stream.write(unfinished);
  assert.deepEqual(await refused, { code: '8', message: 'too many requests are coming in at once' });
  for (const session of sessions) session.destroy();
  // The server hears of the ends in its own time.
  for (let isServed = false; !isServed; ) {
    const client = new SdsClient(t, socketPath);
    client.send({ nodeId, names: ['default'] });
    isServed = await Promise.race([client.answers.next().then(() => true), client.status.then(() => false)]);
  }
});

test('whatever is not a gRPC call is refused as HTTP', async (t) => {
  const { socketPath } = await startServer(t);
  const session = openSession(t, socketPath);
  for (const [headers, wanted] of [
    [{ ':method': 'GET' }, 405],
    [{ 'content-type': 'application/json' }, 415],
  ] as const) {
    const stream = openStream(session, headers);
    const [response] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    assert.equal(response[':status'], wanted);
    stream.destroy();
  }
  const unknown = openStream(session, { ':path': '/other.Service/Method' });
  const seen = await statusOf(unknown);
  assert.deepEqual(seen, { code: '12', message: 'unknown method /other.Service/Method' });
});

test('noise instead of HTTP/2, and connections that are cut, harm nobody else', async (t) => {
  const { socketPath } = await startServer(t);
  const noise = connectSocket(socketPath);
  noise.on('error', () => undefined);
  noise.write('GET / HTTP/1.1\r\n\r\n'.repeat(100));
  await once(noise.resume(), 'close');
  for (let index = 0; index < 20; index += 1) {
    const session = openSession(t, socketPath);
    openStream(session).write(hello('default').subarray(0, index));
    await once(session, 'remoteSettings');
    session.destroy();
  }
  await new SdsClient(t, socketPath).ask('default');
});

test('requests in one chunk, and one byte at a time, are read alike', async (t) => {
  const { socketPath } = await startServer(t);
  const session = openSession(t, socketPath);
  const stream = openStream(session);
  stream.write(Buffer.concat([hello('default'), hello('a'), hello('b')]));
  let seenBytes = 0;
  const three = Promise.withResolvers<void>();
  stream.on('data', (chunk: Buffer) => {
    seenBytes += chunk.length;
    if (seenBytes > 3 * 900) three.resolve();
  });
  await three.promise;
  const slow = openStream(session);
  for (const byte of hello('default')) slow.write(Buffer.of(byte));
  await once(slow, 'data');
});
