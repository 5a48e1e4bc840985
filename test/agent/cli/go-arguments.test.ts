import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findCommand, normalizeArguments } from '../../../agent/cli/go-arguments.ts';
import type { FlagDefinition } from '../../../agent/config/flags.ts';

const flag = (name: string, type: FlagDefinition['type'], short?: string): FlagDefinition => ({
  name,
  type,
  default: '',
  meaning: '',
  ...(short === undefined ? {} : { short }),
});
const flags = [flag('text', 'text', 't'), flag('yes', 'boolean', 'y'), flag('log_target', 'text list')];

describe('command lines in Go’s form', () => {
  const table: readonly (readonly [string, readonly string[], readonly string[], readonly string[]])[] = [
    ['both forms of a value', ['--text', 'a', '--text=b'], ['--text=a', '--text=b'], []],
    ['a value that looks like a flag', ['--text', '--yes'], ['--text=--yes'], []],
    ['a value with = and an empty one', ['--text=a=b', '--text='], ['--text=a=b', '--text='], []],
    ['a value of several lines', ['--text=a\nb'], ['--text=a\nb'], []],
    [
      'a boolean takes no next word',
      ['--yes', 'sidecar', '--yes=false'],
      ['--yes=true', 'sidecar', '--yes=false'],
      [],
    ],
    ['short flags', ['-t', 'a', '-tb', '-t=c', '-y'], ['--text=a', '--text=b', '--text=c', '--yes=true'], []],
    ['repeated flags', ['--log_target=a', '--log_target', 'b'], ['--log_target=a', '--log_target=b'], []],
    [
      'an unknown flag with its value',
      ['sidecar', '--old', 'x', '--text=a'],
      ['sidecar', '--text=a'],
      ['--old'],
    ],
    ['an unknown flag before a flag', ['--old', '--text', 'a'], ['--text=a'], ['--old']],
    ['an unknown flag with =', ['--old=x', 'sidecar'], ['sidecar'], ['--old']],
    ['an unknown short flag', ['-x', 'v', 'sidecar'], ['sidecar'], ['-x']],
    ['the end of flags', ['--', '--old', '--yes'], ['--', '--old', '--yes'], []],
    ['a lone dash', ['-'], ['-'], []],
    ['help', ['--help', '-h'], ['--help', '-h'], []],
    ['a flag without its value', ['--text'], ['--text'], []],
  ];
  for (const [name, given, expected, unknown] of table) {
    test(name, () => {
      assert.deepEqual(normalizeArguments(given, flags, { dropsUnknown: true }), {
        arguments: expected,
        unknownFlags: unknown,
      });
    });
  }

  test('unknown flags stay where they are not to be dropped', () => {
    assert.deepEqual(normalizeArguments(['--old', 'x'], flags, { dropsUnknown: false }), {
      arguments: ['--old', 'x'],
      unknownFlags: [],
    });
  });

  test('the command is the first word that belongs to no flag', () => {
    assert.equal(findCommand(['--yes', '--text', 'a', 'proxy', 'sidecar'], flags), 'proxy');
    assert.equal(findCommand(['--text', 'proxy'], flags), undefined);
    assert.equal(findCommand([], flags), undefined);
  });
});
