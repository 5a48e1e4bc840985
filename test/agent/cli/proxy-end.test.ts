import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, type TestContext, test } from 'node:test';
import { AgentProcess } from '../../support/agent-process.ts';
import { createWorkspace } from '../../support/workspace.ts';

interface Scene {
  readonly agent: AgentProcess;
  /** Where a started Envoy would leave a mark. */
  readonly mark: string;
  /** Lets the agent read its mesh config, for which it has been waiting. */
  readonly goOn: () => Promise<void>;
}

/** An agent that hangs in the middle of its start: its mesh config is a pipe into which nobody writes yet. */
async function startHanging(t: TestContext, options: { readonly hasEnvoy: boolean }): Promise<Scene> {
  const workspace = await createWorkspace();
  t.after(() => workspace.close());
  const pipe = workspace.path('etc/istio/config/mesh');
  execFileSync('mkfifo', [pipe]);
  const mark = workspace.path('envoy-was-started');
  const envoyPath = await workspace.write('envoy', `#!/bin/sh\ntouch ${mark}\nexec sleep 60\n`);
  execFileSync('chmod', ['+x', envoyPath]);
  const agent = await AgentProcess.start({
    workspace,
    discoveryAddress: '127.0.0.1:1',
    envoyPath: options.hasEnvoy ? envoyPath : undefined,
    test: t,
  });
  await agent.waitForLog(/FLAG: --vklog/);
  return {
    agent,
    mark,
    goOn: async () => {
      const file = await open(pipe, 'w');
      await file.close();
    },
  };
}

describe('an agent that is told to end while it starts', () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`ends with 0 and starts no Envoy (${signal})`, async (t) => {
      const { agent, mark, goOn } = await startHanging(t, { hasEnvoy: true });
      agent.signal(signal);
      await goOn();
      const exit = await agent.exited;
      assert.equal(exit.code, 0);
      assert.equal(exit.hasLeftProcesses, false);
      assert.equal(existsSync(mark), false);
      assert.match(agent.logTail(), /Received signal, shutting down\tsignal=SIG(TERM|INT)/);
    });
  }
});

describe('signals that a Go program does not end by', () => {
  test('do nothing, nor is the debugger of Node opened', async (t) => {
    const { agent, goOn } = await startHanging(t, { hasEnvoy: false });
    for (const name of ['SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGIO', 'SIGPWR'] as const) agent.signal(name);
    await goOn();
    await agent.waitForLog(/Opening status port/);
    assert.equal((await agent.stop()).code, 0);
    assert.doesNotMatch(agent.logLines.join('\n'), /Debugger listening/);
  });
});
