import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Child } from '../support/child-process.ts';
import { suiteFiles } from '../support/test-suites.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const found = ['test/a.test.ts', 'test/e2e/b.test.ts', 'test/e2e/c.deep.test.ts', 'test/fuzz/d.deep.test.ts'];

async function runTests(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Child> {
  const child = new Child({
    command: process.execPath,
    args: ['test/support/run-tests.ts', ...args],
    cwd: root,
    // Without the runner's own variable a runner inside a runner runs.
    env: { PATH: process.env['PATH'], ...env },
  });
  await child.exited;
  return child;
}

describe('the suites', () => {
  test('the default one has all but the deep tests', () => {
    assert.deepEqual(suiteFiles('default', found, []).files, found.slice(0, 2));
    assert.deepEqual(suiteFiles('e2e', found, []).files, ['test/e2e/b.test.ts']);
    assert.deepEqual(suiteFiles('deep', found, []).files, found.slice(2));
  });

  test('files and folders narrow a suite', () => {
    assert.deepEqual(suiteFiles('default', found, ['test/e2e/']).files, ['test/e2e/b.test.ts']);
    assert.deepEqual(suiteFiles('default', found, ['test/a.test.ts']).files, ['test/a.test.ts']);
    assert.deepEqual(suiteFiles('default', found, ['test/a']).files, []);
    assert.deepEqual(suiteFiles('default', found, ['']).files, found.slice(0, 2));
  });

  test('a run shows the closing lines of the runner and exits with 0 when all pass', async () => {
    const child = await runTests(['test/support-tests/polling.test.ts'], {});
    assert.deepEqual(await child.exited, { code: 0, signal: null, hasLeftProcesses: false });
    assert.match(child.output.tail(), /ℹ pass [1-9]\d*\nℹ fail 0\n/);
    assert.match(child.output.lines.join('\n'), /ENVOY_PATH is not set: tests with a real Envoy are skipped/);
  });

  test('a run exits with 1 when a test fails', async () => {
    const child = await runTests(['test/support-tests/plugin-envoy.test.ts'], {
      ENVOY_PATH: '/nowhere/envoy',
    });
    assert.equal((await child.exited).code, 1);
    assert.match(
      child.output.lines.join('\n'),
      /ENVOY_PATH is \/nowhere\/envoy, which is not an executable file/,
    );
  });

  test('a run without a file, and e2e without Envoy, say so and exit with 2', async () => {
    const none = await runTests(['default', 'test/nothing'], {});
    assert.equal((await none.exited).code, 2);
    assert.match(none.output.tail(), /The suite "default" has no test file among test\/nothing/);
    const noEnvoy = await runTests(['e2e'], {});
    assert.equal((await noEnvoy.exited).code, 2);
    assert.match(noEnvoy.output.tail(), /ENVOY_PATH is not set|has no test file/);
  });
});
