import assert from 'node:assert/strict';
import { mkdir, readdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ociTarGzip, pullSecret, wasmContent } from '../fetch/image-registry.ts';
import { writeLayout } from '../fetch/layout-folder.ts';
import { pluginLayer, sha256, wasmHeader, wasmModule } from '../fetch/module-bytes.ts';
import { FetchCommands, goodModule } from './wasm-fetch-fixture.ts';

describe('wasm inspect', () => {
  test('tells which index, manifest, layer and file an image gives, and that Envoy would be given it', async (t) => {
    const commands = await FetchCommands.start(t);
    const module = goodModule();
    const layer = await pluginLayer(module);
    const image = commands.registry.image([{ mediaType: ociTarGzip, bytes: layer }]);
    const index = commands.registry.index(
      [
        { image, platform: { os: 'linux', architecture: 'amd64' } },
        { image: commands.registry.image([]), platform: { os: 'linux', architecture: 's390x' } },
      ],
      { tags: ['v1'] },
    );
    const url = commands.url('v1');
    const { code, document, stderr } = await commands.inspect(url, '--pin', `sha256:${sha256(layer)}`);
    assert.equal(stderr, '');
    assert.equal(code, 0);
    assert.equal(document.verdict, 'fine');
    assert.equal(document.fetch.from, `origin ${commands.server.host}`);
    assert.equal(document.fetch.matchedPin, 'layer');
    assert.deepEqual(document.fetch.digests, {
      index: [index.digest],
      manifest: image.digest,
      layer: sha256(layer),
      module: sha256(module),
    });
    assert.deepEqual(
      document.fetch.trace?.steps.map(({ kind }) => kind),
      ['index', 'manifest', 'layer', 'file'],
    );
    assert.deepEqual(document.policy, { kind: 'none' });
    assert.deepEqual(document.signature, { kind: 'not-asked' });
    assert.equal(document.module?.sizeBytes, module.byteLength);
    assert.deepEqual(
      document.module?.summary.imports.map(({ module, name }) => `${module}.${name}`),
      ['env.proxy_log'],
    );
    assert.equal(document.module?.preflight.kind, 'accepted');

    const { stdout } = await commands.run(['inspect', url]);
    for (const line of [
      /^reference {2}oci:\/\/127\.0\.0\.1:\d+\/acme\/plugin:v1$/m,
      /^ {13}not sha256:[0-9a-f]{64}$/m,
      /^layer {6}sha256:[0-9a-f]{64}$/m,
      /^file {7}plugin\.wasm$/m,
      /^ABI {8}0\.2\.1$/m,
      /^imports {4}env: 1: proxy_log$/m,
      /^preflight {2}accepted$/m,
      /^verdict {4}fine: Envoy would be given this module$/m,
    ]) {
      assert.match(stdout, line);
    }
    assert.deepEqual(await commands.temporaryNames(), [], 'nothing is kept');
    await assert.rejects(stat(commands.dataFolder), { code: 'ENOENT' });
  });

  test('refuses what Envoy could not run, and says why', async (t) => {
    const commands = await FetchCommands.start(t);
    commands.registry.image([{ mediaType: wasmContent, bytes: wasmHeader }], { tags: ['bad'] });
    const { code, stdout } = await commands.run(['inspect', commands.url('bad')]);
    assert.equal(code, 1);
    assert.match(stdout, /^preflight {2}REFUSED: It exports no ABI version/m);
    assert.match(stdout, /^verdict {4}REFUSED: Envoy would not be given this module$/m);
  });

  test('a module that cannot be had is refused with what was tried', async (t) => {
    const commands = await FetchCommands.start(t);
    commands.registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(goodModule()) }], {
      tags: ['v1'],
    });
    const pin = 'a'.repeat(64);
    for (const [words, fetchCode] of [
      [[commands.url('missing')], 'not_found'],
      [[commands.url('v1'), `--pin=sha256:${pin}`], 'checksum_mismatched'],
      [[`${commands.server.url}/none`], 'not_found'],
    ] as const) {
      const { code, document } = await commands.inspect(...words);
      assert.equal(code, 1);
      assert.equal(document.fetch.kind, 'failed');
      assert.equal(document.fetch.code, fetchCode);
      assert.equal(document.refusals.length, 1);
    }
    assert.deepEqual(await commands.temporaryNames(), []);
  });

  test('takes web URLs, module files and layout folders too', async (t) => {
    const commands = await FetchCommands.start(t);
    const module = goodModule();
    commands.files.set('/plugin.wasm', module);
    const path = join(commands.folder, 'plugin.wasm');
    await writeFile(path, module);
    const layer = await pluginLayer(module);
    const image = commands.registry.image([{ mediaType: ociTarGzip, bytes: layer }]);
    const other = commands.registry.image([{ mediaType: wasmContent, bytes: wasmModule('other') }]);
    const one = join(commands.folder, 'one');
    const two = join(commands.folder, 'two');
    await writeLayout(one, [{ image, name: 'registry.example/acme/plugin:v1' }], [layer, Buffer.from('{}')]);
    await writeLayout(two, [{ image, name: 'v1' }, { image: other }], [layer, wasmModule('other')]);
    for (const [words, from] of [
      [[`${commands.server.url}/plugin.wasm`], `origin ${commands.server.host}`],
      [[path], `file ${path}`],
      [[`file://${path}`], `file ${path}`],
      [[one], `layout ${one}`],
      [[two, '--image=v1'], `layout ${two}`],
      [[two, `--image=sha256:${image.digest}`], `layout ${two}`],
    ] as const) {
      const { code, document } = await commands.inspect(...words);
      assert.equal(code, 0, JSON.stringify(document));
      assert.equal(document.fetch.from, from);
      assert.equal(document.fetch.digests?.['module'], sha256(module));
      assert.equal(document.module?.preflight.abi, '0_2_1');
    }
    const pinned = await commands.inspect(path, `--pin=sha256:${sha256(module)}`);
    assert.equal(pinned.document.fetch.matchedPin, 'module');
    const mispinned = await commands.inspect(path, `--pin=${'a'.repeat(64)}`);
    assert.equal(mispinned.code, 1);
    assert.equal(mispinned.document.fetch.code, 'checksum_mismatched');
    const unpinned = await commands.inspect(one, `--pin=${sha256(layer)}`);
    assert.equal(unpinned.document.fetch.matchedPin, 'layer');
  });

  test('judges by the policy, which is told beside all the rest', async (t) => {
    const commands = await FetchCommands.start(t);
    commands.registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(goodModule()) }], {
      tags: ['v1'],
    });
    const policyOf = async (name: string, ...lines: string[]): Promise<string> => {
      const path = join(commands.folder, name);
      await writeFile(path, ['version: 1', ...lines, ''].join('\n'));
      return `--policy=${path}`;
    };
    const rule = (...more: string[]): string[] => [
      'defaultAction: deny',
      'modules:',
      `  - registry: ${commands.server.host}`,
      '    action: allow',
      ...more,
      'registries:',
      `  "${commands.server.host}":`,
      '    plainHttp: true',
    ];
    const allowed = await commands.inspect(commands.url('v1'), await policyOf('allow.yaml', ...rule()));
    assert.equal(allowed.code, 0, JSON.stringify(allowed.document));
    assert.equal(allowed.document.policy.kind, 'allowed');

    const denied = await commands.inspect(
      commands.url('v1'),
      await policyOf('deny.yaml', 'defaultAction: deny'),
    );
    assert.equal(denied.code, 1);
    assert.match(
      denied.document.policy.reason ?? '',
      /matches no rule and defaultAction in .*deny\.yaml line 2 is deny/,
    );
    assert.equal(denied.document.fetch.kind, 'fetched', 'the rest is told all the same');

    const listed = await commands.inspect(
      commands.url('v1'),
      await policyOf('listed.yaml', ...rule(`    sha256: [${'a'.repeat(64)}]`)),
    );
    assert.equal(listed.code, 1);
    assert.match(listed.document.policy.reason ?? '', /has the digests .* lists others/);

    const small = await policyOf('caps.yaml', 'defaultAction: allow', 'caps:', '  maxModuleBytes: 10');
    assert.equal((await commands.inspect(commands.url('v1'), small)).document.fetch.code, 'too_large');

    const local = join(commands.folder, 'plugin.wasm');
    await writeFile(local, goodModule());
    const file = await commands.inspect(
      local,
      await policyOf('local.yaml', 'defaultAction: allow', 'local:', '  action: deny'),
    );
    assert.equal(file.code, 1);
    assert.match(file.document.policy.reason ?? '', /the local module ".*plugin\.wasm" is denied by local/);

    const faulty = await commands.run([
      'inspect',
      commands.url('v1'),
      await policyOf('faulty.yaml', 'modules: {}'),
    ]);
    assert.equal(faulty.code, 2);
    assert.match(faulty.stderr, /^Error: .*faulty\.yaml:\d+:\d+: /m);
  });

  test('takes credentials from a pull secret or a docker config, and never prints them', async (t) => {
    const commands = await FetchCommands.start(t);
    commands.registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(goodModule()) }], {
      tags: ['v1'],
    });
    commands.registry.auth = { kind: 'basic', username: 'ann', password: 'hunter2' };
    const secret = join(commands.folder, 'secret.json');
    await writeFile(secret, pullSecret(commands.server.host, 'ann', 'hunter2'));
    await mkdir(join(commands.folder, 'docker'));
    await writeFile(
      join(commands.folder, 'docker', 'config.json'),
      pullSecret(commands.server.host, 'ann', 'hunter2'),
    );
    const none = await commands.inspect(commands.url('v1'));
    assert.equal(none.code, 1);
    assert.equal(none.document.fetch.code, 'unauthorized');
    for (const flag of [
      `--pull-secret=${secret}`,
      `--docker-config=${join(commands.folder, 'docker')}`,
      `--docker-config=${secret}`,
    ]) {
      const { code, stdout, stderr } = await commands.inspect(commands.url('v1'), flag);
      assert.equal(code, 0, flag);
      assert.doesNotMatch(stdout + stderr, /hunter2|YW5uOmh1bnRlcjI/);
    }
    const user = commands.url('v1').replace('oci://', 'oci://ann:hunter2@');
    const { stdout, stderr } = await commands.run(['inspect', user]);
    assert.doesNotMatch(stdout + stderr, /hunter2/);
  });

  test('a command line that makes no sense ends with 2 and says what to do', async (t) => {
    const commands = await FetchCommands.start(t);
    await mkdir(join(commands.folder, 'empty'));
    for (const [words, said] of [
      [['inspect'], /missing required argument 'reference'/],
      [['inspect', 'ftp://x/y'], /the scheme of "ftp:\/\/x\/y" is not known: use oci:\/\//],
      [['inspect', 'ghcr.io/acme/jwt:v1'], /for the image write oci:\/\/ghcr\.io\/acme\/jwt:v1/],
      [['inspect', 'oci://x/y', '--pin=md5:1'], /--pin: "md5:1" is no digest; write sha256:/],
      [['inspect', 'oci://x/y', '--timeout=soon'], /--timeout: "soon" is no time span; write it as 30s/],
      [['inspect', 'oci://x/y', '--pull-secret=/nowhere'], /--pull-secret: .*ENOENT.*docker config JSON/],
      [['inspect', 'oci://x/y', '--docker-config=/nowhere'], /--docker-config: .*ENOENT/],
      [['inspect', 'oci://x/y', '--policy=/nowhere'], /nowhere: the file /],
      [['pull', '/some/file.wasm'], /"\/some\/file\.wasm" is no URL of a module/],
      [['pull', '--old', 'oci://x/y'], /unknown option '--old'/],
    ] as const) {
      const { code, stderr } = await commands.run(words);
      assert.match(stderr, said);
      assert.equal(code, 2, words.join(' '));
    }
    const folder = await commands.run(['inspect', join(commands.folder, 'empty')]);
    assert.equal(folder.code, 1);
    assert.match(folder.stderr, /is no OCI image layout: it has no file "oci-layout"/);
  });

  test('sweeps what a killed one has left, and finds room where there is no place for temporary files', async (t) => {
    const commands = await FetchCommands.start(t);
    commands.files.set('/plugin.wasm', goodModule());
    const url = `${commands.server.url}/plugin.wasm`;
    const [old = '', fresh = ''] = ['0', '1'].map((digit) => `.ferry-inspect-1-1-${digit.repeat(16)}.part`);
    for (const name of [old, fresh, 'other'])
      await mkdir(join(commands.temporaryFolder, name, 'blobs'), { recursive: true });
    const hoursAgo = Date.now() / 1_000 - 7_200;
    await utimes(join(commands.temporaryFolder, old), hoursAgo, hoursAgo);
    assert.equal((await commands.inspect(url)).code, 0);
    assert.deepEqual((await commands.temporaryNames()).toSorted(), [fresh, 'other']);

    const nowhere = { TMPDIR: join(commands.folder, 'nowhere') };
    const none = await commands.run(['inspect', url], nowhere);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /no temporary folder can be made: .*ENOENT.*set TMPDIR/);
    await mkdir(commands.dataFolder);
    assert.equal((await commands.run(['inspect', url], nowhere)).code, 0);
    assert.deepEqual(await readdir(commands.dataFolder), []);
  });

  test('ends in time, and leaves nothing when it is interrupted or killed', async (t) => {
    const commands = await FetchCommands.start(t);
    commands.registry.fail('GET /v2/acme/plugin/manifests', () => true);
    const slow = await commands.inspect(commands.url('v1'), '--timeout=300ms');
    assert.equal(slow.code, 1);
    assert.equal(slow.document.fetch.code, 'timeout');
    for (const [name, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      const before = commands.server.count('GET /v2/acme/plugin/manifests');
      const isAsked = async (): Promise<void> => {
        while (commands.server.count('GET /v2/acme/plugin/manifests') === before) {
          await new Promise((resolve) => commands.server.server.once('request', resolve));
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      const ended = await commands.interrupt(['inspect', commands.url('v1')], name, isAsked());
      assert.equal(ended.code, code);
      assert.match(ended.stderr, new RegExp(`^Error: interrupted by ${name}; nothing half-done is left\n$`));
      assert.deepEqual(await commands.temporaryNames(), []);
    }
  });
});
