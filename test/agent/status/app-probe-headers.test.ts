import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forwardedHeaders, hostHeaderFor } from '../../../agent/status/app-probe-headers.ts';

test('headers go on in order, repeated ones too, without those of the connection', () => {
  const raw = [
    ['Host', 'a:15020'],
    ['X-A', '1'],
    ['x-a', '2'],
    ['Connection', 'close, X-Hop'],
    ['x-hop', 'gone'],
    ['Accept-Encoding', 'gzip'],
    ['Content-Length', '3'],
    ['TE', 'trailers'],
    ['User-Agent', 'kube-probe/1.30'],
  ];
  assert.deepEqual(forwardedHeaders(raw.flat()), [
    ['X-A', '1'],
    ['x-a', '2'],
    ['User-Agent', 'kube-probe/1.30'],
  ]);
});

const hosts: readonly (readonly [string | undefined, string])[] = [
  ['10.0.0.1:15020', '10.0.0.1:8080'],
  ['[fd00::1]:15020', '[fd00::1]:8080'],
  ['web.example:80', 'web.example:80'],
  ['web.example', 'web.example'],
  ['fd00::15020', 'fd00::15020'],
  ['', 'fallback:1'],
  [undefined, 'fallback:1'],
];

for (const [incoming, expected] of hosts) {
  test(`the Host header ${incoming} becomes ${expected}`, () => {
    assert.equal(hostHeaderFor(incoming, { statusPort: 15020, appPort: 8080 }, 'fallback:1'), expected);
  });
}
