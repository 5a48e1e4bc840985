import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { longestDelayMs, systemClock, timeoutSignal, wait } from '../../agent/clock.ts';
import { readQuery } from '../../agent/dns/dns-query.ts';
import { OwnQueries } from '../../agent/dns/own-queries.ts';
import { exchangeOverTcp, exchangeOverUdp } from '../../agent/dns/upstream-exchange.ts';
import { Drain } from '../../agent/envoy/drain.ts';
import { pause } from '../../agent/fetch/retry.ts';
import { FetchError } from '../../agent/fetch/types.ts';
import { withProbeDeadline } from '../../agent/health/probe-deadline.ts';
import { WorkloadHealthChecker } from '../../agent/health/workload-health.ts';
import { Keepalive } from '../../agent/xds/keepalive.ts';
import { answerTo, encodeQuery, startUpstream } from './dns/dns-peers.ts';
import { keptLog } from './envoy/kept-log.ts';

/** A month: more than a timer of Node holds. */
const monthMs = 30 * 86_400_000;

/** Does something with a delay of a month, and ends it. */
type Use = (t: TestContext, signal: AbortSignal, end: () => void) => Promise<void>;

async function exchange(t: TestContext, signal: AbortSignal, ask: typeof exchangeOverUdp): Promise<void> {
  const upstream = await startUpstream(t, (query) => query.send(answerTo(query, [])));
  const reading = readQuery(encodeQuery('x.example'));
  assert.equal(reading.kind, 'query');
  const ownQueries = new OwnQueries();
  await ask(reading.query, { upstream: upstream.endpoint, timeoutMs: monthMs, ownQueries, signal });
}

async function keepAlive(options: {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}): Promise<void> {
  const server = createServer();
  const pinged = Promise.withResolvers<void>();
  server.on('session', (session) => session.on('ping', () => pinged.resolve()));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(session, 'remoteSettings');
  const keepalive = new Keepalive(session, { ...options, onDead: () => assert.fail('it lives') });
  if (options.intervalMs < monthMs) await pinged.promise;
  keepalive.stop();
  session.close();
  await once(session, 'close');
  server.close();
  await once(server, 'close');
}

const uses: readonly (readonly [string, Use])[] = [
  [
    'a drain',
    async (_t, signal, end) => {
      const drain = new Drain(
        {
          isInboundDrainOnly: false,
          terminationDrainMs: monthMs,
          minimumDrainMs: 0,
          exitOnZeroActiveConnections: false,
          ownListenerPorts: [],
        },
        {
          admin: { get: async () => '', post: async () => '' },
          log: keptLog((line) => {
            if (line.includes('Graceful termination period starts')) setImmediate(end);
          }).log,
        },
      );
      const drained = drain.drainForTermination({ signal });
      assert.equal(await drained, 'envoy_gone');
    },
  ],
  ['a nameserver asked over UDP', async (t, signal) => exchange(t, signal, exchangeOverUdp)],
  ['a nameserver asked over TCP', async (t, signal) => exchange(t, signal, exchangeOverTcp)],
  [
    'the wait that a Retry-After asks for',
    async (_t, signal, end) => {
      const limits = { signal, deadlineAtMs: () => Number.MAX_SAFE_INTEGER };
      const clock = { nowMs: () => 0, random: () => 0 };
      const paused = pause(monthMs, new FetchError('http_status', 'busy'), limits, clock);
      end();
      await assert.rejects(paused, { code: 'aborted' });
    },
  ],
  [
    'the deadline of a probe',
    async (_t, signal, end) => {
      const probed = withProbeDeadline({ timeoutMs: monthMs, signal }, async (inner) => {
        const aborted = once(inner, 'abort');
        setImmediate(end);
        await aborted;
      });
      await probed;
    },
  ],
  [
    'the initial delay of health checks',
    async (_t, signal) => {
      signal.throwIfAborted();
      const checker = new WorkloadHealthChecker({
        probe: {
          method: { kind: 'tcp', host: undefined, port: 1 },
          initialDelayMs: monthMs,
          timeoutMs: 1000,
          periodMs: 1000,
          successThreshold: 1,
          failureThreshold: 1,
        },
        instanceIps: ['127.0.0.1'],
        isLocalhostProbed: true,
        checkEnvoy: undefined,
        onChange: () => assert.fail('no check has begun'),
        log: keptLog().log,
      });
      await checker.close();
    },
  ],
  ['the interval of a keepalive', async () => keepAlive({ intervalMs: monthMs, timeoutMs: 1000 })],
  ['the answer to a keepalive', async () => keepAlive({ intervalMs: 1, timeoutMs: monthMs })],
  [
    'a timeout as a signal',
    async () => {
      assert.equal(timeoutSignal(monthMs).aborted, false);
    },
  ],
];

describe('a delay that is longer than a timer of Node holds', () => {
  for (const [what, use] of uses) {
    test(`is no timer that fires at once: ${what}`, async (t) => {
      const warnings: string[] = [];
      const note = ({ name, message }: Error): void => void warnings.push(`${name}: ${message}`);
      process.on('warning', note);
      t.after(() => process.off('warning', note));
      const controller = new AbortController();
      await use(t, controller.signal, () => controller.abort());
      // Node warns in a later tick, of each such timer.
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(warnings, []);
    });
  }

  test('is kept to the millisecond', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let isOver = false;
    systemClock.schedule(2 * longestDelayMs + 5, () => {
      isOver = true;
    });
    for (const ms of [longestDelayMs, longestDelayMs, 4]) {
      t.mock.timers.tick(ms);
      assert.equal(isOver, false);
    }
    t.mock.timers.tick(1);
    assert.equal(isOver, true);
  });

  test('ends with its signal, and when disposed in its second part', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const timer = systemClock.schedule(monthMs, () => assert.fail('it was disposed'));
    t.mock.timers.tick(longestDelayMs);
    timer[Symbol.dispose]();
    t.mock.timers.tick(monthMs);
    const controller = new AbortController();
    const waiting = wait(systemClock, monthMs, { signal: controller.signal });
    controller.abort(new Error('gone'));
    await assert.rejects(waiting, { message: 'gone' });
  });
});
