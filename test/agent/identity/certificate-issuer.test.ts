import assert from 'node:assert/strict';
import test from 'node:test';
import { systemClock } from '../../../agent/clock.ts';
import { acceptChain, CertificateIssuer } from '../../../agent/identity/certificate-issuer.ts';
import { createCertificateRequest } from '../../../agent/identity/csr.ts';
import { IdentityError } from '../../../agent/identity/identity-error.ts';
import { rotationTimeMs } from '../../../agent/identity/rotation.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { spiffeId } from './ca-fixture.ts';
import { LogCapture, MetricsCapture } from './sds-fixture.ts';

const csrConfig = { key: { kind: 'ecdsa', curve: 'P-256' }, keyFormat: 'traditional', spiffeId } as const;
const request = await createCertificateRequest(csrConfig);
const authority = Authority.createRoot('root');
const nowMs = Date.now();
const notAfter = new Date(Math.floor(nowMs / 1000) * 1000 + 3_600_000);
const leaf = authority.signRequest(request.csr, [spiffeId], { notAfter });
const root = authority.certificate;

test('the chain is all the CA gave, each on lines of its own; the root is the last', () => {
  const intermediate = authority.createIntermediate('intermediate').certificate;
  const issued = acceptChain([leaf.trimEnd(), intermediate, root.trimEnd()], request, nowMs);
  assert.equal(issued.certificateChain.toString(), `${leaf}${intermediate}${root.trimEnd()}`);
  assert.equal(issued.root, root.trimEnd());
  assert.equal(issued.privateKey, request.key);
  assert.deepEqual([issued.issuedAtMs, issued.notAfterMs], [nowMs, notAfter.getTime()]);
});

const expired = authority.signRequest(request.csr, [spiffeId], { notAfter: new Date(nowMs - 1000) });
const foreign = authority.issue([spiffeId]).certificate;
const refused: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['an empty chain', [], /has 0 certificates instead of a leaf and its root/],
  ['a leaf without a root', [leaf], /has 1 certificates/],
  [
    'a leaf that is no certificate',
    ['no certificate', root],
    /does not begin with a readable PEM certificate/,
  ],
  ['a root that is no certificate', [leaf, 'no certificate'], /does not end with a readable PEM root/],
  ['a certificate for another key', [foreign, root], /is for another key than the one that was sent/],
  ['an expired certificate', [expired, root], /expired at .*; compare the clocks/],
];
for (const [name, chain, pattern] of refused) {
  test(`${name} is refused`, () => {
    assert.throws(
      () => acceptChain(chain, request, nowMs),
      (error) => error instanceof IdentityError && error.code === 'ca_answer' && pattern.test(error.message),
    );
  });
}

test('each request to the CA is counted, with its time and its failure', async () => {
  const capture = new MetricsCapture();
  const outcomes = [async () => Promise.reject(new IdentityError('ca_refused', 'no')), undefined];
  const issuer = new CertificateIssuer({
    csr: csrConfig,
    certificateTtlMs: 60_500,
    certSigner: 'signer',
    signer: {
      async sign(asked) {
        assert.deepEqual([asked.validitySeconds, asked.certSigner], [60, 'signer']);
        await outcomes.shift()?.();
        return [authority.signRequest(asked.csr, [spiffeId]), root];
      },
    },
    metrics: capture.metrics,
    log: new LogCapture().root.scope('cache'),
    clock: systemClock,
  });
  const { signal } = new AbortController();
  await assert.rejects(issuer.issue({ signal }), { code: 'ca_refused' });
  const issued = await issuer.issue({ signal });
  assert.ok(issued.certificateChain.toString().endsWith(root));
  const label = '{request_type="csr"}';
  assert.equal(await capture.value(`istio_agent_num_outgoing_requests${label}`), 2);
  assert.equal(await capture.value(`istio_agent_num_failed_outgoing_requests${label}`), 1);
  assert.ok((await capture.value(`istio_agent_outgoing_latency${label}`)) > 0);
});

test('a request that got no certificate is sent again; after a certificate, even a bad one, the key is new', async () => {
  const requests: string[] = [];
  const failure = async (): Promise<never> => Promise.reject(new IdentityError('ca_unavailable', 'away'));
  const bad = async (): Promise<readonly string[]> => Promise.resolve([foreign, root]);
  const good = async (csr: string): Promise<readonly string[]> =>
    Promise.resolve([authority.signRequest(csr, [spiffeId]), root]);
  const answers = [failure, failure, bad, good, good];
  const issuer = new CertificateIssuer({
    csr: csrConfig,
    certificateTtlMs: 60_000,
    certSigner: '',
    signer: {
      async sign({ csr }) {
        requests.push(csr);
        return await (answers.shift() ?? failure)(csr);
      },
    },
    metrics: new MetricsCapture().metrics,
    log: new LogCapture().root.scope('cache'),
    clock: systemClock,
  });
  const { signal } = new AbortController();
  await assert.rejects(issuer.issue({ signal }), { code: 'ca_unavailable' });
  await assert.rejects(issuer.issue({ signal }), { code: 'ca_unavailable' });
  await assert.rejects(issuer.issue({ signal }), { code: 'ca_answer' });
  await issuer.issue({ signal });
  await issuer.issue({ signal });
  const numbers = requests.map((each) => requests.indexOf(each));
  assert.deepEqual(numbers, [0, 0, 0, 3, 4]);
});

for (const { name, ratio, jitter, random, wanted } of [
  { name: 'half the life by default', ratio: 0.5, jitter: 0.01, random: [0.9, 0], wanted: 0.5 },
  { name: 'the jitter makes it earlier', ratio: 0.5, jitter: 0.01, random: [0.9, 0.5], wanted: 0.495 },
  { name: 'or later', ratio: 0.5, jitter: 0.01, random: [0.1, 0.5], wanted: 0.505 },
  { name: 'a ratio of 0 is the end of the life', ratio: 0, jitter: 0.5, random: [0.1, 0.5], wanted: 1 },
  { name: 'a ratio above 1 is the start', ratio: 1, jitter: 1, random: [0.9, 0.9], wanted: 0 },
]) {
  test(`rotation: ${name}`, () => {
    const draws = [...random];
    const atMs = rotationTimeMs(
      { issuedAtMs: 1_000_000, notAfterMs: 2_000_000 },
      { graceRatio: ratio, graceRatioJitter: jitter },
      { nowMs: 0, random: () => draws.shift() ?? 0 },
    );
    assert.equal((atMs - 1_000_000) / 1_000_000, wanted);
  });
}

test('rotation is not before now', () => {
  const rule = { graceRatio: 0.5, graceRatioJitter: 0 };
  const atMs = rotationTimeMs({ issuedAtMs: 0, notAfterMs: 1000 }, rule, { nowMs: 900, random: () => 0 });
  assert.equal(atMs, 900);
});
