import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BenchUsageError, parseBenchOptions } from './bench-options.ts';

describe('the options of the bench', () => {
  test('are five rounds of everything unless said otherwise', () => {
    const options = parseBenchOptions([]);
    assert.deepEqual(options.purpose, { kind: 'measure' });
    assert.equal(options.roundCount, 5);
    assert.equal(options.pushSizes.at(-1), 100_000_000);
    assert.ok(options.scenarios.includes('ready'));
  });

  test('of a check are its own, with the file of the tree or another', () => {
    const check = parseBenchOptions(['--check']);
    assert.equal(check.purpose.kind, 'check');
    assert.deepEqual(check.subjectNames, ['direct', 'grpc-js', 'ferry']);
    const save = parseBenchOptions(['--save-baseline', '--baseline', '/x/y.json']);
    assert.deepEqual(save.purpose, { kind: 'save-baseline', baselinePath: '/x/y.json' });
    assert.deepEqual({ ...save, purpose: check.purpose }, check);
  });

  test('that do not go together are refused', () => {
    const refused: readonly (readonly string[])[] = [
      ['--check', '--quick'],
      ['--check', '--sizes', '1KB'],
      ['--check', '--peer', 'x'],
      ['--check', '--save-baseline'],
      ['--baseline', 'x.json'],
      ['--scenarios', 'nothing'],
      ['--rounds', '0'],
      ['--sizes', 'large'],
      ['--resources', '0'],
      ['--check', '--resources', '2'],
    ];
    for (const args of refused) assert.throws(() => parseBenchOptions(args), BenchUsageError, args.join(' '));
  });
});
