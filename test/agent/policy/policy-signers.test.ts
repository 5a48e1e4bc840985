import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseSigners } from '../../../agent/fetch/signature/signer.ts';
import { formatPolicyProblem } from '../../../agent/policy/policy-problem.ts';
import { denyAll, policyOf, problemsOf } from './policy-fixture.ts';
import { publicKeyPem, trustedRootJson } from './signer-fixture.ts';

const inlineKey = publicKeyPem.replaceAll(/^(?=.)/gm, '          ');
const text = `${denyAll}signers:
  release:
    key:
      publicKeys:
        - |
${inlineKey}      publicKeyFiles: [more.pub]
      algorithms: [ecdsa-p256-sha256]
  ci:
    keyless:
      trustedRootFile: trusted_root.json
      identities:
        - { issuer: "https://issuer.test", subject: "ci@corp.test" }
        - { issuer: "https://issuer.test", subjectPattern: "https://github\\\\.test/corp/.*" }
`;
const others = { 'more.pub': publicKeyPem, 'trusted_root.json': trustedRootJson() };

describe('the signers of a policy', () => {
  test('are in the plain form that the signature check parses', async () => {
    const { signers } = await policyOf(text, others);
    assert.deepEqual(signers, [
      {
        kind: 'key',
        name: 'release',
        publicKeys: [publicKeyPem, publicKeyPem],
        algorithms: ['ecdsa-p256-sha256'],
      },
      {
        kind: 'keyless',
        name: 'ci',
        trustedRoot: JSON.parse(others['trusted_root.json']) as unknown,
        identities: [
          { issuer: 'https://issuer.test', subject: 'ci@corp.test' },
          { issuer: 'https://issuer.test', subjectPattern: 'https://github\\.test/corp/.*' },
        ],
      },
    ]);
    assert.equal((await parseSigners(signers)).kind, 'parsed');
  });

  test('change the revision when a file of theirs changes', async () => {
    const keyFile = `${denyAll}signers: { one: { key: { publicKeyFiles: [a.pub] } } }\n`;
    const first = await policyOf(keyFile, { 'a.pub': publicKeyPem });
    const second = await policyOf(keyFile, { 'a.pub': `${publicKeyPem}${publicKeyPem}` });
    assert.notEqual(first.revision, second.revision);
  });

  const faults: readonly (readonly [string, string, Readonly<Record<string, string>>, RegExp])[] = [
    [
      'a root that is no JSON',
      text,
      { 'trusted_root.json': '{' },
      /16:24: signers\.ci\.keyless\.trustedRootFile: is no JSON/,
    ],
    ['a root without authorities', text, { 'trusted_root.json': '{}' }, /trustedRootFile: .*mediaType/],
    [
      'a key that its algorithms do not allow',
      text.replace('p256-sha256', 'p384-sha384').replace('      publicKeyFiles: [more.pub]\n', ''),
      {},
      /signers\.release\.key\.publicKeys\[0\]: .*algorithms/,
    ],
    [
      'an unknown algorithm',
      text.replace('ecdsa-p256-sha256', 'rot13'),
      {},
      /13:20: signers\.release\.key\.algorithms\[0\]: is "rot13"; write ecdsa/,
    ],
    [
      'a subject and a pattern',
      text.replace('subject: "ci@corp.test"', 'subject: a, subjectPattern: b'),
      {},
      /identities\[0\]: needs either/,
    ],
    [
      'a pattern that is none',
      text.replace('https://github\\\\.test/corp/.*', '('),
      {},
      /identities\[1\]\.subjectPattern: "\(" is no regular expression/,
    ],
    ['no identity', text.replace(/identities:[^]*/, 'identities: []\n'), {}, /identities: is an empty list/],
  ];
  for (const [what, document, changed, words] of faults) {
    test(`are refused for ${what}`, async () => {
      const told = (await problemsOf(document, { ...others, ...changed })).map(formatPolicyProblem);
      assert.equal(told.length, 1, told.join('\n'));
      assert.match(told[0] ?? '', words);
    });
  }

  test('are refused when there are more than the signature check takes', async () => {
    const many = Array.from(
      { length: 65 },
      (_, index) => `  s${index}: { key: { publicKeyFiles: [more.pub] } }`,
    );
    const [problem] = await problemsOf(`${denyAll}signers:\n${many.join('\n')}\n`, others);
    assert.match(problem?.message ?? '', /65, more than 64/);
    assert.deepEqual([problem?.line, problem?.path], [3, 'signers']);
  });
});
