import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  describeProbeUrl,
  nextStep,
  type ProbeUrl,
  type RedirectPolicy,
  type RedirectStep,
  requestTarget,
} from '../../../agent/health/http-redirect.ts';

const first: ProbeUrl = { isTls: false, host: '10.0.0.1', port: 8080, target: '/a/b?c=1' };
const follow = (url: Partial<ProbeUrl>, isHostKept = false): RedirectStep => ({
  kind: 'follow',
  url: { ...first, ...url },
  isHostKept,
});
const answer: RedirectStep = { kind: 'answer' };

const rows: readonly (readonly [number, string | undefined, RedirectPolicy, RedirectStep])[] = [
  [200, '/x', 'same-host', answer],
  [304, '/x', 'same-host', answer],
  [300, '/x', 'same-host', answer],
  [302, undefined, 'same-host', answer],
  [302, '', 'same-host', answer],
  [301, '/x?y', 'same-host', follow({ target: '/x?y' }, true)],
  [302, 'x', 'same-host', follow({ target: '/a/x' }, true)],
  [303, '?z', 'same-host', follow({ target: '/a/b?z' }, true)],
  [307, 'http://10.0.0.1/x', 'same-host', follow({ port: 80, target: '/x' })],
  [308, 'https://10.0.0.1/x', 'same-host', follow({ isTls: true, port: 443, target: '/x' })],
  [308, '//10.0.0.1:9/x', 'same-host', follow({ port: 9, target: '/x' })],
  [302, 'http://other/x', 'same-host', answer],
  [302, 'http://other/x', 'any-host', follow({ host: 'other', port: 80, target: '/x' })],
  [302, 'http://[fd00::1]:5/', 'any-host', follow({ host: 'fd00::1', port: 5, target: '/' })],
  [302, 'http://[', 'same-host', { kind: 'refused', reason: 'the redirect has a location that is no URL' }],
  [
    302,
    'ftp://10.0.0.1/',
    'same-host',
    { kind: 'refused', reason: 'the redirect leads to a URL of scheme ftp:' },
  ],
];

for (const [status, location, policy, expected] of rows) {
  test(`after ${status} to ${location} (${policy}) the step is ${expected.kind}`, () => {
    assert.deepEqual(
      nextStep({ status, location }, { first, current: first, requestCount: 1 }, policy),
      expected,
    );
  });
}

test('the eleventh request is not made', () => {
  const redirect = { status: 302, location: '/x' };
  assert.equal(nextStep(redirect, { first, current: first, requestCount: 9 }, 'same-host').kind, 'follow');
  assert.deepEqual(nextStep(redirect, { first, current: first, requestCount: 10 }, 'same-host'), {
    kind: 'refused',
    reason: 'stopped after 10 redirects',
  });
});

test('the host of the first request decides, not that of the last', () => {
  const current = { ...first, host: 'other' };
  const step = nextStep({ status: 302, location: '/x' }, { first, current, requestCount: 2 }, 'same-host');
  assert.deepEqual(step, answer);
});

const targets: readonly (readonly [string, string])[] = [
  ['', '/'],
  ['health', '/health'],
  ['/a?b=c', '/a?b=c'],
  ['/a#b?c', '/a'],
  ['/a b\r\nX: y', '/a%20b%0D%0AX:%20y'],
  ['/ä', '/%C3%A4'],
  ['/\ud800', '/%EF%BF%BD'],
  ['/%zz', '/%zz'],
];

for (const [path, expected] of targets) {
  test(`the path ${JSON.stringify(path)} is asked for as ${expected}`, () => {
    assert.equal(requestTarget(path), expected);
  });
}

test('a URL in a message has no query', () => {
  assert.equal(describeProbeUrl({ ...first, host: '::1' }), 'http://[::1]:8080/a/b');
});
