import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { formatFamilies, formatValue } from '../../metrics/exposition-text.ts';

// The right column is what Go 1.26 prints with strconv.FormatFloat(value, 'g', -1, 64); several are from recordings.
const values: readonly (readonly [number, string])[] = [
  [0, '0'],
  [-0, '0'],
  [1, '1'],
  [62551, '62551'],
  [999999, '999999'],
  [1e6, '1e+06'],
  [6807632, '6.807632e+06'],
  [1795257303.71, '1.79525730371e+09'],
  [2 ** 64, '1.8446744073709552e+19'],
  [1e21, '1e+21'],
  [1e300, '1e+300'],
  [0.0001, '0.0001'],
  [0.000383909, '0.000383909'],
  [0.000057495, '5.7495e-05'],
  [1e-300, '1e-300'],
  [86393.005703809, '86393.005703809'],
  [-12.5, '-12.5'],
  [-2500000, '-2.5e+06'],
  [Number.NaN, 'NaN'],
  [Number.POSITIVE_INFINITY, '+Inf'],
  [Number.NEGATIVE_INFINITY, '-Inf'],
];

for (const [value, text] of values) {
  test(`the number ${value} is written as ${text}`, () => {
    assert.equal(formatValue(value), text);
  });
}

test('every number keeps its value when it is read back', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      // Only the sign of zero is lost, as in the stock agent.
      assert.equal(Number(formatValue(value)), value === 0 ? 0 : value);
    }),
    { seed: 15020 },
  );
});

test('families come by name, labels by name, samples by label values, and texts are escaped', () => {
  const text = formatFamilies([
    {
      name: 'b',
      help: 'two\nlines and a \\ and a "',
      type: 'counter',
      samples: [
        { labels: { zone: 'z', kind: 'b' }, value: 2 },
        { labels: { zone: 'a"\\\n', kind: 'b' }, value: 1 },
        { labels: { zone: 'z', kind: 'a' }, value: 3 },
      ],
    },
    { name: 'a', help: '', type: 'gauge', samples: [{ labels: {}, value: 1 }] },
    { name: 'empty', help: 'has no samples', type: 'gauge', samples: [] },
  ]);
  assert.equal(
    text,
    [
      '# HELP a ',
      '# TYPE a gauge',
      'a 1',
      String.raw`# HELP b two\nlines and a \\ and a "`,
      '# TYPE b counter',
      'b{kind="a",zone="z"} 3',
      String.raw`b{kind="b",zone="a\"\\\n"} 1`,
      'b{kind="b",zone="z"} 2',
      '',
    ].join('\n'),
  );
});
