import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { AgentProcess } from '../../support/agent-process.ts';
import { httpGet } from '../../support/http-get.ts';
import { poll } from '../../support/polling.ts';
import { createWorkspace } from '../../support/workspace.ts';

async function startAgent(t: TestContext, args: readonly string[]): Promise<AgentProcess> {
  const workspace = await createWorkspace();
  t.after(() => workspace.close());
  const agent = await AgentProcess.start({
    workspace,
    discoveryAddress: '127.0.0.1:1',
    envoyPath: undefined,
    args,
    test: t,
  });
  await agent.waitUntilReady();
  return agent;
}

describe('the pages of a running agent for who looks closer', () => {
  test('are there by default', async (t) => {
    const agent = await startAgent(t, []);
    const ask = (path: string, method = 'GET') => httpGet(`${agent.statusUrl}${path}`, { method });
    assert.equal((await ask('/debug/profile/heap')).status, 200);
    assert.equal((await ask('/debug/profile/cpu?seconds=1')).status, 200);
    assert.equal((await ask('/debug/pprof/heap')).status, 501);
    assert.match((await ask('/debug/logging')).text, /xdsproxy: info/);
    await ask('/debug/logging?default=none', 'POST');
    await agent.stop();
    assert.doesNotMatch(agent.logTail(), /Received signal/);
  });

  test('of profiling are not there with --profiling=false', async (t) => {
    const agent = await startAgent(t, ['--profiling=false']);
    for (const path of ['/debug/profile/heap', '/debug/profile/cpu', '/debug/pprof/']) {
      assert.equal((await httpGet(`${agent.statusUrl}${path}`)).status, 404, path);
    }
    await agent.stop();
    assert.match(agent.logTail(), /Received signal/);
  });
});

describe('readiness of an agent without Envoy', () => {
  test('waits for the certificate files that the gRPC bootstrap names', async (t) => {
    const workspace = await createWorkspace();
    t.after(() => workspace.close());
    await workspace.write('certs/.keep', '');
    const agent = await AgentProcess.start({
      workspace,
      discoveryAddress: '127.0.0.1:1',
      envoyPath: undefined,
      env: { OUTPUT_CERTS: workspace.path('certs') },
      test: t,
    });
    const missing = 'certs/cert-chain.pem does not exist';
    await poll(
      async (signal) => {
        const { status } = await httpGet(`${agent.statusUrl}/healthz/ready`, { signal });
        assert.equal(status, 503);
        const isSaid = agent.logLines.some((line) => line.includes(missing));
        return isSaid ? { done: true, value: undefined } : { done: false, seen: agent.logTail(1) };
      },
      { what: missing, deadlineMs: 20_000 },
    );
  });
});
