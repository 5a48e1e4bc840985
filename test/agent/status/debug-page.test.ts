import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDebugPage } from '../../../agent/status/debug-page.ts';

test('values, maps and sets are shown as JSON', () => {
  const page = { modules: new Map([['a', { digest: 'b', names: new Set(['c']) }]]), count: 2 };
  assert.deepEqual(JSON.parse(formatDebugPage(page)), {
    modules: { a: { digest: 'b', names: ['c'] } },
    count: 2,
  });
});

test('no secret gets through, whatever the provider left in', () => {
  const secret = 'c2VjcmV0LXZhbHVlLTEyMzQ1Njc4';
  const page = {
    pullSecret: secret,
    registryToken: secret,
    PASSWORD: secret,
    headers: { Authorization: `Bearer ${secret}`, cookie: secret },
    tokens: [secret],
    url: `https://user:${secret}@registry.example/repo`,
    error: `GET failed with Authorization: Bearer ${secret}`,
    basic: `Basic ${secret}`,
  };
  assert.ok(!formatDebugPage(page).includes(secret));
});

test('what only looks like a secret is shown', () => {
  const page = {
    url: 'oci://registry.example:5000/basic-auth@sha256:0123',
    secretCount: 3,
    hasToken: true,
    text: 'basic auth plugin',
  };
  assert.deepEqual(JSON.parse(formatDebugPage(page)), page);
});

test('what JSON cannot hold is a TypeError', () => {
  const circular: { self?: unknown } = {};
  circular.self = circular;
  assert.throws(() => formatDebugPage(circular), TypeError);
  assert.throws(() => formatDebugPage({ big: 1n }), TypeError);
  assert.throws(() => formatDebugPage(undefined), TypeError);
});
