// node test/support/run-tests.ts [default|e2e|deep] [file or folder ...]
//
// Runs a suite with Node's own test runner. Exit code 0: all passed; 1: a test failed; 2: nothing to run.
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type SuiteName, suiteFiles, suiteNames } from './test-suites.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const badUseExitCode = 2;
const killGraceMs = 10_000;

function main(): void {
  const [first, ...rest] = process.argv.slice(2);
  const isSuite = suiteNames.some((name) => name === first);
  const suite = isSuite ? (first as SuiteName) : 'default';
  const wanted = (isSuite ? rest : first === undefined ? [] : [first, ...rest]).map((path) =>
    relative(root, resolve(path)),
  );
  const found = globSync('test/**/*.test.ts', { cwd: root, exclude: ['**/node_modules/**'] });
  const { files, limits } = suiteFiles(suite, found.sort(), wanted);
  if (files.length === 0) {
    const where = wanted.length === 0 ? 'under test/' : `among ${wanted.join(', ')}`;
    stop(`The suite "${suite}" has no test file ${where}. Suites are: ${suiteNames.join(', ')}.`);
    return;
  }
  if (!process.env['ENVOY_PATH']) {
    if (suite === 'e2e') {
      stop('ENVOY_PATH is not set, and the e2e suite is nothing without Envoy. Run `npm run test:e2e`.');
      return;
    }
    process.stderr.write(
      'ENVOY_PATH is not set: tests with a real Envoy are skipped. `npm test` brings one.\n',
    );
  }
  const concurrency = Math.min(availableParallelism(), limits.maxConcurrency);
  const runner = spawn(
    process.execPath,
    [
      '--test',
      '--test-reporter=spec',
      `--test-concurrency=${concurrency}`,
      `--test-timeout=${limits.timeoutMs}`,
      ...files,
    ],
    { cwd: root, stdio: 'inherit' },
  );
  // The runner ends the test files itself; this process only has to outlive it, to pass its verdict on.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !process.stdout.isTTY) runner.kill(signal);
    });
  }
  // At SIGINT the runner names the files that were still running.
  const deadline = setTimeout(() => {
    process.stderr.write(`run-tests: not finished after ${limits.runTimeoutMs} ms; the run is ended.\n`);
    runner.kill('SIGINT');
    setTimeout(() => runner.kill('SIGKILL'), killGraceMs).unref();
  }, limits.runTimeoutMs);
  runner.once('exit', () => clearTimeout(deadline));
  runner.once('error', (error) => stop(`The test runner cannot be started: ${error.message}`));
  runner.once('exit', (code) => {
    process.exitCode = code === 0 ? 0 : 1;
  });
}

function stop(message: string): void {
  process.stderr.write(`run-tests: ${message}\n`);
  process.exitCode = badUseExitCode;
}

main();
