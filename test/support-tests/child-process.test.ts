import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Child } from '../support/child-process.ts';

const start = (script: string): Child =>
  new Child({
    command: process.execPath,
    args: ['--input-type=module', '-e', script],
    cwd: '/',
    env: { PATH: process.env['PATH'] },
  });
const soon = (): AbortSignal => AbortSignal.timeout(10_000);

describe('a child process', () => {
  test('has its lines collected, whole, also the last one without a newline and split characters', async () => {
    const child = start(`
      process.stdout.write('first\\nseco');
      process.stdout.write(Buffer.from('é').subarray(0, 1));
      setTimeout(() => { process.stdout.write(Buffer.from('é').subarray(1)); process.stdout.write('nd\\nlast'); }, 20);
    `);
    await child.exited;
    assert.deepEqual(child.output.lines, ['first', 'secoénd', 'last']);
    assert.equal(child.output.tail(1), 'last');
  });

  test('can be waited for by a line, past or to come', async () => {
    const child = start(`console.log('one'); setTimeout(() => console.log('two'), 20);`);
    assert.equal(await child.output.waitFor(/tw/, { signal: soon() }), 'two');
    assert.equal(await child.output.waitFor(/on/, { signal: soon() }), 'one');
    await assert.rejects(
      child.output.waitFor(/three/, { signal: AbortSignal.abort(new Error('gave up')) }),
      /gave up/,
    );
    await child.exited;
  });

  test('is told to end, and ended with all it started when it does not', async () => {
    const child = start(`
      import { spawn } from 'node:child_process';
      process.on('SIGTERM', () => console.log('no'));
      spawn(process.execPath, ['-e', 'console.log("inner"); setInterval(() => {}, 1000)'], { stdio: 'inherit' });
    `);
    await child.output.waitFor(/inner/, { signal: soon() });
    assert.equal((await child.stop(300)).signal, 'SIGKILL');
    assert.ok(child.output.lines.includes('no'));
    assert.equal(child.isRunning, false);
  });

  test('tells when it left something running, which is then ended', async () => {
    const child = start(`
      import { spawn } from 'node:child_process';
      const inner = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'inherit' });
      inner.once('spawn', () => process.exit(0));
    `);
    const exit = await child.exited;
    assert.deepEqual(exit, { code: 0, signal: null, hasLeftProcesses: true });
  });

  test('that cannot be started says so', async () => {
    const child = new Child({ command: '/no/such/program', args: [], cwd: '/', env: {} });
    await assert.rejects(child.exited, /ENOENT/);
    await assert.rejects(child.stop(10), /ENOENT/);
  });
});
