import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:net';
import test, { type TestContext } from 'node:test';
import { parseAppProbers } from '../../../agent/config/app-probe-config.ts';
import { type AppProbeOptions, AppProbeRoutes } from '../../../agent/status/app-probe-routes.ts';
import {
  findClosedPort,
  startGrpcPeer,
  startHttpPeer,
  startTcpPeer,
  startTlsPeer,
} from '../health/probe-peers.ts';
import { EventQueue } from '../xds/event-queue.ts';
import { type HttpAnswer, type HttpQuestion, RecordingLog, StatusFixture } from './status-fixture.ts';

const path = '/app-health/web/readyz';
const hookPath = '/app-lifecycle/web/prestopz';

interface Probed {
  readonly probes: AppProbeRoutes;
  readonly fixture: StatusFixture;
  readonly log: RecordingLog;
  readonly ask: (question?: HttpQuestion, askedPath?: string) => Promise<HttpAnswer>;
}

/** A status server whose one probe (and hook) is `prober`. */
async function serve(
  t: TestContext,
  prober: object,
  options: Partial<AppProbeOptions> = {},
): Promise<Probed> {
  const { ok, errors } = parseAppProbers(JSON.stringify({ [path]: prober, [hookPath]: prober }));
  assert.deepEqual(errors, undefined);
  const log = new RecordingLog();
  const probes = new AppProbeRoutes({
    probes: ok ?? new Map(),
    destinationHost: '127.0.0.1',
    instanceIps: ['127.0.0.1'],
    statusPort: 15020,
    isHttp2Offered: true,
    isConnectionKept: false,
    log,
    ...options,
  });
  const fixture = await StatusFixture.start({ moreRoutes: probes.routes });
  t.after(async () => {
    await probes.close();
    await fixture.server.close();
  });
  return {
    probes,
    fixture,
    log,
    ask: async (question = {}, askedPath = path) => fixture.ask(askedPath, question),
  };
}

const http = (port: number, fields: object = {}, timeoutSeconds = 10): object => ({
  httpGet: { path: '/ready', port, ...fields },
  timeoutSeconds,
});

test('an HTTP probe is a GET with the headers and the Host of the kubelet, from 127.0.0.6', async (t) => {
  const seen = new EventQueue<{
    method?: string | undefined;
    url?: string | undefined;
    raw: readonly string[];
  }>();
  const app = await startHttpPeer(t, ({ method, url, rawHeaders }, response) => {
    seen.push({ method, url, raw: rawHeaders });
    response.writeHead(202, { 'X-Own': 'not copied', 'Content-Type': 'text/html' });
    response.end('fine');
  });
  const { ask } = await serve(t, http(app.port, { path: 'ready?full=1' }));
  const headers = {
    Host: 'web.local:15020',
    'X-Probe': 'a',
    'Accept-Encoding': 'gzip',
    'User-Agent': 'kube-probe/1.30',
  };
  const answer = await ask({ method: 'POST', headers }, `${path}?ignored=1`);
  assert.equal(answer.status, 202);
  assert.equal(answer.body.toString(), 'fine');
  assert.equal(answer.headers['x-own'], undefined);
  assert.equal(answer.headers['content-type'], 'text/plain; charset=utf-8');
  const { method, url, raw } = await seen.next();
  assert.deepEqual({ method, url }, { method: 'GET', url: '/ready?full=1' });
  const expected = [
    ['Host', `web.local:${app.port}`],
    ['X-Probe', 'a'],
    ['User-Agent', 'kube-probe/1.30'],
    ['Connection', 'close'],
  ];
  assert.deepEqual(raw, expected.flat());
  assert.deepEqual(app.sources, ['127.0.0.6']);
});

test('headers that come twice go on twice', async (t) => {
  const seen = new EventQueue<readonly string[]>();
  const app = await startHttpPeer(t, ({ rawHeaders }, response) => {
    seen.push(rawHeaders);
    response.end();
  });
  const { fixture } = await serve(t, http(app.port));
  const socket = await import('node:net').then(({ connect }) => connect(fixture.server.port, '127.0.0.1'));
  socket.end(`GET ${path} HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\nConnection: close\r\n\r\n`);
  await once(socket.resume(), 'close');
  assert.deepEqual(await seen.next(), ['Host', 'h', 'X-A', '1', 'X-A', '2', 'Connection', 'close']);
});

test('each probe has its own connection, which is gone after the answer', async (t) => {
  const closed = new EventQueue<string>();
  const app = await startHttpPeer(t, ({ socket }, response) => {
    socket.once('close', () => closed.push('closed'));
    response.end();
  });
  const { ask } = await serve(t, http(app.port));
  for (const probeCount of [1, 2]) {
    assert.equal((await ask()).status, 200);
    await closed.next();
    assert.equal(app.sources.length, probeCount);
  }
});

test('a kept connection serves several probes and is replaced when the application has closed it', async (t) => {
  const app = await startHttpPeer(t, (_request, response) => response.end('x'));
  const { ask } = await serve(t, http(app.port), { isConnectionKept: true });
  for (let probe = 0; probe < 3; probe += 1) assert.equal((await ask()).status, 200);
  assert.equal(app.sources.length, 1);
  for (const socket of app.sockets) socket.destroy();
  assert.equal((await ask()).status, 200);
  assert.equal(app.sources.length, 2);
});

const answers: readonly (readonly [number, number, string])[] = [
  [200, 200, 'body'],
  [204, 204, ''],
  [304, 200, ''],
  [404, 404, 'body'],
  [503, 503, 'body'],
];

for (const [appStatus, status, body] of answers) {
  test(`status ${appStatus} of the application is answered as ${status}`, async (t) => {
    const app = await startHttpPeer(t, (_request, response) => {
      response.writeHead(appStatus);
      response.end(appStatus === 204 || appStatus === 304 ? undefined : 'body');
    });
    const { ask } = await serve(t, http(app.port));
    const answer = await ask();
    assert.equal(answer.status, status);
    assert.equal(answer.body.toString(), body);
  });
}

test('at most 10240 bytes of a body are answered, however long it is', async (t) => {
  const gone = new EventQueue<string>();
  const app = await startHttpPeer(t, ({ socket }, response) => {
    socket.once('close', () => gone.push('gone'));
    const write = (): void => {
      while (!response.destroyed && response.write('y'.repeat(4096)));
    };
    response.on('drain', write);
    write();
  });
  const { ask } = await serve(t, http(app.port));
  const answer = await ask();
  assert.equal(answer.status, 200);
  assert.equal(answer.body.toString(), 'y'.repeat(10_240));
  await gone.next();
});

test('redirects on the same host are followed, those to another one are a success', async (t) => {
  const asked: string[] = [];
  const app = await startHttpPeer(t, ({ url = '', headers }, response) => {
    asked.push(`${headers.host} ${url}`);
    const location = { '/ready': '/two', '/two': `http://127.0.0.1:${app.port}/three` }[url];
    response.writeHead(302, { Location: location ?? 'http://other.example/' });
    response.end('moved');
  });
  const { ask } = await serve(t, http(app.port));
  const answer = await ask({ headers: { Host: 'web' } });
  assert.equal(answer.status, 200);
  assert.equal(answer.body.toString(), '');
  assert.deepEqual(asked, ['web /ready', 'web /two', `127.0.0.1:${app.port} /three`]);
});

test('a redirect without end is a failure after ten requests', async (t) => {
  let requestCount = 0;
  const app = await startHttpPeer(t, (_request, response) => {
    requestCount += 1;
    response.writeHead(302, { Location: '/again' });
    response.end();
  });
  const { ask, log } = await serve(t, http(app.port));
  assert.equal((await ask()).status, 500);
  assert.equal(requestCount, 10);
  assert.match(String(log.lines.at(-1)?.fields['error']), /stopped after 10 redirects/);
});

const failures: readonly (readonly [string, (response: ServerResponse) => void, RegExp])[] = [
  ['a connection that breaks', (response) => response.socket?.destroy(), /socket hang up|ended before/],
  ['bytes that are no HTTP', (response) => response.socket?.end('nonsense\r\n\r\n'), /Parse Error/],
];

for (const [name, act, expected] of failures) {
  test(`${name} is answered with 500 and an empty body`, async (t) => {
    const app = await startHttpPeer(t, (_request, response) => act(response));
    const { ask, log } = await serve(t, http(app.port, { path: '/ready?token=secret' }));
    const answer = await ask();
    assert.equal(answer.status, 500);
    assert.equal(answer.body.length, 0);
    assert.match(String(log.lines.at(-1)?.fields['error']), expected);
    assert.doesNotMatch(JSON.stringify(log.lines), /secret/);
  });
}

test('an application that does not answer in time is a failure, and its connection is closed', async (t) => {
  const gone = new EventQueue<string>();
  const app = await startHttpPeer(t, ({ socket }, response) => {
    socket.once('close', () => gone.push('gone'));
    // The head has come, the body never ends: the time is for the whole exchange.
    response.write('x');
  });
  // No time is given: 1 s, as Kubernetes has it.
  const { ask, log } = await serve(t, http(app.port, {}, 0));
  assert.equal((await ask()).status, 500);
  assert.match(String(log.lines.at(-1)?.fields['error']), /no answer within 1000 ms/);
  await gone.next();
});

test('a hook has no second to keep, and ends when the kubelet leaves', async (t) => {
  const started = new EventQueue<ServerResponse>();
  const gone = new EventQueue<string>();
  const app = await startHttpPeer(t, ({ socket }, response) => {
    socket.once('close', () => gone.push('gone'));
    started.push(response);
  });
  const { ask, fixture } = await serve(t, http(app.port, {}, 0));
  const leave = new AbortController();
  const left = assert.rejects(fixture.ask(hookPath, { signal: leave.signal }));
  const slow = ask({}, hookPath);
  const [first, second] = [await started.next(), await started.next()];
  leave.abort();
  await left;
  await gone.next();
  // One of the two is still being waited for, and its answer is passed on.
  for (const response of [first, second]) if (!response.destroyed) response.end('late');
  assert.equal((await slow).body.toString(), 'late');
});

test('HTTPS is probed over HTTP/2 when the application has it, whatever its certificate', async (t) => {
  const app = await startTlsPeer(t, (request, response) => {
    response.statusCode = 203;
    const { httpVersion, authority, headers } = request;
    response.end(`${httpVersion} ${authority} ${String(headers['x-a'])}`);
  });
  const { ask } = await serve(t, http(app.port, { scheme: 'HTTPS' }));
  const answer = await ask({ headers: { Host: 'web:15020', 'X-A': '1' } });
  assert.equal(answer.status, 203);
  assert.equal(answer.body.toString(), `2.0 web:${app.port} 1`);
  assert.deepEqual(app.sources, ['127.0.0.6']);
});

test('headers of any name go on over HTTP/2, those that objects have too', async (t) => {
  const app = await startTlsPeer(t, ({ headers }, response) => {
    response.end(
      `${String(headers['constructor'])} ${String(Object.getOwnPropertyDescriptor(headers, '__proto__')?.value)}`,
    );
  });
  const { ask } = await serve(t, http(app.port, { scheme: 'HTTPS' }));
  const headers = Object.fromEntries([
    ['constructor', '1'],
    ['__proto__', '2'],
  ]);
  const answer = await ask({ headers });
  assert.equal(answer.status, 200);
  assert.equal(answer.body.toString(), '1 2');
});

for (const [name, isHttp2, isHttp2Offered] of [
  ['the application has no HTTP/2', false, true],
  ['it is switched off', true, false],
] as const) {
  test(`HTTPS is probed over HTTP/1.1 when ${name}`, async (t) => {
    const app = await startTlsPeer(t, ({ httpVersion }, response) => response.end(httpVersion), { isHttp2 });
    const { ask } = await serve(t, http(app.port, { scheme: 'HTTPS' }), { isHttp2Offered });
    assert.equal((await ask()).body.toString(), '1.1');
  });
}

for (const isHttp2 of [true, false]) {
  test(`a kept HTTPS connection serves several probes (HTTP/2: ${isHttp2})`, async (t) => {
    const app = await startTlsPeer(t, (_request, response) => response.end('x'), { isHttp2 });
    const { ask } = await serve(t, http(app.port, { scheme: 'HTTPS' }), { isConnectionKept: true });
    for (let probe = 0; probe < 3; probe += 1) assert.equal((await ask()).status, 200);
    assert.equal(app.sources.length, 1);
    for (const socket of app.sockets) socket.destroy();
    assert.equal((await ask()).status, 200);
    assert.equal(app.sources.length, 2);
  });
}

test('an HTTPS probe of a port without TLS is a failure', async (t) => {
  const app = await startHttpPeer(t, (_request, response) => response.end());
  const { ask, log } = await serve(t, http(app.port, { scheme: 'HTTPS' }));
  assert.equal((await ask()).status, 500);
  assert.match(String(log.lines.at(-1)?.fields['error']), /TLS handshake with 127\.0\.0\.1:\d+ failed/);
});

test('a TCP probe is a connection from 127.0.0.6, closed without a byte', async (t) => {
  const ended = new EventQueue<number>();
  const app = await startTcpPeer(t, (socket) => {
    socket.resume().once('close', () => ended.push(socket.bytesRead));
  });
  const { ask } = await serve(t, { tcpSocket: { port: app.port }, timeoutSeconds: 10 });
  const answer = await ask();
  assert.deepEqual([answer.status, answer.body.length], [200, 0]);
  assert.equal(await ended.next(), 0);
  assert.deepEqual(app.sources, ['127.0.0.6']);
});

for (const kind of ['tcpSocket', 'httpGet', 'grpc']) {
  test(`a ${kind} probe of a closed port is a failure`, async (t) => {
    const { ask, log } = await serve(t, { [kind]: { port: await findClosedPort() }, timeoutSeconds: 10 });
    const answer = await ask();
    assert.deepEqual([answer.status, answer.body.length], [500, 0]);
    assert.match(
      String(log.lines.at(-1)?.fields['error']),
      /cannot connect to 127\.0\.0\.1:\d+: .*ECONNREFUSED/,
    );
  });
}

const servingRows: readonly (readonly [
  string,
  Parameters<typeof startGrpcPeer>[1],
  number,
  RegExp | undefined,
])[] = [
  ['SERVING', () => 1, 200, undefined],
  ['NOT_SERVING', () => 2, 500, /health status is NOT_SERVING, not SERVING/],
  ['UNKNOWN', () => 0, 500, /health status is UNKNOWN/],
  ['an unheard-of status', () => 77, 500, /health status is status 77/],
  ['an error', () => ({ code: 5, details: 'no such service' }), 500, /failed with status 5: no such service/],
  ['silence', () => 'silent', 500, /no answer within 1000 ms/],
];

for (const [name, check, status, expected] of servingRows) {
  test(`a gRPC probe that is answered with ${name} is answered with ${status}`, async (t) => {
    const app = await startGrpcPeer(t, check);
    const { ask, log } = await serve(t, {
      grpc: { port: app.port, service: 'a.B' },
      timeoutSeconds: name === 'silence' ? 1 : 10,
    });
    const answer = await ask({ headers: { 'User-Agent': 'kube-probe/1.30' } });
    assert.deepEqual([answer.status, answer.body.length], [status, 0]);
    assert.deepEqual(app.calls, [
      { service: 'a.B', userAgent: 'kube-probe/1.30 ferry-agent', hasDeadline: true },
    ]);
    if (expected !== undefined) assert.match(String(log.lines.at(-1)?.fields['error']), expected);
  });
}

test('a gRPC server without the health service is named as such', async (t) => {
  const app = await startGrpcPeer(t, () => 1, { isHealthServed: false });
  const { ask, log } = await serve(t, { grpc: { port: app.port }, timeoutSeconds: 10 });
  assert.equal((await ask()).status, 500);
  assert.match(String(log.lines.at(-1)?.fields['error']), /does not implement the gRPC health protocol/);
});

test('a gRPC probe of a server of another protocol is a failure', async (t) => {
  const app = await startTcpPeer(t, (socket) => socket.end('SSH-2.0-x\r\n'));
  const { ask } = await serve(t, { grpc: { port: app.port }, timeoutSeconds: 10 });
  assert.equal((await ask()).status, 500);
});

test('a path without a probe is refused', async (t) => {
  const { fixture } = await serve(t, { tcpSocket: { port: 1 } });
  const answer = await fixture.ask('/app-health/other/readyz');
  assert.equal(answer.status, 400);
  assert.equal(answer.body.toString(), 'app prober config does not exists for /app-health/other/readyz');
});

test('requests for one probe beyond the bound are refused and make no connection', async (t) => {
  const waiting = new EventQueue<ServerResponse>();
  const app = await startHttpPeer(t, (_request, response) => waiting.push(response));
  const { ask } = await serve(t, http(app.port));
  const running = Array.from({ length: 32 }, async () => ask());
  const responses: ServerResponse[] = [];
  for (let index = 0; index < 32; index += 1) responses.push(await waiting.next());
  assert.equal((await ask()).status, 503);
  assert.equal(app.sources.length, 32);
  for (const response of responses) response.end();
  for (const answer of await Promise.all(running)) assert.equal(answer.status, 200);
});

test('closing ends probes that run and connections that are kept', async (t) => {
  const gone = new EventQueue<string>();
  const started = new EventQueue<string>();
  const app = await startTlsPeer(t, (request, response) => {
    if (request.headers['x-slow'] === undefined) response.end('x');
    else started.push('started');
  });
  const { ask, probes } = await serve(t, http(app.port, { scheme: 'HTTPS' }), { isConnectionKept: true });
  assert.equal((await ask()).status, 200);
  for (const socket of app.sockets) socket.once('close', () => gone.push('gone'));
  const slow = ask({ headers: { 'X-Slow': '1' } });
  await started.next();
  await probes.close();
  assert.equal((await slow).status, 500);
  await gone.next();
});

for (const host of ['', 'localhost', '[127.0.0.1]']) {
  test(`the destination ${JSON.stringify(host)} reaches the local host`, async (t) => {
    const app = await startTcpPeer(t);
    const { ask } = await serve(t, { tcpSocket: { port: app.port } }, { destinationHost: host });
    assert.equal((await ask()).status, 200);
  });
}

/** Whether probes of an IPv6 pod can be tried here: the traffic rules put `::6` on the loopback interface. */
async function isIpv6SourceThere(): Promise<boolean> {
  const server = createServer();
  server.listen(0, '::6');
  return once(server, 'listening').then(
    () => {
      server.close();
      return true;
    },
    () => false,
  );
}

const isIpv6Tried = await isIpv6SourceThere();

test('an IPv6 pod is probed from ::6', {
  skip: isIpv6Tried ? false : '::6 is no address of this machine',
}, async (t) => {
  const app = await startTcpPeer(t, undefined, '::1');
  const { ask } = await serve(
    t,
    { tcpSocket: { port: app.port } },
    { destinationHost: '::1', instanceIps: ['::1'] },
  );
  assert.equal((await ask()).status, 200);
  assert.deepEqual(app.sources, ['::6']);
});

test('an IPv6 pod without ::6 is told what is missing', {
  skip: isIpv6Tried ? '::6 is an address of this machine' : false,
}, async (t) => {
  const { ask, log } = await serve(t, { tcpSocket: { port: 1 } }, { destinationHost: '::1' });
  assert.equal((await ask()).status, 500);
  assert.match(String(log.lines.at(-1)?.fields['error']), /probes come from ::6/);
});
