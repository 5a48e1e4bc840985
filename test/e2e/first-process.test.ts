import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { describe, type TestContext, test } from 'node:test';
import { AgentProcess } from '../support/agent-process.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { createWorkspace } from '../support/workspace.ts';
import { skipReason } from './gateway.ts';

/** A process namespace of its own, in which the agent is process 1, as in a container. */
const launcher = ['unshare', '--pid', '--fork', '--kill-child=SIGKILL', '--mount-proc'];

function namespaceSkip(): string | false {
  const { status, error, stderr } = spawnSync(launcher[0] ?? '', [...launcher.slice(1), 'true'], {
    encoding: 'utf8',
  });
  if (status === 0) return false;
  return `a process namespace cannot be made here: ${error?.message ?? stderr.trim()}`;
}

const skip = skipReason === false ? namespaceSkip() : skipReason;

/** Children of a process, by its number outside the namespace. */
async function childrenOf(pid: number): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.trim().split(' ').filter(Boolean).map(Number);
}

/** A ready agent with its Envoy, and their numbers outside. */
async function startFirst(
  t: TestContext,
): Promise<{ readonly agent: AgentProcess; readonly firstPid: number; readonly envoyPid: number }> {
  const [listenerPort = 0, backendPort = 0] = await freePorts(2);
  const controlPlane = await ControlPlane.start({ world: gatewayWorld({ listenerPort, backendPort }) });
  t.after(() => controlPlane.close());
  const workspace = await createWorkspace();
  t.after(() => workspace.close());
  const agent = await AgentProcess.start({
    workspace,
    discoveryAddress: controlPlane.address,
    envoyPath: envoyBinary().path,
    launcher,
    test: t,
  });
  await agent.waitUntilReady();
  const [firstPid = 0] = await childrenOf(agent.pid ?? 0);
  const [envoyPid = 0] = await childrenOf(firstPid);
  const status = await readFile(`/proc/${firstPid}/status`, 'utf8');
  assert.match(status, /^NSpid:\t\d+\t1$/m);
  return { agent, firstPid, envoyPid };
}

describe('the agent as process 1', { skip }, () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`drains and ends with 0 on ${signal}`, async (t) => {
      const { agent, firstPid } = await startFirst(t);
      process.kill(firstPid, signal);
      const exit = await agent.exited;
      assert.equal(exit.code, 0);
      assert.equal(exit.hasLeftProcesses, false);
      assert.match(agent.logTail(), /Agent draining Proxy for termination/);
    });
  }

  test('ends with 0 when Envoy is killed, and says so', async (t) => {
    const { agent, envoyPid } = await startFirst(t);
    process.kill(envoyPid, 'SIGKILL');
    assert.equal((await agent.exited).code, 0);
    assert.match(
      agent.logTail(),
      /Envoy exited with error: signal: killed\. Envoy may have been out of memory/,
    );
  });
});
