import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Authority } from '../support/certificate-authority/authority.ts';

const script = readFileSync(new URL('../../deploy/image/ferry-agent', import.meta.url), 'utf8');
const imageFolder = '/usr/local/lib/ferry';

/** In the place of the bundle: tells what the agent would see. */
const program = `console.log(JSON.stringify({
  words: process.argv.slice(2),
  flags: process.execArgv,
  environment: process.env,
  extraRoots: require('node:tls').getCACertificates('extra').length,
}));`;

/** Variables of `node --help` that change nothing in an agent, or are wanted. */
const harmless = [
  'NODE_DISABLE_COLORS',
  'NODE_EXTRA_CA_CERTS',
  'NODE_NO_WARNINGS',
  'NODE_PENDING_PIPE_INSTANCES',
  'NODE_REPL_EXTERNAL_MODULE',
  'NODE_REPL_HISTORY',
  'NODE_SKIP_PLATFORM_CHECK',
];

describe('the start script of the image', () => {
  let folder = '';
  const path = (name: string) => join(folder, name);

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'ferry-start-'));
    symlinkSync(process.execPath, path('node'));
    writeFileSync(path('start.cjs'), program);
    writeFileSync(path('istio-version'), '1.27.0\n');
    writeFileSync(path('ferry-agent'), script.replaceAll(imageFolder, folder), { mode: 0o755 });
    writeFileSync(path('loaded.cjs'), 'console.log("foreign code");');
    writeFileSync(path('openssl.cnf'), 'no section and no value\n');
  });
  after(() => rmSync(folder, { recursive: true }));

  const start = (environment: Readonly<Record<string, string>>, ...words: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(path('ferry-agent'), words, {
      env: { PATH: process.env['PATH'], ...environment },
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');
    return JSON.parse(stdout) as {
      readonly words: readonly string[];
      readonly flags: readonly string[];
      readonly environment: Readonly<Record<string, string>>;
      readonly extraRoots: number;
    };
  };

  test('passes words and variables on, and says which Istio the base is of', () => {
    const words = ['proxy', 'sidecar', '--domain', 'a b', ''];
    const seen = start({ POD_NAME: 'web', ISTIO_META_PORTS: '[\n 8080\n]' }, ...words);
    assert.deepEqual(seen.words, words);
    const { PATH: _path, PWD: _pwd, ...others } = seen.environment;
    assert.deepEqual(others, {
      POD_NAME: 'web',
      ISTIO_META_PORTS: '[\n 8080\n]',
      ISTIO_BASE_VERSION: '1.27.0',
      MALLOC_ARENA_MAX: '1',
      FERRY_IGNORED_VARIABLES: '',
    });
    const own = { ISTIO_BASE_VERSION: '1.28.1', MALLOC_ARENA_MAX: '4' };
    const { ISTIO_BASE_VERSION, MALLOC_ARENA_MAX } = start(own).environment;
    assert.deepEqual({ ISTIO_BASE_VERSION, MALLOC_ARENA_MAX }, own);
  });

  // Each of them alone stops this Node, or puts something into the process or its output.
  const hazards: readonly (readonly [name: string, value: () => string])[] = [
    ['NODE_OPTIONS', () => '--use-bundled-ca'],
    ['NODE_OPTIONS', () => '--require /otel-auto-instrumentation-nodejs/autoinstrumentation.js'],
    ['NODE_OPTIONS', () => `--require ${path('loaded.cjs')}`],
    ['NODE_OPTIONS', () => '--inspect=127.0.0.1:0'],
    ['NODE_OPTIONS', () => '--no-such-flag'],
    ['NODE_USE_SYSTEM_CA', () => '1'],
    ['OPENSSL_CONF', () => path('openssl.cnf')],
    ['NODE_DEBUG', () => 'tls,net,http2,module'],
    ['NODE_V8_COVERAGE', () => path('coverage')],
  ];
  for (const [name, value] of hazards) {
    test(`takes ${name}=${value()} away, and names it`, () => {
      const { environment, words } = start({ [name]: value() }, 'proxy');
      assert.deepEqual(words, ['proxy']);
      assert.equal(environment[name], undefined);
      assert.equal(environment['FERRY_IGNORED_VARIABLES'], name);
    });
  }

  test('names all that it takes away, also empty ones, and never their values', () => {
    const { environment } = start({ NODE_OPTIONS: '', NODE_DEBUG: 'a secret', NODE_PATH: '/x' });
    assert.equal(environment['FERRY_IGNORED_VARIABLES'], 'NODE_OPTIONS NODE_DEBUG NODE_PATH');
    assert.ok(!JSON.stringify(environment).includes('a secret'));
  });

  test('leaves NODE_EXTRA_CA_CERTS, and Node adds its authorities', () => {
    writeFileSync(path('ca.pem'), Authority.createRoot().certificate);
    assert.equal(start({ NODE_EXTRA_CA_CERTS: path('ca.pem') }).extraRoots, 1);
    assert.equal(start({}).extraRoots, 0);
  });

  test('knows every variable that this Node tells of', () => {
    const { stdout } = spawnSync(process.execPath, ['--help'], { encoding: 'utf8' });
    const told = [...stdout.matchAll(/^(NODE_\w+)/gm)].map(([, name = '']) => name);
    assert.ok(told.length > 8, stdout);
    const [, list = ''] = /^for \w+ in ([^;]+); do$/m.exec(script) ?? [];
    const taken = new Set(list.match(/\w+/g));
    for (const name of told) {
      assert.ok(harmless.includes(name) || taken.has(name), `${name}: harmless, or to be taken away?`);
    }
  });
});
