import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findRoute, parseTarget, type Route } from '../../../agent/status/route.ts';

type Expectation =
  | { readonly path: string; readonly rawQuery?: string }
  | { readonly location: string }
  | 'bad';

const targets: readonly (readonly [string, Expectation])[] = [
  ['/metrics', { path: '/metrics' }],
  ['/metrics?a=b&c=/../d?e', { path: '/metrics', rawQuery: 'a=b&c=/../d?e' }],
  ['/', { path: '/' }],
  ['http://host:15020/metrics?usedonly', { path: '/metrics', rawQuery: 'usedonly' }],
  ['http://host', { path: '/' }],
  ['/%68ealthz/ready', { path: '/healthz/ready' }],
  ['/healthz%2Fready', { path: '/healthz%2Fready' }],
  ['//metrics', { location: '/metrics' }],
  ['/a/../metrics?x=1', { location: '/metrics?x=1' }],
  ['/./healthz//ready', { location: '/healthz/ready' }],
  ['/a/..', { location: '/' }],
  ['/a//b/', { location: '/a/b/' }],
  ['/../../etc', { location: '/etc' }],
  ['//evil.example/..', { location: '/' }],
  ['/x/..//evil.example', { location: '/evil.example' }],
  ['/.//\\evil.example', { location: '/%5Cevil.example' }],
  ['/%zz', 'bad'],
  ['*', 'bad'],
  ['', 'bad'],
];

for (const [url, expectation] of targets) {
  test(`the target ${JSON.stringify(url)} leads to ${JSON.stringify(expectation)}`, () => {
    const target = parseTarget(url);
    if (expectation === 'bad') assert.equal(target.kind, 'bad');
    else if ('location' in expectation) {
      assert.deepEqual(target, { kind: 'redirect', location: expectation.location });
    } else assert.deepEqual(target, { kind: 'path', rawQuery: '', ...expectation });
  });
}

test('a route matches exactly, or everything below its slash; the longest wins', () => {
  const route = (path: string): Route => ({
    path,
    localOnly: false,
    method: undefined,
    handle: () => Promise.resolve(),
  });
  const routes = ['/metrics', '/app-health/', '/app-health/special/'].map(route);
  assert.equal(findRoute(routes, '/metrics')?.path, '/metrics');
  assert.equal(findRoute(routes, '/metrics/'), undefined);
  assert.equal(findRoute(routes, '/metricsx'), undefined);
  assert.equal(findRoute(routes, '/app-health/web/readyz')?.path, '/app-health/');
  assert.equal(findRoute(routes, '/app-health/special/readyz')?.path, '/app-health/special/');
  assert.equal(findRoute(routes, '/app-health'), undefined);
});
