import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type IdentityReport, identityProblems } from './soak-report.ts';

const sound: IdentityReport = {
  certificateCount: 21,
  keptConnectionCount: 1,
  signingRequestCount: 30,
  tokenCount: 4,
  replacedTokenCount: 5,
  replacedRootCount: 2,
  replacedIntermediateCount: 2,
};
const minutes = 5;

describe('the identity of a soak', () => {
  const cases: readonly (readonly [string, Partial<IdentityReport>, RegExp | undefined])[] = [
    ['that rotated in time is fine', {}, undefined],
    ['with as many certificates as the time needs is fine', { certificateCount: 10 }, undefined],
    [
      'with fewer certificates than that is a problem',
      { certificateCount: 9 },
      /saw 9 certificates .* 10 are/,
    ],
    ['that cut the kept connection is a problem', { keptConnectionCount: 3 }, /was cut 2 times/],
    [
      'that kept its first token is a problem',
      { tokenCount: 1 },
      /5 new tokens, and the CA saw only the first/,
    ],
    ['without new tokens needs none', { tokenCount: 1, replacedTokenCount: 0 }, undefined],
  ];
  for (const [name, change, expected] of cases) {
    test(name, () => {
      const problems = identityProblems({ ...sound, ...change }, minutes);
      assert.equal(problems.length, expected === undefined ? 0 : 1);
      if (expected !== undefined) assert.match(problems[0] ?? '', expected);
    });
  }
});
