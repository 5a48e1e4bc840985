import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  formatProtoDuration,
  parseGoBoolean,
  parseGoDuration,
  parseGoInteger,
  parseGoNumber,
  unquoteGo,
} from '../../../agent/config/go-values.ts';

describe('text forms of Go', () => {
  test('booleans are the twelve spellings of strconv.ParseBool and nothing else', () => {
    for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True'])
      assert.equal(parseGoBoolean(text), true, text);
    for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False'])
      assert.equal(parseGoBoolean(text), false, text);
    for (const text of ['', 'yes', 'no', 'on', 'tRUE', ' true', '2'])
      assert.equal(parseGoBoolean(text), undefined, text);
  });

  test('integers are decimal, signed and exact', () => {
    const table: readonly (readonly [string, number | undefined])[] = [
      ['0', 0],
      ['015020', 15_020],
      ['-7', -7],
      ['+7', 7],
      ['', undefined],
      ['1.0', undefined],
      ['0x10', undefined],
      ['1_000', undefined],
      [' 1', undefined],
      ['9007199254740993', undefined],
    ];
    for (const [text, expected] of table) assert.equal(parseGoInteger(text), expected, text);
  });

  test('numbers are decimal and finite', () => {
    const table: readonly (readonly [string, number | undefined])[] = [
      ['0.5', 0.5],
      ['.5', 0.5],
      ['1.', 1],
      ['-2', -2],
      ['1e-2', 0.01],
      ['', undefined],
      ['.', undefined],
      ['0x1p-2', undefined],
      ['inf', undefined],
      ['nan', undefined],
      ['1e999', undefined],
      ['0,5', undefined],
    ];
    for (const [text, expected] of table) assert.equal(parseGoNumber(text), expected, text);
  });

  test('durations need a unit and may be put together', () => {
    const table: readonly (readonly [string, number | undefined])[] = [
      ['0', 0],
      ['45s', 45_000],
      ['1h30m', 5_400_000],
      ['100ms', 100],
      ['1.5s', 1500],
      ['.5s', 500],
      ['1.s', 1000],
      ['-1m', -60_000],
      ['+1m', 60_000],
      ['1us', 0.001],
      ['1µs', 0.001],
      ['2ns', 0.000_002],
      ['', undefined],
      ['5', undefined],
      ['s', undefined],
      ['5 s', undefined],
      ['1d', undefined],
      ['1h-2m', undefined],
      ['forever', undefined],
    ];
    for (const [text, expected] of table) assert.equal(parseGoDuration(text), expected, text);
  });

  test('durations are written in seconds with whole groups of decimals', () => {
    const table: readonly (readonly [number, string])[] = [
      [0, '0s'],
      [45_000, '45s'],
      [250, '0.250s'],
      [1500, '1.500s'],
      [0.001, '0.000001s'],
      [0.000_002, '0.000000002s'],
      [-1500, '-1.500s'],
      [86_400_000, '86400s'],
    ];
    for (const [durationMs, expected] of table) assert.equal(formatProtoDuration(durationMs), expected);
  });

  test('a written duration reads back as the same duration', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e9, max: 1e9 }), (durationMs) => {
        assert.equal(parseGoDuration(formatProtoDuration(durationMs)), durationMs);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test('quoted Go strings are unescaped, malformed ones are refused', () => {
    const table: readonly (readonly [string, string | undefined])[] = [
      ['"plain"', 'plain'],
      ['""', ''],
      [String.raw`"a\nb\t\"c\"\\"`, 'a\nb\t"c"\\'],
      [String.raw`"\u00e9\U0001F600"`, 'é😀'],
      [String.raw`"\xc3\xa9\303\251"`, 'éé'],
      [String.raw`"\a\v"`, '\u0007\v'],
      ['`raw \\n`', 'raw \\n'],
      ['"=,{}"', '=,{}'],
      ['plain', undefined],
      ['"open', undefined],
      ['"', undefined],
      ['', undefined],
      ['"in"side"', undefined],
      [String.raw`"\q"`, undefined],
      [String.raw`"\ud800"`, undefined],
      [String.raw`"\777"`, undefined],
      ["'x'", undefined],
    ];
    for (const [literal, expected] of table) assert.equal(unquoteGo(literal), expected, literal);
  });

  test('any text survives JSON quoting, which Go reads too', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        assert.equal(unquoteGo(JSON.stringify(text)), text);
      }),
      { seed: 1, numRuns: 200 },
    );
  });
});
