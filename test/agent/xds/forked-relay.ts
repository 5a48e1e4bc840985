import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { XdsConfig } from '../../../agent/config/agent-config.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { testConfig } from './relay-fixture.ts';

/** The relay as the only thing in a process: its memory is that of the relay. */
export interface ForkedRelay {
  readonly config: XdsConfig;
  readonly pid: number;
  /** False when it has ended by itself. */
  isRunning(): boolean;
  rssBytes(): Promise<number>;
}

/** Starts it; it ends with the test. Its errors are on standard error unless it is silent. */
export async function forkRelay(
  t: TestContext,
  changes: Partial<XdsConfig>,
  options: { readonly isSilent?: boolean } = {},
): Promise<ForkedRelay> {
  const config = testConfig(await temporaryFolder(t), changes);
  const program = fileURLToPath(new URL('relay-process.ts', import.meta.url));
  // The young generation as the agent's image sets it: garbage of the push must not count as growth.
  const child: ChildProcess = fork(
    program,
    [JSON.stringify(config), options.isSilent === true ? 'none' : 'error'],
    {
      execArgv: ['--max-semi-space-size=1'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    },
  );
  const exited = once(child, 'exit');
  t.after(async () => {
    if (child.connected) child.send('close');
    await exited;
  });
  assert.deepEqual(await once(child, 'message'), ['ready', undefined]);
  return {
    config,
    pid: child.pid ?? 0,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    async rssBytes(): Promise<number> {
      child.send('rss');
      const [message] = (await once(child, 'message')) as [{ readonly rssBytes: number }];
      return message.rssBytes;
    },
  };
}
