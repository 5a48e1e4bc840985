import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseChallenges } from '../../../../agent/fetch/oci/challenge.ts';
import { checkRealm, parseTokenAnswer, tokenRequests } from '../../../../agent/fetch/oci/token.ts';

const context = {
  registryOrigin: 'https://reg.test',
  isPlainHttpAllowed: (host: string) => host === 'plain.test:80',
};

describe('a bearer realm', () => {
  const safe = [
    'https://auth.test/token',
    'https://auth.test:8443/token?x=1',
    'http://plain.test:80/token',
    'https://8.8.8.8/token',
    'https://reg.test/token',
  ];
  for (const realm of safe) {
    it(`${realm} may be asked`, () => {
      assert.equal(checkRealm(realm, context).kind, 'safe');
    });
  }

  const unsafe: readonly (readonly [string | undefined, RegExp])[] = [
    [undefined, /missing/],
    ['', /missing/],
    ['/token', /not an absolute URL/],
    ['file:///etc/passwd', /scheme "file" not allowed/],
    ['gopher://x/', /scheme "gopher" not allowed/],
    ['http://auth.test/token', /plain http/],
    ['https://metadata.google.internal/x', /cloud metadata/],
    ['https://METADATA.google.internal./x', /cloud metadata/],
    ['https://localhost/x', /localhost/],
    ['https://127.0.0.1/x', /private\/loopback/],
    ['https://2130706433/x', /private\/loopback/],
    ['https://0x7f.1/x', /private\/loopback/],
    ['https://10.1.2.3/x', /private\/loopback/],
    ['https://[::1]/x', /private\/loopback/],
    ['https://[::ffff:192.168.0.1]/x', /private\/loopback/],
    ['https://[fd00::1]/x', /private\/loopback/],
    ['https://169.254.169.254/x', /private\/loopback/],
    ['https://0.0.0.0/x', /private\/loopback/],
  ];
  for (const [realm, reason] of unsafe) {
    it(`${realm} is refused`, () => {
      const verdict = checkRealm(realm, context);
      assert.match(verdict.kind === 'unsafe' ? verdict.reason : '', reason);
    });
  }

  it('at the origin of the registry itself is good also at an internal address, but at no other port', () => {
    const registry = { ...context, registryOrigin: 'http://10.0.0.1:5000' };
    assert.equal(checkRealm('http://10.0.0.1:5000/token', registry).kind, 'safe');
    assert.equal(checkRealm('http://10.0.0.1:5001/token', registry).kind, 'unsafe');
  });
});

describe('a token request', () => {
  const [challenge] = parseChallenges(['Bearer realm="https://auth.test/token?a=b",service="reg test"']);
  assert.ok(challenge);
  const realm = new URL('https://auth.test/token?a=b');

  it('names service and scope beside what the realm has, and sends user and password', () => {
    const { first: request, fallback } = tokenRequests(realm, challenge, 'team/plugin', {
      kind: 'basic',
      username: 'ann',
      password: 'p',
    });
    assert.equal(fallback, undefined);
    assert.equal(request.method, 'GET');
    assert.equal(
      request.url,
      'https://auth.test/token?a=b&service=reg+test&scope=repository%3Ateam%2Fplugin%3Apull',
    );
    assert.equal(request.authorization, 'Basic YW5uOnA=');
  });

  it('without credentials asks anonymously', () => {
    assert.equal(tokenRequests(realm, challenge, 'x', { kind: 'anonymous' }).first.authorization, undefined);
  });

  it('names other repositories of the challenge too, for pulling only, and nothing else', () => {
    const [wide] = parseChallenges([
      'Bearer realm="https://auth.test/",scope="repository:virtual/x:pull,push registry:catalog:* repository:x:pull repository:../y:pull"',
    ]);
    assert.ok(wide);
    const { first } = tokenRequests(new URL('https://auth.test/'), wide, 'x', { kind: 'anonymous' });
    assert.deepEqual(new URL(first.url).searchParams.getAll('scope'), [
      'repository:x:pull',
      'repository:virtual/x:pull',
    ]);
  });

  it('with an identity token is a refresh whose secret is in the body only, or else a password', () => {
    const { first: request, fallback } = tokenRequests(realm, challenge, 'x', {
      kind: 'identity-token',
      token: 'secret&1',
      username: 'ann',
    });
    assert.equal(fallback?.method, 'GET');
    assert.equal(fallback?.url, 'https://auth.test/token?a=b&service=reg+test&scope=repository%3Ax%3Apull');
    assert.equal(fallback?.authorization, `Basic ${Buffer.from('ann:secret&1').toString('base64')}`);
    assert.equal(request.method, 'POST');
    assert.equal(request.url, 'https://auth.test/token?a=b');
    const form = new URLSearchParams(request.body);
    assert.equal(form.get('refresh_token'), 'secret&1');
    assert.equal(form.get('grant_type'), 'refresh_token');
    assert.equal(form.get('scope'), 'repository:x:pull');
  });
});

describe('a token answer', () => {
  it('gives token or access_token', () => {
    assert.equal(parseTokenAnswer('{"token":"a","access_token":"b"}').value, 'a');
    assert.equal(parseTokenAnswer('{"token":"","access_token":"b"}').value, 'b');
  });

  it('is believed for nine tenths of its life: a minute when it does not say, an hour at most', () => {
    const lifetimeMs = (expires: unknown): number =>
      parseTokenAnswer(JSON.stringify({ token: 'a', expires_in: expires })).lifetimeMs;
    assert.deepEqual(
      [undefined, 300, 0, -1, '300', 1e9].map(lifetimeMs),
      [54_000, 270_000, 54_000, 54_000, 54_000, 3_240_000],
    );
  });

  it('that holds none, or one that breaks headers, is refused without being quoted', () => {
    for (const text of [
      '',
      'secret',
      'null',
      '[]',
      '{}',
      '{"token":7}',
      '{"token":"se cret"}',
      '{"token":"secret\\r\\nx: y"}',
    ]) {
      assert.throws(
        () => parseTokenAnswer(text),
        (error: Error & { code: string }) => {
          assert.equal(error.code, 'unauthorized');
          assert.doesNotMatch(error.message, /secret/);
          return true;
        },
      );
    }
  });
});
