import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseYaml } from '../../../agent/config/yaml-text.ts';

describe('YAML of the mesh', () => {
  test('plain scalars are what the stock agent takes them for', () => {
    const table: readonly (readonly [string, unknown])[] = [
      ...['y', 'Y', 'yes', 'Yes', 'YES', 'on', 'On', 'ON', 'true', 'True', 'TRUE'].map(
        (text) => [text, true] as const,
      ),
      ...['n', 'N', 'no', 'No', 'NO', 'off', 'Off', 'OFF', 'false', 'FALSE'].map(
        (text) => [text, false] as const,
      ),
      ...['~', 'null', 'Null', 'NULL', ''].map((text) => [text, null] as const),
      ...['tRue', 'nUll', 'yEs', '1:30', '190:20:30', '12:30:45.5'].map((text) => [text, text] as const),
      ...['2020-01-01', '2020-01-01T00:00:00Z', '1,000', '1.2.3'].map((text) => [text, text] as const),
      ['010', 8],
      ['-017', -15],
      ['08', 8],
      ['0x1F', 31],
      ['0b11', 3],
      ['15_020', 15_020],
      ['+5', 5],
      ['1e3', 1000],
      ['1.50', 1.5],
      ['"yes"', 'yes'],
      ["'010'", '010'],
      ['!!str 010', '010'],
      ['!!binary aGk=', 'hi'],
    ];
    for (const [text, value] of table) assert.deepEqual(parseYaml(`a: ${text}\n`), { a: value }, text);
  });

  test('keys are texts, the last of equal ones counts, and merge keys work', () => {
    assert.deepEqual(parseYaml('1: a\nyes: b\n'), { 1: 'a', true: 'b' });
    assert.deepEqual(parseYaml('a: 1\na: 2\n'), { a: 2 });
    assert.deepEqual(parseYaml('x: &x {a: 1, b: 2}\nz:\n  <<: *x\n  b: 3\n'), {
      x: { a: 1, b: 2 },
      z: { a: 1, b: 3 },
    });
  });

  test('of several documents the first counts', () => {
    assert.deepEqual(parseYaml('a: 1\n---\nb: 2\n'), { a: 1 });
    assert.deepEqual(parseYaml('---\na: 1\n...\n---\n'), { a: 1 });
    assert.equal(parseYaml('# nothing\n'), null);
  });

  test('a fault is told by its place, without the text', () => {
    assert.throws(
      () => parseYaml('a: 1\nb: [secret\n'),
      (error: Error) => {
        assert.match(error.message, /^[A-Z_]+ in line [23]$/);
        return true;
      },
    );
  });
});
