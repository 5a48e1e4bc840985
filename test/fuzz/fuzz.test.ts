import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { fuzzTargets } from './fuzz-targets.ts';

describe('what reads the words of strangers', () => {
  for (const { name, property, testRunCount = 400 } of fuzzTargets) {
    test(`keeps its promises for any ${name}`, async () => {
      await fc.assert(property, { seed: 20_261_204, numRuns: testRunCount, interruptAfterTimeLimit: 4_000 });
    });
  }
});

describe('npm run fuzz', () => {
  const fuzz = (...args: readonly string[]) =>
    spawnSync(process.execPath, [fileURLToPath(new URL('fuzz.ts', import.meta.url)), ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 50_000,
    });

  test('runs the targets that are asked for, for the time that is given', () => {
    const { status, stdout, stderr } = fuzz('--seconds', '1', '--seed', '7', 'reference', 'challenge');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^reference: \d+ inputs held \(seed 7\)\nchallenge: \d+ inputs held \(seed 7\)\n$/);
  });

  test('says what is wrong with its command line', () => {
    for (const [args, message] of [
      [['nothing'], /there is no target "nothing"; targets: reference, /],
      [['--path', '1'], /--path is of one seed and one target/],
    ] as const) {
      const { status, stderr } = fuzz(...args);
      assert.equal(status, 2);
      assert.match(stderr, message);
    }
  });
});
