import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { AgentProcess } from '../support/agent-process.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import { poll } from '../support/polling.ts';
import { createWorkspace } from '../support/workspace.ts';
import { type ClientReport, HoldingBackend, http1Client, http2Client } from './drain-traffic.ts';
import { skipReason } from './gateway.ts';

interface Scene {
  readonly agent: AgentProcess;
  readonly backend: HoldingBackend;
  /** Of the gateway's listener. */
  readonly port: number;
}

async function startScene(
  t: TestContext,
  settings: {
    readonly env?: Readonly<Record<string, string>>;
    readonly terminationDrainDuration?: string;
  },
): Promise<Scene> {
  const [port = 0] = await freePorts(1);
  const backend = await HoldingBackend.start();
  t.after(() => backend[Symbol.asyncDispose]());
  const world = gatewayWorld({ listenerPort: port, backendPort: backend.port });
  const controlPlane = await ControlPlane.start({ world });
  t.after(() => controlPlane.close());
  const workspace = await createWorkspace();
  t.after(() => workspace.close());
  const agent = await AgentProcess.start({
    workspace,
    discoveryAddress: controlPlane.address,
    envoyPath: envoyBinary().path,
    test: t,
    env: settings.env ?? {},
    proxyConfig: {
      terminationDrainDuration: settings.terminationDrainDuration ?? '5s',
      drainDuration: '20s',
    },
  });
  await agent.waitUntilReady();
  return { agent, backend, port };
}

/** Clients that never pause: the returned promise settles when all have left. Resolves when each had an answer. */
async function startTraffic(port: number): Promise<{ readonly left: Promise<readonly ClientReport[]> }> {
  const clients = [http1Client, http1Client, http1Client, http2Client, http2Client];
  const firsts = clients.map(() => Promise.withResolvers<void>());
  const left = Promise.all(clients.map((client, index) => client(port, '/', firsts[index]?.resolve)));
  // A client that fails at once leaves without an answer.
  await Promise.race([Promise.all(firsts.map(({ promise }) => promise)), left]);
  return { left };
}

function assertServed(reports: readonly ClientReport[]): void {
  for (const { statuses, failures } of reports) {
    assert.deepEqual(failures, []);
    assert.ok(statuses.length > 0);
    assert.deepEqual(
      statuses.filter((status) => status !== 200),
      [],
    );
  }
}

async function assertEnded(agent: AgentProcess): Promise<void> {
  const exit = await agent.exited;
  assert.equal(exit.code, 0);
  assert.equal(exit.hasLeftProcesses, false);
}

describe('the end of an agent with traffic', { skip: skipReason }, () => {
  test('SIGTERM loses no request: clients are told to go, and what is in flight is answered', async (t) => {
    const { agent, backend, port } = await startScene(t, {});
    const held = Promise.all([http1Client(port, '/held'), http2Client(port, '/held')]);
    await backend.untilHeld(2);
    const traffic = await startTraffic(port);
    agent.signal('SIGTERM');
    assertServed(await traffic.left);
    // A second signal does not cut the drain short.
    agent.signal('SIGTERM');
    backend.release();
    assertServed(await held);
    await agent.waitForLog(/Graceful termination period complete/);
    await assertEnded(agent);
  });

  test('the status port closes at once, while Envoy still answers', async (t) => {
    const { agent, backend, port } = await startScene(t, {});
    const held = http1Client(port, '/held');
    await backend.untilHeld(1);
    agent.signal('SIGTERM');
    await poll(
      async (signal) => {
        const seen = await httpGet(`${agent.statusUrl}/healthz/ready`, { signal }).then(
          ({ status }) => `status ${status}`,
          (error: unknown) => String(error),
        );
        return seen.includes('ECONNREFUSED') ? { done: true, value: undefined } : { done: false, seen };
      },
      { what: 'The end of the status port', deadlineMs: 4_000 },
    );
    assert.equal((await httpGet(`http://127.0.0.1:${agent.ports.envoyStatus}/healthz/ready`)).status, 503);
    backend.release();
    assertServed([await held]);
    await assertEnded(agent);
  });

  test('EXIT_ON_ZERO_ACTIVE_CONNECTIONS waits for the last connection, however long', async (t) => {
    const env = { EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true', MINIMUM_DRAIN_DURATION: '100ms' };
    const { agent, backend, port } = await startScene(t, { env, terminationDrainDuration: '1ms' });
    const held = http1Client(port, '/held');
    await backend.untilHeld(1);
    agent.signal('SIGTERM');
    await agent.waitForLog(/There are still active connections/);
    backend.release();
    assertServed([await held]);
    await agent.waitForLog(/There are no more active connections/);
    await assertEnded(agent);
  });

  test('/drain, the preStop hook of a native sidecar, drains; SIGTERM then ends at once', async (t) => {
    const { agent, backend, port } = await startScene(t, { terminationDrainDuration: '1h' });
    const held = Promise.all([http1Client(port, '/held'), http2Client(port, '/held')]);
    await backend.untilHeld(2);
    const traffic = await startTraffic(port);
    const { status, text } = await httpGet(`${agent.statusUrl}/drain`, { method: 'POST' });
    assert.deepEqual([status, text], [200, 'OK']);
    assertServed(await traffic.left);
    backend.release();
    assertServed(await held);
    assert.equal((await httpGet(`${agent.statusUrl}/healthz/ready`)).status, 200);
    agent.signal('SIGTERM');
    await agent.waitForLog(/Agent already drained, exiting immediately/);
    await assertEnded(agent);
  });

  test('/quitquitquit ends at once, without a drain', async (t) => {
    const { agent } = await startScene(t, { terminationDrainDuration: '1h' });
    const { status, text } = await httpGet(`${agent.statusUrl}/quitquitquit`, { method: 'POST' });
    assert.deepEqual([status, text], [200, 'OK']);
    await assertEnded(agent);
  });
});
