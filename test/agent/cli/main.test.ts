import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { formatVersion } from '../../../agent/cli/version.ts';
import { createWorkspace } from '../../support/workspace.ts';
import { main, runCommand } from './command-process.ts';

const build = { version: '1.2.3', revision: 'abc', status: 'Clean', tag: 'v1.2.3' };

describe('version', () => {
  test('has the stock forms', () => {
    const node = `node ${process.version}`;
    assert.equal(formatVersion(build, { isShort: true, output: '' }), 'client version: 1.2.3\n');
    assert.equal(
      formatVersion(build, { isShort: false, output: '' }),
      `client version: version.BuildInfo{Version:"1.2.3", GitRevision:"abc", GolangVersion:"${node}", BuildStatus:"Clean", GitTag:"v1.2.3"}\n`,
    );
    assert.deepEqual(JSON.parse(formatVersion(build, { isShort: false, output: 'json' })), {
      clientVersion: {
        version: '1.2.3',
        revision: 'abc',
        golang_version: node,
        status: 'Clean',
        tag: 'v1.2.3',
      },
    });
    assert.match(
      formatVersion(build, { isShort: false, output: 'yaml' }),
      /^clientVersion:\n {2}golang_version: .*\n {2}revision: "abc"\n/,
    );
  });

  test('is printed by the command', async () => {
    const { code, stdout, stderr } = await runCommand(['version', '-s', '-o', 'json']);
    assert.equal(code, 0);
    assert.equal(stderr, '');
    assert.deepEqual(Object.keys(JSON.parse(stdout).clientVersion), [
      'version',
      'revision',
      'golang_version',
      'status',
      'tag',
    ]);
  });
});

test('an agent whose log nobody reads ends all the same', async () => {
  // Each is an error, in the log and on standard error: more than any pipe holds.
  const headers = Array.from({ length: 8_000 }, (_, index) => [`XDS_HEADER_bad name ${index}`, 'x'] as const);
  const child = spawn(process.execPath, [main, 'proxy'], {
    env: { PATH: process.env['PATH'], DISABLE_ENVOY: 'true', ...Object.fromEntries(headers) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  assert.equal(code, 255);
  child.stdout.destroy();
  child.stderr.destroy();
});

describe('commands and their errors', () => {
  const table: readonly (readonly [readonly string[], RegExp])[] = [
    [['version', '--output', 'xml'], /^Error: --output must be 'yaml' or 'json'\n$/],
    [['version', '--old'], /^Error: unknown option '--old'\n/],
    [['version', '--short=maybe'], /^Error: invalid argument "maybe" for "--short"/],
    [['nonsense'], /^Error: unknown command "nonsense"/],
    [['request', 'GET'], /^Error: missing required argument 'path'\n/],
    [
      ['request', 'GET', 'x', '--debug-port', '8080'],
      /^Error: debug port 8080 is not in allowed list \[15000 15004 15020 15021\]\n$/,
    ],
    [['request', 'GET', 'x', '--debug-port', 'x'], /^Error: invalid argument "x" for "--debug-port"/],
    [['wait', '--url', 'nowhere', '--timeoutSeconds', '1'], /^Error: --url: "nowhere" is not a URL/],
    [['wait', '--timeoutSeconds=-1'], /^Error: invalid argument "-1"/],
    [['proxy', '--domain'], /^Error: option '--domain <value>' argument missing\n/],
  ];
  for (const [words, pattern] of table) {
    test(`${words.join(' ')} ends with 255 and says why`, async () => {
      const { code, stderr } = await runCommand(words);
      assert.match(stderr, pattern);
      assert.equal(code, 255);
    });
  }

  test('help is no error, with and without its flag', async () => {
    for (const words of [[], ['--help'], ['proxy', '--help'], ['help', 'wait']]) {
      const { code, stdout } = await runCommand(words);
      assert.equal(code, 0, words.join(' '));
      assert.match(stdout, /^Usage: pilot-agent/);
    }
  });
});

describe('proxy with a wrong configuration', () => {
  test('writes the start lines, then every error at once to log and stderr, and ends with 255', async () => {
    await using workspace = await createWorkspace();
    await workspace.write('etc/istio/pod/annotations', 'proxy.istio.io/config="drainDuration: x\\n"\n');
    await workspace.write('etc/istio/config/mesh', 'defaultConfig:\n  proxyAdminPort: 0\n');
    const { code, stdout, stderr } = await runCommand(
      ['proxy', 'sidecar', '--log_output_level', 'default:info', '--concurrency=two', '--old-flag', 'x'],
      {
        cwd: workspace.root,
        env: {
          POD_NAME: 'web-0',
          POD_NAMESPACE: 'shop',
          INSTANCE_IP: '10.0.0.5',
          PROXY_CONFIG: 'discoveryAddress: nowhere\n',
          ISTIO_META_DNS_CAPTURE: 'yes',
          DOCKER_AUTH_CONFIG: 'hunter2',
        },
      },
    );
    assert.equal(code, 255);
    const errors = [
      /^Error: --concurrency: "two" is not an integer; set a number$/m,
      /^Error: annotation proxy\.istio\.io\/config\.drainDuration: expected a duration, got "x"; /m,
      /^Error: ProxyConfig\.discoveryAddress: is "nowhere"; /m,
      /^Error: ProxyConfig\.proxyAdminPort: is 0; /m,
      /^Error: ISTIO_META_DNS_CAPTURE: metadata key DNS_CAPTURE must be a boolean in a text, got "yes"; /m,
    ];
    for (const pattern of errors) assert.match(stderr, pattern);
    assert.equal(stderr.trimEnd().split('\n').length, errors.length);
    assert.equal(stdout.match(/\terror\t/g)?.length, errors.length);
    assert.match(stdout, /^\S+Z\tinfo\tFLAG: --concurrency="two"$/m);
    assert.match(stdout, /\tinfo\tFLAG: --log_target="\[stdout\]"$/m);
    assert.match(stdout, /\tinfo\tVersion unknown-unknown-unknown$/m);
    assert.doesNotMatch(stdout + stderr, /hunter2/);
  });

  test('refuses roles it does not serve', async () => {
    const { code, stderr } = await runCommand(['proxy', 'ztunnel', '--old', '--log_as_json']);
    assert.equal(code, 255);
    assert.match(stderr, /^Error: proxy type: ztunnel runs without Envoy/);
  });

  test('logs as JSON, to files, at the level asked for', async () => {
    await using workspace = await createWorkspace();
    const words = ['proxy', 'nonsense', '--log_as_json=true', '--log_target', 'a.log', '--log_target=stderr'];
    const quiet = await runCommand([...words, '--log_output_level=error'], { cwd: workspace.root });
    assert.equal(quiet.stdout, '');
    const line = JSON.parse(await readFile(workspace.path('a.log'), 'utf8')) as Record<string, unknown>;
    assert.equal(line['level'], 'error');
    assert.equal(line['msg'], 'proxy type: invalid proxy Type: nonsense; use sidecar, router or waypoint');
    assert.ok(quiet.stderr.startsWith('{'));
    const lost = await runCommand([...words, '--log_target=no/such/folder'], { cwd: workspace.root });
    assert.equal(lost.code, 255);
    assert.match(lost.stderr, /^Error: --log_target: cannot open no\/such\/folder/);
  });

  test('reports a bad log level together with the rest', async () => {
    const { stderr } = await runCommand(['proxy', 'nonsense', '--log_output_level', 'wasm:loud']);
    assert.match(stderr, /^Error: --log_output_level: "wasm:loud" is not scope:level/m);
    assert.match(stderr, /^Error: proxy type/m);
  });
});
