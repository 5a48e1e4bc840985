import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { parseReadinessProbe } from '../../../agent/config/readiness-probe.ts';
import type { WorkloadHealth } from '../../../agent/health/health-state.ts';
import { ProbeDialer } from '../../../agent/health/probe-dialer.ts';
import { WorkloadHealthChecker, type WorkloadHealthOptions } from '../../../agent/health/workload-health.ts';
import { poll } from '../../support/polling.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { RecordingLog } from '../status/status-fixture.ts';
import { EventQueue } from '../xds/event-queue.ts';
import { findClosedPort, startGrpcPeer, startHttpPeer, startTcpPeer, startTlsPeer } from './probe-peers.ts';

interface Watched {
  readonly changes: EventQueue<WorkloadHealth>;
  /** Delays that were asked for, one for each turn. */
  readonly waits: EventQueue<number>;
  /** Lets the next turn come. */
  readonly turn: () => void;
  readonly checker: WorkloadHealthChecker;
  readonly log: RecordingLog;
}

/** A checker whose turns come when the test says so; the first comes at once. */
function watch(t: TestContext, input: object, options: Partial<WorkloadHealthOptions> = {}): Watched {
  const { ok: probe } = parseReadinessProbe({ timeoutSeconds: 10, ...input });
  assert.ok(probe);
  const changes = new EventQueue<WorkloadHealth>();
  const waits = new EventQueue<number>();
  const turns = new EventQueue<string>();
  const log = new RecordingLog();
  turns.push('first');
  const checker = new WorkloadHealthChecker({
    probe,
    instanceIps: ['127.0.0.1'],
    isLocalhostProbed: false,
    checkEnvoy: undefined,
    onChange: (health) => changes.push(health),
    log,
    wait: async (delayMs, { signal }) => {
      waits.push(delayMs);
      const aborted = once(signal, 'abort').then(() => signal.throwIfAborted());
      await Promise.race([turns.next(), aborted]);
    },
    ...options,
  });
  t.after(async () => checker.close());
  return { changes, waits, turn: () => turns.push('turn'), checker, log };
}

test('an HTTP probe says who it is, and a change of state is told once', async (t) => {
  let status = 200;
  const seen = new EventQueue<readonly string[]>();
  const app = await startHttpPeer(t, ({ rawHeaders, url }, response) => {
    seen.push([url ?? '', ...rawHeaders]);
    response.writeHead(status, { 'Content-Type': 'text/plain' });
    response.end('body');
  });
  const { changes, turn } = watch(t, { httpGet: { port: app.port, path: '/ready' } });
  assert.deepEqual(await changes.next(), { kind: 'healthy' });
  assert.deepEqual(await seen.next(), [
    '/ready',
    'Host',
    `127.0.0.1:${app.port}`,
    'User-Agent',
    'istio-probe/1.0',
    'Connection',
    'close',
  ]);
  assert.deepEqual(app.sources, ['127.0.0.6']);
  turn();
  await seen.next();
  status = 500;
  turn();
  assert.deepEqual(await changes.next(), {
    kind: 'unhealthy',
    reason: 'status code was not from [200,400), bad code 500',
  });
  turn();
  status = 399;
  turn();
  assert.deepEqual(await changes.next(), { kind: 'healthy' });
  assert.equal(changes.pendingCount, 0);
});

test('headers of the probe are used, its Host and User-Agent too', async (t) => {
  const seen = new EventQueue<readonly string[]>();
  const app = await startHttpPeer(t, ({ rawHeaders }, response) => {
    seen.push(rawHeaders);
    response.end();
  });
  const httpHeaders = [
    { name: 'host', value: 'app.local' },
    { name: 'user-agent', value: 'mine' },
    { name: 'X-A', value: '1' },
  ];
  const { changes } = watch(t, { httpGet: { port: app.port, host: 'localhost', httpHeaders } });
  assert.equal((await changes.next()).kind, 'healthy');
  assert.deepEqual(await seen.next(), [
    'Host',
    'app.local',
    'user-agent',
    'mine',
    'X-A',
    '1',
    'Connection',
    'close',
  ]);
});

test('an HTTPS probe takes any certificate, in any letters of the scheme', async (t) => {
  const app = await startTlsPeer(t, (_request, response) => response.end());
  for (const scheme of ['https', 'HTTPS']) {
    const { changes } = watch(t, { httpGet: { port: app.port, scheme } });
    assert.equal((await changes.next()).kind, 'healthy');
  }
});

test('redirects are followed to other hosts too, without what is private', async (t) => {
  const seen = new EventQueue<unknown>();
  const app = await startHttpPeer(t, ({ url, headers }, response) => {
    if (url === '/next') {
      seen.push([headers.authorization, headers['x-a'], headers.host]);
      response.writeHead(503);
    } else response.writeHead(302, { Location: `http://localhost:${app.port}/next` });
    response.end();
  });
  const httpHeaders = [
    { name: 'Authorization', value: 'Basic eDp5' },
    { name: 'X-A', value: '1' },
  ];
  const { changes } = watch(t, { httpGet: { port: app.port, httpHeaders } });
  assert.equal((await changes.next()).kind, 'unhealthy');
  assert.deepEqual(await seen.next(), [undefined, '1', `localhost:${app.port}`]);
});

test('a TCP probe is a connection', async (t) => {
  const app = await startTcpPeer(t);
  const { changes } = watch(t, { tcpSocket: { port: app.port } });
  assert.equal((await changes.next()).kind, 'healthy');
  assert.deepEqual(app.sources, ['127.0.0.6']);
  const closed = watch(t, { tcpSocket: { port: await findClosedPort() } });
  const told = await closed.changes.next();
  assert.match((told as { reason: string }).reason, /cannot connect to 127\.0\.0\.1:\d+: .*ECONNREFUSED/);
});

test('a gRPC probe that is answered NOT_SERVING is unhealthy with a reason', async (t) => {
  let status = 2;
  const app = await startGrpcPeer(t, () => status);
  const { changes, turn } = watch(t, { grpc: { port: app.port, service: 's' } });
  assert.deepEqual(await changes.next(), {
    kind: 'unhealthy',
    reason: 'health status is NOT_SERVING, not SERVING',
  });
  status = 1;
  turn();
  assert.deepEqual(await changes.next(), { kind: 'healthy' });
  assert.match(app.calls[0]?.userAgent ?? '', /^istio-probe\/1\.0/);
});

const commands: readonly (readonly [readonly string[], RegExp | undefined])[] = [
  [['true'], undefined],
  [['sh', '-c', 'exit 3'], /command sh ended with exit code 3/],
  [['sh', '-c', 'kill -9 $$'], /command sh ended with signal SIGKILL/],
  [['/no/such/program'], /command \/no\/such\/program cannot be run: .*ENOENT/],
];

for (const [command, expected] of commands) {
  test(`the command ${command.join(' ')} is ${expected === undefined ? 'healthy' : 'unhealthy'}`, async (t) => {
    const { changes } = watch(t, { exec: { command } });
    const told = await changes.next();
    if (expected === undefined) assert.deepEqual(told, { kind: 'healthy' });
    else assert.match((told as { reason: string }).reason, expected);
  });
}

async function isGone(pid: number): Promise<void> {
  await poll(
    async () => {
      // A killed process that nobody has waited for yet is a zombie.
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z');
      return /\) [ZX]/.test(stat) ? { done: true, value: undefined } : { done: false, seen: stat };
    },
    { what: 'The end of the process', deadlineMs: 5000, intervalMs: 10 },
  );
}

test('a command that takes too long is killed with all it has started', async (t) => {
  const folder = await temporaryFolder(t);
  const script = `sleep 600 & echo $! > ${folder}/pid; wait`;
  const { changes } = watch(t, { exec: { command: ['sh', '-c', script] }, timeoutSeconds: 1 });
  assert.deepEqual(await changes.next(), { kind: 'unhealthy', reason: 'no answer within 1000 ms' });
  await isGone(Number(await readFile(join(folder, 'pid'), 'utf8')));
});

test('Envoy is asked before each probe, and the workload only when Envoy is ready', async (t) => {
  const app = await startTcpPeer(t);
  let reason: string | undefined = 'workers have not yet started';
  const checkEnvoy = async () => reason;
  const { changes, turn } = watch(t, { tcpSocket: { port: app.port } }, { checkEnvoy });
  assert.deepEqual(await changes.next(), { kind: 'unhealthy', reason: 'workers have not yet started' });
  assert.equal(app.sources.length, 0);
  reason = undefined;
  turn();
  assert.deepEqual(await changes.next(), { kind: 'healthy' });
});

test('the first probe comes after the initial delay, the others once a period', async (t) => {
  const app = await startTcpPeer(t);
  const probe = { initialDelaySeconds: 7, periodSeconds: 100, tcpSocket: { port: app.port } };
  const { waits, turn } = watch(t, probe);
  assert.equal(await waits.next(), 7000);
  const periodMs = await waits.next();
  // The probe's own time is part of the period.
  assert.ok(periodMs <= 100_000 && periodMs > 0, String(periodMs));
  turn();
  // This turn came early; the grid stays.
  const nextMs = await waits.next();
  assert.ok(nextMs > 100_000 && nextMs <= 200_000, String(nextMs));
});

test('closing does not wait: not for the delay, not for a probe, not for Envoy', async (t) => {
  const delayed = watch(
    t,
    { initialDelaySeconds: 2_000_000, tcpSocket: { port: 1 } },
    { wait: undefined as never },
  );
  await delayed.checker.close();
  const connected = new EventQueue<string>();
  const app = await startHttpPeer(t, () => connected.push('request'));
  const probing = watch(t, { timeoutSeconds: 600, httpGet: { port: app.port } });
  await connected.next();
  await probing.checker.close();
  const asked = new EventQueue<string>();
  const checkEnvoy = async (): Promise<undefined> => {
    asked.push('asked');
    await new Promise(() => undefined);
  };
  const stuck = watch(t, { tcpSocket: { port: 1 } }, { checkEnvoy });
  await asked.next();
  await stuck.checker.close();
  for (const { changes, log } of [delayed, probing, stuck]) {
    assert.equal(changes.pendingCount, 0);
    assert.deepEqual(log.messages('error'), []);
  }
});

test('without an address of its own, or when told so, the local host is probed', async (t) => {
  const server = createServer();
  server.listen(0, 'localhost');
  await once(server, 'listening');
  t.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  for (const options of [{ instanceIps: [] }, { instanceIps: ['192.0.2.1'], isLocalhostProbed: true }]) {
    const { changes } = watch(t, { tcpSocket: { port: address.port } }, options);
    assert.equal((await changes.next()).kind, 'healthy');
  }
});

test('only connections to this machine come from the address that is not captured', () => {
  const dialer = new ProbeDialer({ ownAddresses: ['10.0.0.5', 'fd00::5', 'fe80::5%eth0', 'no address'] });
  const rows = [
    ['127.0.0.1', '127.0.0.6'],
    ['127.8.8.8', '127.0.0.6'],
    ['10.0.0.5', '127.0.0.6'],
    ['10.0.0.6', undefined],
    ['::1', '::6'],
    ['fd00:0:0::5', '::6'],
    ['fe80::5%eth0', '::6'],
    ['fd00::6', undefined],
    ['name', undefined],
  ] as const;
  for (const [address, source] of rows) assert.equal(dialer.sourceFor(address), source, address);
});
