import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { HttpAdminClient } from '../../../agent/envoy/admin.ts';
import { countActiveConnections, Drain, type DrainPlan } from '../../../agent/envoy/drain.ts';
import { freePorts } from '../../support/free-ports.ts';
import { ScriptedServer } from '../../support/scripted-server.ts';
import { keptLog } from './kept-log.ts';

const basePlan: DrainPlan = {
  isInboundDrainOnly: true,
  terminationDrainMs: 5000,
  minimumDrainMs: 7000,
  exitOnZeroActiveConnections: false,
  ownListenerPorts: [15_021, 15_090],
};

interface Fixture {
  readonly drain: Drain;
  readonly server: ScriptedServer;
  /** Requests as `METHOD path?query`, and waits as `wait <ms>`, in order. */
  readonly events: string[];
  readonly lines: readonly string[];
}

/** A drain against a real HTTP server, with timers that fire at once. */
async function fixture(
  context: TestContext,
  changes: Partial<DrainPlan> = {},
  options: {
    readonly stats?: readonly (string | number)[];
    readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
  } = {},
): Promise<Fixture> {
  const events: string[] = [];
  const stats = [...(options.stats ?? [])];
  const server = await ScriptedServer.start({
    answer: ({ method, path, query }) => {
      events.push(`${method} ${path}?${query.toString().replaceAll(/=(?=&|$)/g, '')}`);
      const next = path === '/stats' ? (stats.shift() ?? '') : 'OK\n';
      return typeof next === 'number'
        ? { status: next }
        : { status: 200, content: { kind: 'bytes', bytes: Buffer.from(next) } };
    },
  });
  context.after(() => server.close());
  const { log, lines } = keptLog();
  const drain = new Drain(
    { ...basePlan, ...changes },
    {
      admin: new HttpAdminClient({ host: '127.0.0.1', port: server.port }),
      log,
      wait: async (ms, { signal }) => {
        events.push(`wait ${ms}`);
        await options.wait?.(ms, signal);
      },
    },
  );
  return { drain, server, events, lines };
}

const never = new AbortController().signal;
const statsRequest = 'GET /stats?usedonly&filter=downstream_cx_active%24';
const active = (count: number) => `listener.0.0.0.0_8080.downstream_cx_active: ${count}\n`;

describe('the drain at termination', () => {
  test('drains inbound listeners of a sidecar and waits terminationDrainDuration', async (context) => {
    const { drain, events } = await fixture(context);
    assert.equal(await drain.drainForTermination({ signal: never }), 'time_over');
    assert.deepEqual(events, ['POST /drain_listeners?inboundonly&graceful', 'wait 5000']);
  });

  test('drains all listeners of other roles', async (context) => {
    const { drain, events } = await fixture(context, { isInboundDrainOnly: false });
    await drain.drainForTermination({ signal: never });
    assert.equal(events[0], 'POST /drain_listeners?graceful');
  });

  test('goes on when the drain call fails', async () => {
    const [port = 0] = await freePorts(1);
    const { log, lines } = keptLog();
    const drain = new Drain(basePlan, {
      admin: new HttpAdminClient({ host: '127.0.0.1', port }),
      log,
      wait: async () => {},
    });
    assert.equal(await drain.drainForTermination({ signal: never }), 'time_over');
    assert.match(lines.join(''), /warn\tError in invoking drain listeners endpoint\terror=.*ECONNREFUSED/);
  });

  test('ends at once when Envoy ends during the wait', async (context) => {
    const gone = new AbortController();
    const { drain } = await fixture(
      context,
      {},
      {
        wait: (_, signal) =>
          new Promise((__, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason));
            gone.abort();
          }),
      },
    );
    assert.equal(await drain.drainForTermination({ signal: gone.signal }), 'envoy_gone');
  });

  test('uses real timers that end with the signal', async (context) => {
    const { server } = await fixture(context);
    const gone = new AbortController();
    const waiting = Promise.withResolvers<void>();
    const drain = new Drain(
      { ...basePlan, terminationDrainMs: 3_600_000 },
      {
        admin: new HttpAdminClient({ host: '127.0.0.1', port: server.port }),
        log: keptLog((line) => {
          if (line.includes('Graceful termination period starts')) waiting.resolve();
        }).log,
      },
    );
    const drained = drain.drainForTermination({ signal: gone.signal });
    await waiting.promise;
    gone.abort();
    assert.equal(await drained, 'envoy_gone');
  });

  test('after /drain there is neither a second drain nor a wait', async (context) => {
    const { drain, events } = await fixture(context);
    await drain.drainNow();
    assert.equal(await drain.drainForTermination({ signal: never }), 'already_drained');
    assert.deepEqual(events, ['POST /drain_listeners?inboundonly&graceful&skip_exit']);
  });

  test('after /quitquitquit there is none at all', async (context) => {
    const { drain, events } = await fixture(context);
    drain.skip();
    assert.equal(await drain.drainForTermination({ signal: never }), 'already_drained');
    assert.deepEqual(events, []);
  });
});

describe('the drain until no connection is active', () => {
  const exiting = { exitOnZeroActiveConnections: true };

  test('waits the minimum, then looks each second until the count is zero', async (context) => {
    const { drain, events } = await fixture(context, exiting, { stats: [active(2), active(1), active(0)] });
    assert.equal(await drain.drainForTermination({ signal: never }), 'no_connections');
    assert.deepEqual(events, [
      'POST /drain_listeners?inboundonly&graceful',
      'wait 7000',
      'wait 1000',
      statsRequest,
      'wait 1000',
      statsRequest,
      'wait 1000',
      statsRequest,
    ]);
  });

  test('ends when Envoy keeps no such stat', async (context) => {
    const { drain } = await fixture(context, exiting, { stats: [''] });
    assert.equal(await drain.drainForTermination({ signal: never }), 'no_stats');
  });

  test('ends after five failures in a row, and counts anew after a success', async (context) => {
    const { drain, events } = await fixture(context, exiting, {
      stats: [503, 503, 503, 503, active(1), 503, 503, 503, 503, 503],
    });
    assert.equal(await drain.drainForTermination({ signal: never }), 'stats_failed');
    assert.equal(events.filter((event) => event === statsRequest).length, 10);
  });

  test('ends when Envoy is gone', async (context) => {
    const gone = new AbortController();
    let pollCount = 0;
    const { drain } = await fixture(context, exiting, {
      stats: [active(1), active(1), active(1)],
      wait: async () => {
        pollCount += 1;
        if (pollCount === 3) gone.abort();
      },
    });
    assert.equal(await drain.drainForTermination({ signal: gone.signal }), 'envoy_gone');
  });
});

describe('counting active connections', () => {
  test('sums listener stats but those of workers, internal listeners and our own', () => {
    const body = [
      'http.inbound_0.0.0.0_8080;.downstream_cx_active: 100',
      'listener.0.0.0.0_8080.downstream_cx_active: 3',
      'listener.0.0.0.0_8080.worker_0.downstream_cx_active: 3',
      'listener.[__]_8080.downstream_cx_active: 4',
      'listener.0.0.0.0_15021.downstream_cx_active: 5',
      'listener.[__]_15021.downstream_cx_active: 5',
      'listener.0.0.0.0_15090.downstream_cx_active: 6',
      'listener.127.0.0.1_15090.downstream_cx_active: 6',
      'listener.admin.downstream_cx_active: 1',
      'listener.admin.main_thread.downstream_cx_active: 1',
      'listener.envoy_internal_main_internal.downstream_cx_active: 9',
      'broken line',
      'listener.0.0.0.0_9090.downstream_cx_active: many',
    ].join('\n');
    assert.equal(countActiveConnections(body, [15_021, 15_090]), 7);
    assert.equal(countActiveConnections(body, []), 29);
    assert.equal(countActiveConnections('\n', []), undefined);
    assert.equal(countActiveConnections('http.x.downstream_cx_active: 1', []), 0);
  });
});
