import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AppProbe, parseAppProbers } from '../../../agent/config/app-probe-config.ts';

const http = (fields: Partial<Extract<AppProbe['action'], { kind: 'http' }>>): AppProbe['action'] => ({
  kind: 'http',
  isTls: false,
  port: 8080,
  path: '',
  ...fields,
});

const good: readonly (readonly [string, string, object, AppProbe])[] = [
  [
    'a plain probe',
    '/app-health/web/livez',
    { httpGet: { path: '/hello', port: 8080 }, timeoutSeconds: 3, periodSeconds: 10 },
    { action: http({ path: '/hello' }), timeoutMs: 3000, isLifecycleHook: false },
  ],
  [
    'HTTPS, exactly; host and headers are ignored',
    '/app-health/web/readyz',
    { httpGet: { port: 8080, scheme: 'HTTPS', host: 'x', httpHeaders: [{ name: 'a', value: 'b' }] } },
    { action: http({ isTls: true }), timeoutMs: undefined, isLifecycleHook: false },
  ],
  [
    'another spelling of https is plain',
    '/app-health/web/startupz',
    { httpGet: { port: 8080, scheme: 'https' }, timeoutSeconds: 0 },
    { action: http({}), timeoutMs: undefined, isLifecycleHook: false },
  ],
  [
    'a TCP hook',
    '/app-lifecycle/web/prestopz',
    { tcpSocket: { port: 1, host: 'x' }, httpGet: null },
    { action: { kind: 'tcp', port: 1 }, timeoutMs: undefined, isLifecycleHook: true },
  ],
  [
    'gRPC in the spelling of the API, without a service',
    '/app-health/web/livez',
    { gRPC: { Port: 65535, service: null }, TimeoutSeconds: 1 },
    { action: { kind: 'grpc', port: 65535, service: '' }, timeoutMs: 1000, isLifecycleHook: false },
  ],
  [
    'gRPC with a service',
    '/app-health/web/livez',
    { grpc: { port: 9, service: 'a.B' } },
    { action: { kind: 'grpc', port: 9, service: 'a.B' }, timeoutMs: undefined, isLifecycleHook: false },
  ],
];

for (const [name, path, value, expected] of good) {
  test(`an app probe is read: ${name}`, () => {
    assert.deepEqual(parseAppProbers(JSON.stringify({ [path]: value })), { ok: new Map([[path, expected]]) });
  });
}

test('an empty variable is no probes', () => {
  assert.deepEqual(parseAppProbers(''), { ok: new Map() });
  assert.deepEqual(parseAppProbers('{}'), { ok: new Map() });
});

test('the exact spelling of a field goes before another one', () => {
  const { ok } = parseAppProbers('{"/app-health/a/livez":{"tcpSocket":{"port":1,"PORT":2},"GRPC":null}}');
  assert.deepEqual(ok?.get('/app-health/a/livez')?.action, { kind: 'tcp', port: 1 });
});

const bad: readonly (readonly [string, string, RegExp])[] = [
  ['text that is no JSON', '{', /failed to decode app prober: "\{" is not a JSON object/],
  ['a list', '[]', /failed to decode app prober/],
  ['no object as a probe', '{"/app-health/a/livez":null}', /failed to decode app prober: null is not/],
  [
    'a path of another kind',
    '{"/healthz":{"tcpSocket":{"port":1}}}',
    /invalid path, must be in form of regex pattern \^\/\(app-health\|app-lifecycle\)\/\[\^\/\]\+\//,
  ],
  ['a path with two containers', '{"/app-health/a/b/livez":{"tcpSocket":{"port":1}}}', /invalid path/],
  ['no kind', '{"/app-health/a/livez":{"exec":{}}}', /invalid prober type, must be one of type httpGet/],
  [
    'two kinds',
    '{"/app-health/a/livez":{"tcpSocket":{"port":1},"grpc":{"port":1}}}',
    /invalid prober type, must be one of type/,
  ],
  [
    'a named port',
    '{"/app-health/a/livez":{"httpGet":{"port":"http"}}}',
    /invalid prober config for \/app-health\/a\/livez, the port must be int type, is "http"/,
  ],
  ['a fraction as port', '{"/app-health/a/livez":{"grpc":{"port":80.5}}}', /the port must be int type/],
  ['no port', '{"/app-health/a/livez":{"httpGet":{}}}', /the port must be int type/],
  ['port 0', '{"/app-health/a/livez":{"httpGet":{"port":0}}}', /must be from 1 to 65535, is 0/],
  [
    'a path that is a number',
    '{"/app-health/a/livez":{"httpGet":{"port":1,"path":5}}}',
    /httpGet\.path is 5/,
  ],
  [
    'a kind that is a text',
    '{"/app-health/a/livez":{"tcpSocket":"x"}}',
    /tcpSocket is "x", not a JSON object/,
  ],
  [
    'a timeout that is a text',
    '{"/app-health/a/livez":{"tcpSocket":{"port":1},"timeoutSeconds":"5"}}',
    /timeoutSeconds is "5"/,
  ],
  [
    'a negative timeout',
    '{"/app-health/a/livez":{"tcpSocket":{"port":1},"timeoutSeconds":-1}}',
    /timeoutSeconds is -1/,
  ],
];

for (const [name, text, expected] of bad) {
  test(`an app probe is refused: ${name}`, () => {
    const { ok, errors } = parseAppProbers(text);
    assert.equal(ok, undefined);
    assert.equal(errors?.length, 1);
    assert.match(errors?.[0]?.problem ?? '', expected);
    assert.match(errors?.[0]?.name ?? '', /^ISTIO_KUBE_APP_PROBERS/);
    assert.notEqual(errors?.[0]?.remedy, '');
  });
}

test('all that is wrong is reported at once, each with its path', () => {
  const { errors } = parseAppProbers(
    '{"/x":{},"/app-health/a/livez":{"httpGet":{"port":"p"},"timeoutSeconds":[]},"/app-health/b/livez":{"grpc":{"port":1}}}',
  );
  assert.deepEqual(
    errors?.map(({ name }) => name),
    [
      'ISTIO_KUBE_APP_PROBERS["/x"]',
      'ISTIO_KUBE_APP_PROBERS["/x"]',
      'ISTIO_KUBE_APP_PROBERS["/app-health/a/livez"]',
      'ISTIO_KUBE_APP_PROBERS["/app-health/a/livez"]',
    ],
  );
});
