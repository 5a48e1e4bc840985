import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { parseModuleUrl } from '../../../agent/fetch/module-url.ts';
import { hostKey } from '../../../agent/policy/host-key.ts';
import { type ModulePlace, readPlace } from '../../../agent/policy/module-place.ts';
import { decideModule } from '../../../agent/policy/policy.ts';
import { allowAll, denyAll, policyOf } from './policy-fixture.ts';

const digest = '0123456789abcdef'.repeat(4);

function placeOf(url: string): ModulePlace {
  const reading = readPlace(url);
  assert.equal(reading.kind, 'place', `${url}: ${JSON.stringify(reading)}`);
  return reading.place;
}

const pathText = (place: ModulePlace): string => [place.host, ...place.segments].join('/');

describe('the place of a module URL', () => {
  const same: readonly (readonly [string, string])[] = [
    ['oci://reg.test/team/a:v1', 'reg.test/team/a'],
    ['OCI://REG.test:443/team/a', 'reg.test/team/a'],
    ['oci://reg.test:80/team/a', 'reg.test/team/a'],
    ['oci://user:word@reg.test/team/a', 'reg.test/team/a'],
    ['oci://reg.test/team/a?x=1#y', 'reg.test/team/a'],
    [`oci://reg.test:5000/team/a:v1@sha256:${digest}`, 'reg.test:5000/team/a'],
    ['oci://a', 'index.docker.io/library/a'],
    ['oci://team/a', 'index.docker.io/team/a'],
    ['oci://docker.io/a', 'index.docker.io/library/a'],
    ['oci://registry-1.docker.io/a', 'index.docker.io/library/a'],
    ['oci://registry.hub.docker.com/library/a', 'index.docker.io/library/a'],
    ['oci://0x7f.1:5000/a', '127.0.0.1:5000/a'],
    ['oci://[0:0::1]:5000/a', '[::1]:5000/a'],
    ['oci://[::ffff:10.0.0.1]/a', '10.0.0.1/a'],
    ['https://WEB.test:443/a/b.wasm', 'web.test/a/b.wasm'],
    ['http://web.test:80/a/b.wasm', 'web.test/a/b.wasm'],
    ['https://web.test./a/b.wasm', 'web.test/a/b.wasm'],
    ['https://user:word@web.test/a/b.wasm', 'web.test/a/b.wasm'],
    ['https://web.test/a/./c/../b.wasm?x#y', 'web.test/a/b.wasm'],
    ['https://web.test/a/%2e%2E/a/%62.wasm/', 'web.test/a/b.wasm'],
    ['https:\\\\web.test\\a\\b.wasm'.replace('\\\\', '//'), 'web.test/a/b.wasm'],
    ['https://ｗｅｂ.test/a/b.wasm', 'web.test/a/b.wasm'],
    ['https://2130706433/a', '127.0.0.1/a'],
    ['https://bücher.test/ü', 'xn--bcher-kva.test/ü'],
  ];
  for (const [url, text] of same) {
    test(`${url} is ${text}`, () => assert.equal(pathText(placeOf(url)), text));
  }

  for (const url of [
    '',
    'web.test/a',
    'ftp://web.test/a',
    'https:web.test/a',
    'https:///a',
    'https://',
    'oci:reg.test/a',
    'https://web.test/a//b',
    'https://web.test//a',
    'https://web.test/a%2fb',
    'https://web.test/a%5Cb',

    'https://web.test/a%252e',
    'https://web.test/a%00',
    'https://web.test/a;x=1/b',
    'https://web.test/a%3Bb',

    'https://web.test/%c0%ae%c0%ae/b',
    'https://web..test/a',
    'https://web.test/a\nb',
    ' https://web.test/a',

    'oci://reg.test/../a',
    'oci://reg.test/a//b',
    'oci://reg.test/A',
    'oci://reg..test/a',
    'oci://1.2.3.4.5/a',
  ]) {
    test(`${JSON.stringify(url)} is no place`, () => assert.equal(readPlace(url).kind, 'unreadable'));
  }

  test('tells a tag only where no digest counts', () => {
    assert.deepEqual(
      [placeOf('oci://reg.test/a').tag, placeOf('oci://reg.test/a').digest],
      ['latest', undefined],
    );
    const both = placeOf(`oci://reg.test/a:v1@sha256:${digest}`);
    assert.deepEqual([both.tag, both.digest], [undefined, digest]);
  });

  test('tells the repository behind a web URL of a registry API', () => {
    assert.deepEqual(placeOf(`https://reg.test/v2/team/a/blobs/sha256:${digest}`).repository, ['team', 'a']);
    assert.deepEqual(placeOf('https://registry-1.docker.io/v2/a/manifests/v1').repository, ['library', 'a']);
    assert.equal(placeOf('https://reg.test/v2/blobs/x').repository, undefined);
  });
});

/** One place and every kind of odd way to write it. The functions take a random number for their choice. */
type Spelling = (url: string, random: number) => string;

const randomCase = (text: string, random: number): string =>
  text.replaceAll(/[a-z]/gi, (letter, index: number) =>
    (random >> (index % 16)) & 1 ? letter.toUpperCase() : letter.toLowerCase(),
  );
const inAuthority =
  (change: (host: string, random: number) => string): Spelling =>
  (url, random) =>
    url.replace(
      /^([a-z]+:\/\/)([^/\\]+)/i,
      (_, scheme: string, host: string) => `${scheme}${change(host, random)}`,
    );
const inPath =
  (change: (path: string, random: number) => string): Spelling =>
  (url, random) =>
    url.replace(
      /^([a-z]+:\/\/[^/\\]+)([/\\][^?#]*)/i,
      (_, start: string, path: string) => `${start}${change(path, random)}`,
    );

const schemeCase: Spelling = (url, random) => url.replace(/^[a-z]+/i, (scheme) => randomCase(scheme, random));
const hostCase = inAuthority((host, random) => host.replace(/[^@]*$/, (name) => randomCase(name, random)));
const userInfo = inAuthority((host, random) =>
  host.includes('@') ? host : `${['user', 'user:word', ':', 'good.test'][random % 4] ?? ''}@${host}`,
);
const port = inAuthority((host, random) =>
  /:\d+$/.test(host) ? host : `${host}:${['443', '80'][random % 2] ?? ''}`,
);
const suffix: Spelling = (url, random) => `${url}${['?', '?x=1', '#y', '?x#y/../..'][random % 4] ?? ''}`;

const webSpellings: readonly Spelling[] = [
  schemeCase,
  hostCase,
  userInfo,
  port,
  suffix,
  inAuthority((host) => host.replace(/(?=:\d+$|$)/, '.')),
  inAuthority((host) => host.replace('evil', 'ｅｖｉｌ')),
  inAuthority((host) => host.replace('evil', '%65vil')),
  inPath((path, random) =>
    path.replaceAll(/[a-z]/g, (letter, index: number) =>
      (random >> (index % 16)) & 1 ? `%${letter.charCodeAt(0).toString(16)}` : letter,
    ),
  ),
  inPath((path, random) =>
    path.replace('/', ['/./', '//', '/x/../', '/%2e/', '\\', '/x/%2E%2e/', '/;/', '/%2f'][random % 8] ?? '/'),
  ),
  inPath((path) => `${path}/`),
  inPath((path) => `${path}/deeper.wasm`),
  (url, random) => url.replace(/^https?/i, random % 2 === 0 ? 'http' : 'https'),
  (url, random) => (random % 2 === 0 ? ` ${url}\t` : url.replace('evil', 'ev\til')),
];
/** Spellings of images under a denied place, put together from parts. */
const imageSpellings = fc
  .record({
    scheme: fc.constantFrom('oci', 'OCI', 'Oci'),
    userInfo: fc.constantFrom('', 'user@', 'user:word@', 'good.test@'),
    place: fc.constantFrom(
      'evil.example/a',
      'evil.example/library/a',
      'docker.io/bad',
      'docker.io/library/bad',
      'index.docker.io/bad',
      'registry-1.docker.io/bad',
      'registry-1.docker.io/library/bad',
      'registry.hub.docker.com/bad',
      'reg.test/bad/a',
      'bad',
      'library/bad',
    ),
    caseOf: fc.nat(2 ** 16),
    port: fc.constantFrom('', ':443', ':80', ':00443'),
    version: fc.constantFrom('', ':v1', ':latest', `@sha256:${digest}`, `:v2@sha256:${digest}`),
    rest: fc.constantFrom('', '?', '?x=1', '#y', '?x#y/../..'),
  })
  .map(({ scheme, userInfo, place, caseOf, port, version, rest }) => {
    const [, host, repository] = /^([^/]*\.[^/]*)\/(.*)$/.exec(place) ?? [];
    const authority = host === undefined ? '' : `${userInfo}${randomCase(host, caseOf)}${port}/`;
    return `${scheme}://${authority}${repository ?? place}${version}${rest}`;
  });

const steps = (spellings: readonly Spelling[]): fc.Arbitrary<readonly (readonly [Spelling, number])[]> =>
  fc.array(fc.tuple(fc.constantFrom(...spellings), fc.nat(2 ** 16)), { maxLength: 5 });
const spell = (url: string, changes: readonly (readonly [Spelling, number])[]): string =>
  changes.reduce((text, [change, random]) => change(text, random), url);

describe('a denied URL', () => {
  const denied = `${allowAll}modules:
  - { url: "https://evil.test/bad", action: deny }
  - { registry: evil.example, action: deny }
  - { repository: reg.test/bad/a, action: deny }
  - { url: "oci://docker.io/library/bad", action: deny }
`;

  test('is denied in every spelling of the web', async () => {
    const policy = await policyOf(denied);
    let byRuleCount = 0;
    const urls = fc.constantFrom(
      'https://evil.test/bad',
      'https://evil.test/bad/a.wasm',
      'http://evil.example/x',
    );
    const property = fc.property(urls, steps(webSpellings), (url, changes) => {
      const spelled = spell(url, changes);
      const decision = decideModule(policy, { kind: 'remote', url: spelled });
      assert.equal(decision.allowed, false, spelled);
      if (decision.rule.name.startsWith('modules')) byRuleCount += 1;
    });
    fc.assert(property, { numRuns: 3000, interruptAfterTimeLimit: 2_000 });
    // The others are unreadable.
    assert.ok(byRuleCount > 0);
  });

  test('is denied in every spelling of an image', async () => {
    const policy = await policyOf(denied);
    const property = fc.property(imageSpellings, (url) => {
      const decision = decideModule(policy, { kind: 'remote', url });
      assert.ok(!decision.allowed, url);
      assert.match(decision.rule.name, /^modules/, decision.reason);
    });
    fc.assert(property, { numRuns: 3000, interruptAfterTimeLimit: 2_000 });
  });

  test('stays denied under another tag, digest or the registry API', async () => {
    const policy = await policyOf(denied);
    for (const url of [
      'oci://reg.test/bad/a',
      'oci://REG.test:443/bad/a:v1',
      `oci://reg.test/bad/a@sha256:${digest}`,
      `https://reg.test/v2/bad/a/blobs/sha256:${digest}`,
      `http://reg.test/v2/bad/%61/manifests/v1`,
    ]) {
      assert.equal(decideModule(policy, { kind: 'remote', url }).allowed, false, url);
    }
    assert.equal(decideModule(policy, { kind: 'remote', url: 'oci://reg.test/bad/ab' }).allowed, true);
  });
});

describe('an allowed URL', () => {
  test('always leads to the allowed host, however the text looks', async () => {
    const policy = await policyOf(
      `${denyAll}modules:\n  - { registry: good.test, action: allow }\nregistries: { good.test: { plainHttp: true } }\n`,
    );
    const piece = fc.constantFrom(
      'good.test',
      'evil.test',
      'https://',
      'http://',
      'oci://',
      '@',
      ':',
      '/',
      '\\',
      '//',
      '..',
      '.',
      '%2e',
      '%40',

      '?',
      '#',
      ';',
      '443',
      '80',
      '5000',
      ' ',
      '\t',
      'a',
      'v2',
      '[',
      ']',
      '::1',
      '%2f',
      '。',
      'sha256:',
      digest,
    );
    const texts = fc
      .tuple(fc.constantFrom('https://', 'http://', 'oci://'), fc.array(piece, { maxLength: 8 }))
      .map(([scheme, pieces]) => `${scheme}${pieces.join('')}`);
    let allowedCount = 0;
    const property = fc.property(texts, (url) => {
      if (!decideModule(policy, { kind: 'remote', url }).allowed) return;
      allowedCount += 1;
      // What the fetch dials for this text.
      const parsed = parseModuleUrl(url);
      const host = parsed.kind === 'http' ? new URL(parsed.url).host : parsed.reference.registry;
      assert.equal(hostKey(host), 'good.test', url);
      assert.match(host, /^good\.test\.?(?::80|:443)?$/i);
    });
    fc.assert(property, {
      numRuns: 5000,
      interruptAfterTimeLimit: 2_000,
      examples: [['https://good.test/a']],
    });
    assert.ok(allowedCount > 0);
  });
});
