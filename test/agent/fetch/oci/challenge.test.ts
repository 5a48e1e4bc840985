import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parseChallenges } from '../../../../agent/fetch/oci/challenge.ts';

function read(...headers: string[]): unknown {
  return parseChallenges(headers).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

describe('challenges', () => {
  const cases: readonly (readonly [string, readonly string[], unknown])[] = [
    ['one', ['Bearer realm="https://a/t",service="s"'], [['bearer', { realm: 'https://a/t', service: 's' }]]],
    ['any case', ['bEARER REALM="https://a"'], [['bearer', { realm: 'https://a' }]]],
    ['spaces', ['Bearer  realm = "x" ,  service="s"'], [['bearer', { realm: 'x', service: 's' }]]],
    [
      'unquoted',
      ['Bearer realm=https://a/t?x=1,service=s'],
      [['bearer', { realm: 'https://a/t?x=1', service: 's' }]],
    ],
    [
      'several in one header',
      ['Basic realm="a, b", Bearer realm="c"'],
      [
        ['basic', { realm: 'a, b' }],
        ['bearer', { realm: 'c' }],
      ],
    ],
    [
      'several headers',
      ['Basic realm=a', 'Bearer realm=b'],
      [
        ['basic', { realm: 'a' }],
        ['bearer', { realm: 'b' }],
      ],
    ],
    ['escapes', ['Basic realm="a\\"b\\\\c"'], [['basic', { realm: 'a"b\\c' }]]],
    [
      'a scheme alone',
      ['Negotiate, Basic realm=a'],
      [
        ['negotiate', {}],
        ['basic', { realm: 'a' }],
      ],
    ],
    [
      'a blob',
      ['Negotiate abc/+==, Basic realm=a'],
      [
        ['negotiate', {}],
        ['basic', { realm: 'a' }],
      ],
    ],
    ['a repeated name: the first wins', ['Bearer realm=a,realm=b'], [['bearer', { realm: 'a' }]]],
    [
      'scope with commas',
      ['Bearer realm="a",scope="repository:x:pull,push"'],
      [['bearer', { realm: 'a', scope: 'repository:x:pull,push' }]],
    ],
    ['empty list items', [', ,Basic realm=a,,'], [['basic', { realm: 'a' }]]],
    ['an open quote', ['Bearer realm="abc'], [['bearer', { realm: 'abc' }]]],
    ['an empty value', ['Bearer realm="",service=s'], [['bearer', { realm: '', service: 's' }]]],
    ['garbage', ['"; =x, Basic realm=a'], [['basic', { realm: 'a' }]]],
    ['nothing', [''], []],
  ];
  for (const [name, headers, expected] of cases) {
    it(`with ${name} are read`, () => {
      assert.deepEqual(read(...headers), expected);
    });
  }

  it('that are written are read back, however they are quoted and joined', () => {
    const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/);
    const challenge = fc.record({
      scheme: name,
      parameters: fc.uniqueArray(fc.tuple(name, fc.string({ maxLength: 12 })), {
        minLength: 1,
        maxLength: 4,
        selector: ([key]) => key,
      }),
    });
    fc.assert(
      fc.property(
        fc.array(challenge, { maxLength: 4 }),
        fc.boolean(),
        fc.boolean(),
        (challenges, isOneHeader, isUpper) => {
          const texts = challenges.map(({ scheme, parameters }) => {
            const pairs = parameters.map(([key, value]) => {
              const isToken = /^[a-zA-Z0-9._~+/-]+$/.test(value);
              return `${isUpper ? key.toUpperCase() : key}=${isToken ? value : `"${value.replaceAll(/["\\]/g, '\\$&')}"`}`;
            });
            return `${scheme} ${pairs.join(', ')}`;
          });
          const expected = challenges.map(({ scheme, parameters }) => [
            scheme,
            Object.fromEntries(parameters),
          ]);
          assert.deepEqual(read(...(isOneHeader ? [texts.join(', ')] : texts)), expected);
        },
      ),
      { seed: 7, numRuns: 500 },
    );
  });

  it('of any text are read without a throw, and never without bound', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (text) => {
        assert.ok(parseChallenges([text, text]).length <= 16);
      }),
      { seed: 7, numRuns: 1000 },
    );
  });
});
