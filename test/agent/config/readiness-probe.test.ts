import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseReadinessProbe, type ReadinessProbe } from '../../../agent/config/readiness-probe.ts';

const defaults = {
  initialDelayMs: 0,
  timeoutMs: 1000,
  periodMs: 10_000,
  successThreshold: 1,
  failureThreshold: 1,
};

const good: readonly (readonly [string, object, ReadinessProbe])[] = [
  [
    'HTTP with nothing but a port',
    { httpGet: { port: 80 } },
    {
      ...defaults,
      method: { kind: 'http', host: undefined, port: 80, isTls: false, path: '', headers: [] },
    },
  ],
  [
    'HTTP with everything; the scheme in any letters',
    {
      initialDelaySeconds: 5,
      timeoutSeconds: 2,
      periodSeconds: 3,
      successThreshold: 4,
      failureThreshold: 6,
      httpGet: {
        path: 'ready?x=1',
        port: 8443,
        host: 'app.local',
        scheme: 'HTTPS',
        httpHeaders: [{ name: 'Host', value: 'h' }, { name: 'X-Empty' }],
      },
    },
    {
      initialDelayMs: 5000,
      timeoutMs: 2000,
      periodMs: 3000,
      successThreshold: 4,
      failureThreshold: 6,
      method: {
        kind: 'http',
        host: 'app.local',
        port: 8443,
        isTls: true,
        path: 'ready?x=1',
        headers: [
          ['Host', 'h'],
          ['X-Empty', ''],
        ],
      },
    },
  ],
  [
    'TCP; 0 is the default',
    { timeoutSeconds: 0, tcpSocket: { port: 1 } },
    { ...defaults, method: { kind: 'tcp', host: undefined, port: 1 } },
  ],
  [
    'gRPC',
    { grpc: { port: 9, service: 's' } },
    { ...defaults, method: { kind: 'grpc', port: 9, service: 's' } },
  ],
  [
    'a command',
    { exec: { command: ['sh', '-c', 'true'] } },
    { ...defaults, method: { kind: 'exec', command: ['sh', '-c', 'true'] } },
  ],
];

for (const [name, input, expected] of good) {
  test(`a readiness probe is read: ${name}`, () => {
    assert.deepEqual(parseReadinessProbe(input), { ok: expected });
  });
}

test('no probe is none', () => {
  assert.deepEqual(parseReadinessProbe(undefined), { ok: undefined });
});

const bad: readonly (readonly [string, unknown, readonly string[]])[] = [
  ['no method', { periodSeconds: 1 }, ['ProxyConfig.readinessProbe names no method']],
  [
    'two methods',
    { tcpSocket: { port: 1 }, exec: { command: ['x'] } },
    ['ProxyConfig.readinessProbe names more than one method (tcpSocket, exec)'],
  ],
  ['no object', 5, ['ProxyConfig.readinessProbe is 5']],
  ['no port', { tcpSocket: {} }, ['ProxyConfig.readinessProbe.tcpSocket.port is 0']],
  ['no program', { exec: {} }, ['ProxyConfig.readinessProbe.exec.command names no program']],
  [
    'everything wrong',
    {
      initialDelaySeconds: -1,
      failureThreshold: -2,
      httpGet: {
        port: 99_999,
        scheme: 'ftp',
        httpHeaders: [
          { name: 'a b', value: 'x' },
          { name: 'a', value: 'x\ny' },
        ],
      },
    },
    [
      'ProxyConfig.readinessProbe.initialDelaySeconds is -1',
      'ProxyConfig.readinessProbe.failureThreshold is -2',
      'ProxyConfig.readinessProbe.httpGet.scheme is "ftp"',
      'ProxyConfig.readinessProbe.httpGet.httpHeaders[0] is no HTTP header',
      'ProxyConfig.readinessProbe.httpGet.httpHeaders[1] is no HTTP header',
      'ProxyConfig.readinessProbe.httpGet.port is 99999',
    ],
  ],
];

for (const [name, input, expected] of bad) {
  test(`a readiness probe is refused: ${name}`, () => {
    const { ok, errors } = parseReadinessProbe(input);
    assert.equal(ok, undefined);
    assert.deepEqual(
      errors?.map((error) => `${error.name} ${error.problem}`),
      expected,
    );
  });
}
