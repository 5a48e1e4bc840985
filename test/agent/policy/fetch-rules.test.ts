import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fetchRules } from '../../../agent/policy/fetch-rules.ts';
import { type Policy, permissivePolicy } from '../../../agent/policy/policy-data.ts';
import { denyAll, policyOf } from './policy-fixture.ts';
import { publicKeyPem } from './signer-fixture.ts';

const text = `${denyAll}
modules:
  - { url: "oci://reg.test/signed/", action: allow, signers: [release, ci] }
  - url: oci://reg.test/
    action: allow
    pullPolicy: Always
    staleIfError: 1h
    pollInterval: 10m
    originTimeout: 20s
signers:
  other: { key: { publicKeys: [${JSON.stringify(publicKeyPem)}] } }
  release: { key: { publicKeys: [${JSON.stringify(publicKeyPem)}] } }
  ci: { key: { publicKeys: [${JSON.stringify(publicKeyPem)}] } }
mirrors:
  - { from: "oci://reg.test/", endpoints: [{ url: "oci://mirror.test", timeout: 3s, sendNamespace: true }] }
layouts: [{ path: preloaded, optional: true }]
registries: { "mirror.test": { plainHttp: true } }
caps: { maxModuleBytes: 64Mi, connectionsPerHost: 4 }
blockedCidrs: [10.0.0.0/8]
`;

describe('what a policy says about fetching', () => {
  test('is given in the words of the fetchers', async () => {
    const policy = await policyOf(text);
    const rules = fetchRules(() => policy);
    const terms = rules.module('oci://reg.test/a:1');
    assert.deepEqual(
      [terms.pullPolicy, terms.staleIfErrorMs, terms.pollIntervalMs, terms.originTimeoutMs],
      ['always', 3_600_000, 600_000, 20_000],
    );
    assert.deepEqual(terms.mirrors, [
      { url: 'oci://mirror.test/a:1', timeoutMs: 3_000, namespace: 'reg.test' },
    ]);
    assert.equal(terms.layouts.length, 1);
    assert.equal(rules.host('mirror.test')?.isPlainHttp, true);
    assert.equal(rules.host('reg.test'), undefined);
    assert.deepEqual(rules.blockedCidrs(), ['10.0.0.0/8']);
    assert.deepEqual([rules.maxModuleBytes(), rules.connectionsPerHost()], [64 * 1024 * 1024, 4]);
  });

  test('names the signers of a URL, nobody where none is asked for, and no one for what is refused', async () => {
    const policy = await policyOf(text);
    const rules = fetchRules(() => policy);
    const names = (url: string): readonly string[] | undefined =>
      rules.signersFor(url)?.signers.map(({ name }) => name);
    assert.deepEqual(names('oci://reg.test/signed/a:1'), ['release', 'ci']);
    assert.equal(names('oci://reg.test/a:1'), undefined);
    assert.deepEqual(names('oci://elsewhere.test/a:1'), []);
    assert.deepEqual(rules.module('oci://elsewhere.test/a:1'), { layouts: [], mirrors: [] });
  });

  test('is that of the policy in force at each question', async () => {
    let policy: Policy = permissivePolicy;
    const rules = fetchRules(() => policy);
    assert.deepEqual([rules.signersFor('oci://reg.test/signed/a:1'), rules.blockedCidrs()], [undefined, []]);
    policy = await policyOf(text);
    assert.equal(rules.signersFor('oci://reg.test/signed/a:1')?.signers.length, 2);
    assert.equal(rules.blockedCidrs().length, 1);
  });
});
