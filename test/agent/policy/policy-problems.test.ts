import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import * as fc from 'fast-check';
import { loadPolicyFile, parsePolicy } from '../../../agent/policy/policy-file.ts';
import { formatPolicyProblem, PolicyFileError } from '../../../agent/policy/policy-problem.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { allowAll, createPolicyFolder, denyAll, digestA, load, problemsOf } from './policy-fixture.ts';

/** A text after the two lines that every document needs, with a mark where its one problem is told; path; words. */
type Fault = readonly [marked: string, path: string, words: RegExp];

const faults: readonly Fault[] = [
  // The text itself
  ['modules:\n¦\t- x\n', '', /tab.*use spaces/],
  ['caps: "x\n¦', '', /quote.*missing/],
  ['caps: [\n¦', '', /indentation|missing/],
  ['¦---\na: 1\n', '', /second document/],
  ['caps: {}\n¦caps: {}\n', '', /written twice/],
  ['caps: ¦!x {}\n', '', /tag/],
  ['caps: ¦*nothing\n', 'caps', /anchor/],
  ['¦1: 2\n', '', /key is no text/],
  ['¦__proto__: {}\n', '', /key is no text/],
  ['¦"": {}\n', '[""]', /is unknown/],
  // Keys
  ['¦mirors: []\n', 'mirors', /did you mean mirrors\?/],
  ['¦zzz: []\n', 'zzz', /is unknown; the keys here are version/],
  ['¦<<: {}\n', '["<<"]', /is unknown/],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, ¦maxhold: 1s }\n',
    'modules[0].maxhold',
    /did you mean maxHold\?/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, ¦password: x }\n',
    'modules[0].password',
    /secrets do not belong/,
  ],
  // Kinds
  ['modules: ¦{}\n', 'modules', /is a map, and must be a list/],
  ['modules:¦\n', 'modules', /has no value/],
  ['modules: [¦7]\n', 'modules[0]', /is 7, and must be a map/],
  ['local: ¦deny\n', 'local', /is "deny", and must be a map/],
  ['inline: ¦[deny]\n', 'inline', /is a list, and must be a map/],
  ['defaults: ¦1\n', 'defaults', /must be a map/],
  ['signers: ¦[one]\n', 'signers', /must be a map/],
  ['caps: { maxMemoryPages: ¦1.5 }\n', 'caps.maxMemoryPages', /must be a whole number/],
  ['caps: { maxMemoryPages: ¦65537 }\n', 'caps.maxMemoryPages', /65536 is the most/],
  ['caps: { connectionsPerHost: ¦0 }\n', 'caps.connectionsPerHost', /1 is the least/],
  ['caps: { maxModuleBytes: ¦3MB }\n', 'caps.maxModuleBytes', /"3MB" is no size.*Mi/],
  ['caps: { maxModuleBytes: ¦-1 }\n', 'caps.maxModuleBytes', /-1 is no size/],
  ['caps: { quotaBytes: ¦0Gi }\n', 'caps.quotaBytes', /"0Gi" is no size/],
  ['caps: { quotaBytes: ¦99999999999Gi }\n', 'caps.quotaBytes', /is no size/],
  ['caps: { quotaBytes: ¦true }\n', 'caps.quotaBytes', /true is no size/],
  ['blockedCidrs: [¦10.0.0.0/33]\n', 'blockedCidrs[0]', /"10.0.0.0\/33" is no address range/],
  ['blockedCidrs: [¦10.0.0.1]\n', 'blockedCidrs[0]', /such as 10.0.0.0\/8/],
  // Words
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, pullPolicy: ¦always }\n',
    'modules[0].pullPolicy',
    /write IfNotPresent or Always \(did you mean Always\?\)/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, onUpdateFailure: ¦drop }\n',
    'modules[0].onUpdateFailure',
    /write keep or failStrategy$/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, onTightened: ¦yes }\n',
    'modules[0].onTightened',
    /write keep or failStrategy$/,
  ],
  ['local: { action: ¦alow }\n', 'local.action', /did you mean allow\?/],
  ['¦inline: {}\n', 'inline.action', /is missing; add it: allow or deny/],
  // Durations and digests
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, maxHold: ¦5 }\n',
    'modules[0].maxHold',
    /is 5, and must be a text; put it in quotes/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, maxHold: ¦5 sec }\n',
    'modules[0].maxHold',
    /"5 sec" is no duration/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, maxHold: ¦-5s }\n',
    'modules[0].maxHold',
    /is no duration/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, staleIfError: ¦700h }\n',
    'modules[0].staleIfError',
    /too long/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, staleIfError: ¦0s }\n',
    'modules[0].staleIfError',
    /too short/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, pollInterval: ¦9s }\n',
    'modules[0].pollInterval',
    /10s is the least/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, originTimeout: ¦0s }\n',
    'modules[0].originTimeout',
    /too short/,
  ],
  ['defaults: { maxHold: ¦x }\n', 'defaults.maxHold', /is no duration/],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, sha256: [¦abc] }\n',
    'modules[0].sha256[0]',
    /"abc" is no sha256/,
  ],
  [
    `modules:\n  - { url: "oci://reg.test/a", action: allow, sha256: [¦"sha256:${digestA}"] }\n`,
    'modules[0].sha256[0]',
    /without a prefix/,
  ],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, sha256: ¦[] }\n',
    'modules[0].sha256',
    /empty list/,
  ],
  // Places
  [
    'modules:\n  - { action: allow, registry: ¦"https://reg.test" }\n',
    'modules[0].registry',
    /is no host.*without a scheme/,
  ],
  ['modules:\n  - { action: allow, registry: ¦"a b" }\n', 'modules[0].registry', /is no host/],
  [
    'modules:\n  - { action: allow, repository: ¦"oci://reg.test/a" }\n',
    'modules[0].repository',
    /has a scheme/,
  ],
  [
    'modules:\n  - { action: allow, repository: ¦"reg.test/a:v1" }\n',
    'modules[0].repository',
    /has a tag or digest/,
  ],
  [
    'modules:\n  - { action: allow, repository: ¦"reg.test/a/" }\n',
    'modules[0].repository',
    /ends with "\/"/,
  ],
  [
    'modules:\n  - { action: allow, repository: ¦"reg.test" }\n',
    'modules[0].repository',
    /names no repository/,
  ],
  [
    'modules:\n  - { action: allow, repository: ¦"team/a" }\n',
    'modules[0].repository',
    /does not name its registry/,
  ],
  ['modules:\n  - { action: allow, repository: ¦"reg.test/A" }\n', 'modules[0].repository', /lower case/],
  ['modules:\n  - { action: allow, url: ¦"reg.test/a" }\n', 'modules[0].url', /must begin with oci:\/\//],
  [
    'modules:\n  - { action: allow, url: ¦"ftp://reg.test/a" }\n',
    'modules[0].url',
    /must begin with oci:\/\//,
  ],
  [
    'modules:\n  - { action: allow, url: ¦"oci://acme/a" }\n',
    'modules[0].url',
    /for Docker Hub with docker\.io\//,
  ],
  [
    'modules:\n  - { action: allow, url: ¦"oci://docker.io/acme" }\n',
    'modules[0].url',
    /write docker\.io\/library\/acme .* or docker\.io\/acme\//,
  ],
  [
    'modules:\n  - { action: allow, url: ¦"oci://reg.test/a:v1/" }\n',
    'modules[0].url',
    /is no image reference|after a tag/,
  ],
  [
    'modules:\n  - { action: allow, url: ¦"oci://reg.test/../a" }\n',
    'modules[0].url',
    /is no image reference/,
  ],
  ['modules:\n  - { action: allow, url: ¦"oci://u:hunter2@reg.test/a" }\n', 'modules[0].url', /user info/],
  ['modules:\n  - { action: allow, url: ¦"https://u:hunter2@web.test/a" }\n', 'modules[0].url', /user info/],
  [
    'modules:\n  - { action: allow, url: ¦"https://web.test/a?token=hunter2" }\n',
    'modules[0].url',
    /query or fragment/,
  ],
  ['modules:\n  - { action: allow, url: ¦"https://web.test/a//b" }\n', 'modules[0].url', /write it plainly/],
  ['modules:\n  - { action: allow, url: ¦"https://web.test/a%2Fb" }\n', 'modules[0].url', /write it plainly/],
  ['modules:\n  - { action: allow, url: ¦"https://" }\n', 'modules[0].url', /cannot be read/],
  // What does not go together
  ['modules:\n  - ¦action: allow\n', 'modules[0]', /has none; a rule needs one of url, registry, repository/],
  [
    'modules:\n  - ¦{ action: allow, registry: reg.test, url: "https://a.test" }\n',
    'modules[0]',
    /has url and registry/,
  ],
  [
    'modules:\n  - { registry: reg.test, action: allow }\n  - { repository: ¦reg.test/a, action: deny }\n',
    'modules[1].repository',
    /never counts: modules\[0\]/,
  ],
  [
    'modules:\n  - { url: "https://w.test/a", action: deny }\n  - { url: ¦"http://W.test:80/a/b", action: allow }\n',
    'modules[1].url',
    /never counts: modules\[0\]/,
  ],
  ['modules:\n  - { url: ¦"oci://reg.test/a:v1", action: deny }\n', 'modules[0].url', /other names/],
  [
    'modules:\n  - { url: "https://w.test", action: deny, ¦maxHold: 1s }\n',
    'modules[0].maxHold',
    /no effect/,
  ],
  ['local: { action: deny, ¦paths: [/x] }\n', 'local.paths', /no effect/],
  ['local: { action: allow, paths: [¦x] }\n', 'local.paths[0]', /no absolute path/],
  ['local: { action: allow, paths: [¦/x/../y] }\n', 'local.paths[0]', /without "\.\."/],
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, signers: [¦nobody] }\n',
    'modules[0].signers[0]',
    /"nobody" is not under "signers"; add it/,
  ],
  // Signers
  [
    'modules:\n  - { url: "oci://reg.test/a", action: allow, signers: ¦[] }\n',
    'modules[0].signers',
    /empty list/,
  ],
  ['signers:\n  one: ¦{}\n', 'signers.one', /needs either "key" or "keyless"/],
  ['signers:\n  one: { key: ¦{} }\n', 'signers.one.key', /has no key/],
  ['signers:\n  one: { key: { publicKeys: [¦x] } }\n', 'signers.one.key.publicKeys[0]', /holds no PEM block/],
  [
    'signers:\n  one: { key: { publicKeyFiles: [¦none.pub] } }\n',
    'signers.one.key.publicKeyFiles[0]',
    /does not exist/,
  ],
  [
    'signers:\n  one: { ¦keyless: { identities: [{ issuer: i, subject: s }] } }\n',
    'signers.one.keyless.trustedRootFile',
    /is missing/,
  ],
  ['signers:\n  ¦"a b": { key: { publicKeyFiles: [good.pub] } }\n', 'signers["a b"]', /is no name/],
  // Mirrors and layouts
  [
    'mirrors:\n  - from: ¦oci://reg.test:x\n    endpoints:\n      - url: oci://m.test\n',
    'mirrors[0].from',
    /does not name its registry/,
  ],
  [
    'mirrors:\n  - from: ¦oci://reg.test/a:v1\n    endpoints:\n      - url: oci://m.test\n',
    'mirrors[0].from',
    /has a tag or digest/,
  ],
  [
    'mirrors:\n  - from: oci://reg.test\n    endpoints:\n      - url: ¦oci://m.test/a:v1\n',
    'mirrors[0].endpoints[0].url',
    /has a tag or digest/,
  ],
  [
    'mirrors:\n  - from: oci://reg.test\n    endpoints:\n      - url: ¦https://m.test\n',
    'mirrors[0].endpoints[0].url',
    /another kind/,
  ],
  [
    'mirrors:\n  - from: https://web.test\n    endpoints:\n      - url: https://m.test\n        ¦sendNamespace: true\n',
    'mirrors[0].endpoints[0].sendNamespace',
    /oci:\/\/ mirrors only/,
  ],
  [
    'mirrors:\n  - from: oci://reg.test\n    endpoints:\n      - url: oci://m.test\n        timeout: ¦soon\n',
    'mirrors[0].endpoints[0].timeout',
    /is no duration/,
  ],
  ['mirrors:\n  - from: oci://reg.test\n    endpoints: ¦[]\n', 'mirrors[0].endpoints', /empty list/],
  [
    'mirrors:\n  - from: oci://reg.test\n    endpoints:\n      - url: oci://m.test\n  - from: ¦oci://reg.test/a\n    endpoints: [{ url: oci://m.test }]\n',
    'mirrors[1].from',
    /never counts: mirrors\[0\]/,
  ],
  ['layouts: [{ path: ¦/no/such/folder }]\n', 'layouts[0].path', /is no folder.*optional: true/],
  ['layouts: [{ path: ¦"" }]\n', 'layouts[0].path', /is empty/],
  ['registries:\n  ¦"https://reg.test": {}\n', 'registries["https://reg.test"]', /is no host/],
  // Registries
  [
    'registries:\n  docker.io: {}\n  ¦index.docker.io:443: {}\n',
    'registries["index.docker.io:443"]',
    /is the same host as/,
  ],
  [
    'registries:\n  reg.test: { caFile: ¦none.pem }\n',
    'registries["reg.test"].caFile',
    /none\.pem" does not exist/,
  ],
  [
    'registries:\n  reg.test: { ¦caFile: good.pem, plainHttp: true }\n',
    'registries["reg.test"].caFile',
    /no effect with plainHttp/,
  ],
  [
    'registries:\n  reg.test: { ¦credentialsFile: auth.json, plainHttp: true }\n',
    'registries["reg.test"].credentialsFile',
    /in clear/,
  ],
  [
    'registries:\n  reg.test: { credentialsFile: ¦bad.json }\n',
    'registries["reg.test"].credentialsFile',
    /is not JSON/,
  ],
  [
    'registries:\n  reg.test: { caFile: ¦bad.json }\n',
    'registries["reg.test"].caFile',
    /no PEM block "CERTIFICATE"/,
  ],
  [
    'registries:\n  reg.test: { caFile: ¦broken.pem }\n',
    'registries["reg.test"].caFile',
    /certificate 1 of the file cannot be read/,
  ],
  ['registries:\n  reg.test: { caFile: ¦key.pem }\n', 'registries["reg.test"].caFile', /holds a private key/],
  [
    'registries:\n  reg.test: { ¦clientCertificate: { certFile: good.pem } }\n',
    'registries["reg.test"].clientCertificate.keyFile',
    /is missing/,
  ],
  [
    'registries:\n  reg.test: { clientCertificate: { certFile: good.pem, keyFile: ¦key.pem } }\n',
    'registries["reg.test"].clientCertificate.keyFile',
    /not that of certFile/,
  ],
  [
    'registries:\n  reg.test: { clientCertificate: { certFile: good.pem, keyFile: ¦good.pem } }\n',
    'registries["reg.test"].clientCertificate.keyFile',
    /no private key/,
  ],
];

const mark = '¦';

const authority = Authority.createRoot();
const { privateKey: secretKey, publicKey } = generateKeyPairSync('ec', {
  namedCurve: 'P-256',
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});
const others = {
  'good.pem': authority.certificate,
  'broken.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  'key.pem': secretKey,
  'good.pub': publicKey,
  'auth.json': '{"auths":{}}',
  'bad.json': 'hunter2',
};

describe('a policy file with one fault', () => {
  for (const [marked, path, words] of faults) {
    test(`${JSON.stringify(marked)} is told at the mark`, async () => {
      const before = `${denyAll}${marked.slice(0, marked.indexOf(mark))}`.split('\n');
      const problems = await problemsOf(`${denyAll}${marked.replace(mark, '')}`, others);
      const texts = problems.map(formatPolicyProblem);
      assert.deepEqual(
        problems.map((problem) => [problem.line, problem.column, problem.path]),
        [[before.length, (before.at(-1) ?? '').length + 1, path]],
        texts.join('\n'),
      );
      assert.match(problems[0]?.message ?? '', words);
      assert.doesNotMatch(texts.join('\n'), /hunter2|AAAA/);
    });
  }
});

describe('a policy file', () => {
  test('needs a version and a default action', async () => {
    const problems = await problemsOf('caps: {}\n');
    assert.deepEqual(
      problems.map(({ path, line, column }) => [path, line, column]),
      [
        ['version', 1, 1],
        ['defaultAction', 1, 1],
      ],
    );
  });

  for (const [what, text] of [
    ['is empty', ''],
    ['holds a comment only', '# later\n'],
    ['holds null', 'null\n'],
  ] as const) {
    test(`that ${what} is refused with what to write`, async () => {
      const [problem] = await problemsOf(text);
      assert.match(problem?.message ?? '', /the file is empty; write at least "version: 1"/);
    });
  }

  test('that is a list is refused', async () => {
    assert.match((await problemsOf('- 1\n'))[0]?.message ?? '', /must be a map/);
  });

  test('tells all faults at once, in the order of the lines', async () => {
    const text = [
      'version: 2',
      'defaultAction: perhaps',
      'modules:',
      '  - { url: "oci://x", action: allow, maxHold: x, extra: 1 }',
      '  - { registry: reg.test, action: allow, signers: [nobody] }',
      '  - { repository: reg.test/a, action: allow }',
      'registries:',
      '  reg.test: { caFile: none.pem }',
      'layouts: [{ path: none }]',
      '',
    ].join('\n');
    assert.deepEqual(
      (await problemsOf(text)).map(({ line, path }) => `${line} ${path}`),
      [
        '1 version',
        '2 defaultAction',
        '4 modules[0].url',
        '4 modules[0].maxHold',
        '4 modules[0].extra',
        '5 modules[1].signers[0]',
        '6 modules[2].repository',
        '8 registries["reg.test"].caFile',
        '9 layouts[0].path',
      ],
    );
  });

  test('with very many faults tells some and counts the rest', async () => {
    const text = `${allowAll}blockedCidrs:\n${'  - x\n'.repeat(500)}`;
    const problems = await problemsOf(text);
    assert.equal(problems.length, 201);
    assert.equal(problems.at(-1)?.message, '300 more problems');
  });

  test('may have aliases, and a fault in one is told where it is used', async () => {
    const text = `${allowAll}modules:\n  - { registry: a.test, action: allow, sha256: &list [x] }\n  - { registry: b.test, action: allow, sha256: *list }\n`;
    assert.deepEqual(
      (await problemsOf(text)).map(({ line, path }) => [line, path]),
      [
        [4, 'modules[0].sha256[0]'],
        [4, 'modules[1].sha256[0]'],
      ],
    );
  });

  test('with aliases that blow up is refused', async () => {
    const levels = Array.from({ length: 9 }, (_, level) => {
      const item = level === 0 ? 'x' : `*l${level - 1}`;
      return `  - &l${level} [${Array.from({ length: 10 }, () => item).join(', ')}]`;
    });
    const [problem] = await problemsOf(`${allowAll}modules:\n${levels.join('\n')}\n`);
    assert.match(problem?.message ?? '', /too deep or too large/);
  });

  test('with an alias that contains itself is refused', async () => {
    const problems = await problemsOf(`${allowAll}modules: &m [*m]\n`);
    assert.ok(problems.length > 0);
  });

  test('that is too large is refused before it is parsed', async () => {
    const [problem] = await problemsOf(`# ${'x'.repeat(1024 * 1024)}\n`);
    assert.match(problem?.message ?? '', /larger than 1048576 bytes/);
  });

  test('that is no UTF-8 is refused', async () => {
    await using folder = await createPolicyFolder();
    await folder.write('policy.yaml', Buffer.from([0x61, 0xff, 0x0a]));
    const loaded = await loadPolicyFile(folder.file);
    assert.equal(loaded.kind === 'rejected' && loaded.code, 'unreadable');
    assert.match(JSON.stringify(loaded), /no UTF-8/);
  });

  test('that is a folder or is missing is unreadable', async () => {
    await using folder = await createPolicyFolder();
    assert.match(JSON.stringify(await loadPolicyFile(folder.file)), /does not exist/);
    await mkdir(join(folder.path, 'policy.yaml'));
    assert.match(JSON.stringify(await loadPolicyFile(folder.file)), /is no regular file/);
  });

  test('that is a pipe does not hold the agent', async () => {
    await using folder = await createPolicyFolder();
    await promisify(execFile)('mkfifo', [folder.file]);
    assert.match(JSON.stringify(await loadPolicyFile(folder.file)), /is no regular file/);
  });

  test('names what it watches also when it is refused', async () => {
    await using folder = await createPolicyFolder();
    await folder.write('policy.yaml', `${allowAll}registries: { reg.test: { caFile: ca.pem } }\n`);
    const loaded = await loadPolicyFile(folder.file);
    assert.equal(loaded.kind, 'rejected');
    assert.deepEqual(loaded.watched, [folder.file, join(folder.path, 'ca.pem')]);
  });

  test('of any text is taken or refused with a problem, and never throws', async () => {
    const words = fc.constantFrom(
      'version',
      'modules',
      'url',
      'signers',
      'mirrors',
      'registries',
      'layouts',
      'keyless',
      'endpoints',

      ': ',
      '\n',
      '\n  ',
      '\n  - ',
      '- ',
      '[',
      ']',
      '{',
      '}',
      ', ',
      '"',
      "'",
      '&a ',
      '*a',
      '1',
      'x',
      '!',
      '|',
      '\t',
    );
    const texts = fc.oneof(
      fc.array(words, { maxLength: 24 }).map((parts) => parts.join('')),
      fc.string(),
    );
    const property = fc.asyncProperty(texts, fc.boolean(), async (text, isStarted) => {
      const parsed = await parsePolicy(isStarted ? `${denyAll}${text}` : text, '/none/policy.yaml');
      if (parsed.kind === 'loaded') return;
      assert.ok(parsed.problems.length > 0);
      for (const { message } of parsed.problems) assert.notEqual(message, '');
    });
    await fc.assert(property, { numRuns: 500, interruptAfterTimeLimit: 2_000 });
  });
});

describe('a secret in a policy file', () => {
  test('is refused when it is a private key, wherever it stands, and is not repeated', async () => {
    const secretLine = secretKey.split('\n')[1] ?? '';
    const indented = (key: string): string =>
      `signers:\n  one:\n    key:\n      publicKeys:\n        - |\n${key.replaceAll(/^/gm, '          ')}\n`;
    const texts = [
      indented(secretKey),
      `# ${secretKey.replaceAll('\n', '\n# ')}\n`,
      `registries: { reg.test: { clientCertificate: { certFile: good.pem, keyFile: ${JSON.stringify(secretKey)} } } }\n`,
      `modules: [{ url: ${JSON.stringify(secretKey)}, action: allow }]\n`,
      `defaults: { maxHold: ${JSON.stringify(secretKey)} }\n`,
    ];
    for (const text of texts) {
      const problems = await problemsOf(`${denyAll}${text}`, others);
      assert.ok(
        problems.some(({ message, line }) => line > 2 && /there is a private key; remove it/.test(message)),
      );
      const told = new PolicyFileError('invalid', problems).message;
      assert.ok(!told.includes(secretLine), told);
    }
  });

  test('is refused in a file of public keys', async () => {
    const text = `${denyAll}signers:\n  one: { key: { publicKeyFiles: [key.pem] } }\n`;
    const told = (await problemsOf(text, others)).map(formatPolicyProblem).join('\n');
    assert.match(told, /4:34: signers\.one\.key\.publicKeyFiles\[0\]: .*only public keys/);
    assert.ok(!told.includes(secretKey.split('\n')[1] ?? ''));
  });

  test('is not kept from the files that hold some', async () => {
    const password = 'hunter2-password';
    const auth = Buffer.from(`user:${password}`).toString('base64');
    const text = `${denyAll}registries:\n  reg.test: { credentialsFile: auth.json, clientCertificate: { certFile: c.pem, keyFile: k.pem } }\n`;
    const client = authority.issue(['client.test']);
    const loaded = await load(text, {
      'auth.json': JSON.stringify({ auths: { 'reg.test': { auth } } }),
      'c.pem': client.certificate,
      'k.pem': client.key,
    });
    assert.equal(loaded.kind, 'loaded', JSON.stringify(loaded));
    const kept = JSON.stringify([loaded, [...loaded.policy.registries]]);
    for (const secret of [password, auth, client.key.split('\n')[1] ?? '']) assert.ok(!kept.includes(secret));
  });
});
