import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Child } from '../support/child-process.ts';
import { envoyBinary } from '../support/envoy.ts';
import { httpGet } from '../support/http-get.ts';
import { createWorkspace } from '../support/workspace.ts';
import { processesIn } from './process-list.ts';

const demo = fileURLToPath(new URL('../demo/demo.ts', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));
const envoy = envoyBinary();
const signal = (): AbortSignal => AbortSignal.timeout(50_000);

function startDemo(args: readonly string[], env: Readonly<Record<string, string>> = {}): Child {
  return new Child({
    command: process.execPath,
    args: [demo, ...args],
    cwd: root,
    env: { ...process.env, ...env },
  });
}

async function assertNothingIsLeft(child: Child): Promise<void> {
  const folder = child.output.lines.map((line) => /^ {4}files +(\S+)$/.exec(line)?.[1]).find((each) => each);
  assert.ok(folder !== undefined, child.output.tail());
  assert.equal(existsSync(folder), false);
  assert.deepEqual(await processesIn(folder), []);
}

describe('the demo', { skip: envoy.skipReason, concurrency: 2 }, () => {
  test('tells its story and leaves nothing behind', async () => {
    const child = startDemo([]);
    const { code } = await child.exited;
    assert.equal(code, 0, child.output.tail());
    const ticks = child.output.lines.filter((line) => line.startsWith('✔ '));
    assert.equal(ticks.length, 11, child.output.tail());
    assert.match(child.output.tail(), /istio_agent_wasm_remote_fetch_count\{result="success"\} 1/);
    await assertNothingIsLeft(child);
  });

  test('keeps running until Ctrl-C when asked, and its commands work', async () => {
    const child = startDemo(['--keep']);
    await child.output.waitFor(/^Ctrl-C ends everything/, { signal: signal() });
    const command = child.output.lines.find((line) => line.includes('curl -i -H'));
    const [, header = '', url = ''] = /-H 'Authorization: (.+)' (\S+)$/.exec(command ?? '') ?? [];
    assert.equal((await httpGet(url)).status, 401);
    assert.equal((await httpGet(url, { headers: { authorization: header } })).status, 200);
    child.signal('SIGINT');
    child.signal('SIGINT');
    const { code } = await child.exited;
    assert.equal(code, 0, child.output.tail());
    await assertNothingIsLeft(child);
  });

  test('ends early at a signal, with its code, and leaves nothing behind', async () => {
    await using workspace = await createWorkspace();
    const child = startDemo([], { TMPDIR: workspace.root });
    await child.output.waitFor(/Ferry and Envoy ready/, { signal: signal() });
    child.signal('SIGTERM');
    const { code } = await child.exited;
    assert.equal(code, 143, child.output.tail());
    assert.match(child.output.tail(), /Interrupted \(SIGTERM\)/);
    assert.deepEqual(await processesIn(workspace.root), []);
  });

  test('fails with the end of the log when Envoy does not work', async () => {
    await using workspace = await createWorkspace();
    const path = await workspace.write('envoy', '#!/bin/sh\necho no such luck\nexit 3\n');
    await chmod(path, 0o755);
    const child = startDemo([], { ENVOY_PATH: path, TMPDIR: workspace.root });
    const { code } = await child.exited;
    assert.equal(code, 1, child.output.tail());
    assert.match(child.output.tail(), /✘ Ferry and Envoy ready/);
    assert.match(child.output.tail(), /no such luck/);
    assert.deepEqual(await processesIn(workspace.root), []);
  });

  test('fails at once when the agent ends by itself', async () => {
    await using workspace = await createWorkspace();
    const child = startDemo(['--keep'], { TMPDIR: workspace.root });
    await child.output.waitFor(/^Ctrl-C ends everything/, { signal: signal() });
    const [, agentPid] = /agent pid (\d+)/.exec(child.output.lines.join('\n')) ?? [];
    process.kill(Number(agentPid), 'SIGKILL');
    const { code } = await child.exited;
    assert.equal(code, 1, child.output.tail());
    assert.match(child.output.lines.join('\n'), /The agent ended by itself with signal SIGKILL/);
    assert.deepEqual(await processesIn(workspace.root), []);
  });

  test('explains its use', async () => {
    const child = startDemo(['--kep']);
    const { code } = await child.exited;
    assert.equal(code, 2);
    assert.match(child.output.tail(), /--kep.*\n.*Usage: npm run demo/s);
  });
});
