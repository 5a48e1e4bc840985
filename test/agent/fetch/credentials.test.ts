import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  anonymousReader,
  CredentialResolver,
  credentialFingerprint,
} from '../../../agent/fetch/credentials.ts';
import {
  findCredential,
  parseDockerConfig,
  type RegistryCredential,
} from '../../../agent/fetch/docker-config.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const find = (
  auths: object,
  registry = 'reg.test:5000',
  repository = 'team/plugin',
): RegistryCredential | undefined =>
  findCredential(parseDockerConfig(JSON.stringify({ auths }), 'the config'), { registry, repository });
const user = (name: string): object => ({ auth: base64(`${name}:pw`) });
const found = (credential: RegistryCredential | undefined): string | undefined =>
  credential?.kind === 'basic' ? credential.username : credential?.kind;

describe('a docker config', () => {
  it('gives auth before user and password, and tokens before both', () => {
    const auth = base64('ann:p:w\0');
    assert.deepEqual(find({ 'reg.test:5000': { auth, username: 'bob', password: 'x' } }), {
      kind: 'basic',
      username: 'ann',
      password: 'p:w',
    });
    assert.deepEqual(find({ 'reg.test:5000': { username: 'bob', password: 'x' } }), {
      kind: 'basic',
      username: 'bob',
      password: 'x',
    });
    assert.deepEqual(find({ 'reg.test:5000': { auth, identitytoken: 'i' } }), {
      kind: 'identity-token',
      token: 'i',
      username: 'ann',
    });
    assert.deepEqual(find({ 'reg.test:5000': { auth, identitytoken: 'i', registrytoken: 'r' } }), {
      kind: 'registry-token',
      token: 'r',
    });
    assert.equal(find({ 'reg.test:5000': {} }), undefined);
  });

  const keys: readonly (readonly [string, readonly string[], string | undefined])[] = [
    [
      'the repository before its parent',
      ['reg.test:5000', 'reg.test:5000/team', 'reg.test:5000/team/plugin'],
      'reg.test:5000/team/plugin',
    ],
    ['the parent before the host', ['reg.test:5000', 'reg.test:5000/team'], 'reg.test:5000/team'],
    [
      'the exact host before another spelling',
      ['https://reg.test:5000/v1/', 'reg.test:5000'],
      'reg.test:5000',
    ],
    ['another spelling of the host', ['https://reg.test:5000/v1/'], 'https://reg.test:5000/v1/'],
    ['nothing for another port', ['reg.test', 'reg.test:5001'], undefined],
    ['nothing for another host', ['xreg.test:5000', 'reg.test:5000.evil'], undefined],
  ];
  for (const [name, given, expected] of keys) {
    it(`is searched for ${name}`, () => {
      assert.equal(
        found(find(Object.fromEntries(given.map((key) => [key, user(key.replaceAll(':', '_'))])))),
        expected?.replaceAll(':', '_'),
      );
    });
  }

  it('knows the keys of Docker Hub', () => {
    for (const key of [
      'https://index.docker.io/v1/',
      'index.docker.io',
      'docker.io',
      'registry-1.docker.io',
    ]) {
      assert.equal(found(find({ [key]: user('hub') }, 'index.docker.io', 'library/foo')), 'hub', key);
    }
  });

  const bad: readonly (readonly [string, RegExp])[] = [
    ['null', /is the JSON text null/],
    ['', /is not JSON/],
    ['secret', /is not JSON \(6 characters\)/],
    ['"secret"', /is a JSON string, not an object/],
    ['["secret"]', /is a JSON array/],
    ['{"auths":["secret"]}', /"auths" that is not an object/],
    ['{"auths":{"reg.test:5000":"secret"}}', /entry for "reg.test:5000" that is not an object/],
    ['{"auths":{"reg.test:5000":{"auth":7}}}', /"auth" for "reg.test:5000" that is not a text/],
    ['{"auths":{"reg.test:5000":{"auth":"secret!"}}}', /not base64/],
    ['{"auths":{"reg.test:5000":{"auth":"c2VjcmV0"}}}', /not base64 of user:password/],
  ];
  for (const [text, reason] of bad) {
    it(`${text} is refused, and not shown`, () => {
      assert.throws(
        () =>
          findCredential(parseDockerConfig(text, 'the config'), {
            registry: 'reg.test:5000',
            repository: 'x',
          }),
        (error: Error & { code: string }) => {
          assert.equal(error.code, 'bad_pull_secret');
          assert.match(error.message, reason);
          assert.doesNotMatch(error.message, /secret|c2Vj/);
          return true;
        },
      );
    });
  }

  it('with a damaged entry still serves other registries', () => {
    assert.equal(found(find({ 'other.test': { auth: '!' }, 'reg.test:5000': user('ann') })), 'ann');
  });

  it('never runs helpers; that they are there is said', async () => {
    const resolver = new CredentialResolver({ configPaths: [], inlineConfig: undefined });
    const pullSecret = JSON.stringify({ credHelpers: { 'reg.test': 'evil' }, credsStore: 'evil' });
    const resolved = await resolver.resolve({ registry: 'reg.test', repository: 'x', pullSecret });
    assert.deepEqual(resolved, {
      credential: { kind: 'anonymous' },
      origin: 'the image pull secret has no entry for reg.test; credential helpers are not run',
    });
  });

  it('given inline goes before files', async () => {
    const inlineConfig = JSON.stringify({ auths: { 'reg.test': user('inline') } });
    const resolver = new CredentialResolver({ configPaths: ['/nonexistent/config.json'], inlineConfig });
    const resolved = await resolver.resolve({ registry: 'reg.test', repository: 'x', pullSecret: undefined });
    assert.equal(found(resolved.credential), 'inline');
  });
});

describe('a credential fingerprint', () => {
  const key = Buffer.alloc(32, 1);
  const ann: RegistryCredential = { kind: 'basic', username: 'ann', password: 'pw' };

  it('is the same for the same credential, and tells any difference', () => {
    const fingerprints = [
      credentialFingerprint(key, 'reg.test', ann),
      credentialFingerprint(key, 'other.test', ann),
      credentialFingerprint(Buffer.alloc(32, 2), 'reg.test', ann),
      credentialFingerprint(key, 'reg.test', { ...ann, password: 'pw2' }),
      credentialFingerprint(key, 'reg.test', { ...ann, username: 'annpw', password: '' }),
      credentialFingerprint(key, 'reg.test', { kind: 'identity-token', token: 'pw' }),
      credentialFingerprint(key, 'reg.test', { kind: 'registry-token', token: 'pw' }),
      credentialFingerprint(key, 'reg.test', { kind: 'anonymous' }),
    ];
    assert.equal(new Set(fingerprints).size, fingerprints.length);
    assert.equal(credentialFingerprint(key, 'reg.test', { ...ann }), fingerprints[0]);
    assert.equal(fingerprints.at(-1), anonymousReader);
  });
});
