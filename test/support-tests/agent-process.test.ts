import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AgentProcess } from '../support/agent-process.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { poll } from '../support/polling.ts';
import { createWorkspace } from '../support/workspace.ts';
import { processesIn } from './process-list.ts';

const envoy = envoyBinary();

describe('an agent process', () => {
  test('gets ready with its Envoy, keeps to its workspace, and takes Envoy with it', {
    skip: envoy.skipReason,
  }, async () => {
    await using workspace = await createWorkspace();
    const [listenerPort = 0, backendPort = 0] = await freePorts(2);
    await using controlPlane = await ControlPlane.start({
      world: gatewayWorld({ listenerPort, backendPort }),
    });
    const agent = await AgentProcess.start({
      workspace,
      discoveryAddress: controlPlane.address,
      envoyPath: envoy.path,
    });
    await agent.waitUntilReady();
    const stream = await controlPlane.waitForStream();
    assert.match(stream.node?.id ?? '', /^router~127\.0\.0\.1~gateway-0\.default~/);
    assert.equal((await agent.admin.stats('^server.live$')).get('server.live'), 1);
    assert.match(await agent.metrics(), /^istio_agent_/m);
    assert.equal((await processesIn(workspace.root)).length, 2);
    const exit = await agent.stop();
    assert.deepEqual(exit, { code: 0, signal: null, hasLeftProcesses: false });
    assert.deepEqual(await processesIn(workspace.root), []);
    assert.deepEqual(await agent.stop(), exit);
  });

  test('shows the end of its log when what is waited for does not come', async () => {
    await using workspace = await createWorkspace();
    await using agent = await AgentProcess.start({
      workspace,
      discoveryAddress: 'not an address',
      envoyPath: undefined,
    });
    await assert.rejects(agent.waitUntilReady(), /the agent ended with code 255.*discoveryAddress/s);
    await assert.rejects(
      agent.waitForLog(/never written/),
      /never written.*the agent ended.*discoveryAddress/s,
    );
  });

  test('can be ended at once', { skip: envoy.skipReason }, async () => {
    await using workspace = await createWorkspace();
    const [port = 0] = await freePorts(1);
    const agent = await AgentProcess.start({
      workspace,
      discoveryAddress: `127.0.0.1:${port}`,
      envoyPath: envoy.path,
    });
    await poll(
      async () => {
        const found = await processesIn(workspace.root);
        return found.length === 2
          ? { done: true, value: undefined }
          : { done: false, seen: `${found.length} processes` };
      },
      { what: 'The start of Envoy', deadlineMs: 20_000 },
    );
    assert.equal((await agent.kill()).signal, 'SIGKILL');
    assert.deepEqual(await processesIn(workspace.root), []);
  });
});
