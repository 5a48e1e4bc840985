import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FileBlobStore } from '../../../cache/blob-store.ts';
import { content, ingestBytes, sha256 } from '../../cache/store-fixture.ts';
import { FetchFixture } from '../fetch/fetch-fixture.ts';
import { ociTarGzip, pullSecret, wasmContent } from '../fetch/image-registry.ts';
import { pluginLayer, wasmHeader } from '../fetch/module-bytes.ts';
import { FetchCommands, goodModule } from './wasm-fetch-fixture.ts';

async function push(commands: FetchCommands): Promise<void> {
  const bytes = await pluginLayer(goodModule());
  commands.registry.image([{ mediaType: ociTarGzip, bytes }], { tags: ['v1'] });
}

describe('wasm pull', () => {
  test('puts a module where an agent that runs on the folder finds it', async (t) => {
    const commands = await FetchCommands.start(t);
    await push(commands);
    await using agent = await FetchFixture.over(commands.dataFolder, { recordsName: 'modules.json' });
    const { code, stdout, stderr } = await commands.pull(commands.url('v1'));
    assert.equal(code, 0, stderr);
    assert.equal(stderr, `fetching ${commands.url('v1')}\n`);
    const { length } = goodModule();
    assert.match(
      stdout,
      new RegExp(
        `^${commands.url('v1')}: ${length} B in \\d+\\.\\d s, from origin 127\\.0\\.0\\.1:\\d+\n` +
          `  module sha256:${sha256(goodModule())}\n  ${commands.dataFolder}/blobs/sha256/`,
      ),
    );
    const requestCount = commands.server.requests.length;
    const found = await agent.fetch(commands.url('v1'));
    assert.equal(found.source, 'cache');
    assert.equal(commands.server.requests.length, requestCount);

    const again = await commands.pull(commands.url('v1'), '--json');
    const document = JSON.parse(again.stdout) as Record<string, unknown>;
    assert.equal(document['isNew'], false);
    assert.equal(document['digest'], sha256(goodModule()));
  });

  test('asks anew what a tag names', async (t) => {
    const commands = await FetchCommands.start(t);
    await push(commands);
    await commands.pull(commands.url('v1'));
    const newer = Buffer.concat([goodModule(), Buffer.of(0, 2, 1, 0x78)]);
    const bytes = await pluginLayer(newer);
    commands.registry.image([{ mediaType: ociTarGzip, bytes }], { tags: ['v1'] });
    const { stdout } = await commands.pull(commands.url('v1'));
    assert.match(stdout, new RegExp(sha256(newer)));
    assert.equal((await readdir(join(commands.dataFolder, 'blobs', 'sha256'))).length, 2);
  });

  test('notes who has read a private module', async (t) => {
    const commands = await FetchCommands.start(t);
    await push(commands);
    commands.registry.auth = { kind: 'basic', username: 'ann', password: 'hunter2' };
    const secret = pullSecret(commands.server.host, 'ann', 'hunter2');
    const file = join(commands.folder, 'secret.json');
    await writeFile(file, secret);
    const { code, stdout, stderr } = await commands.pull(commands.url('v1'), `--pull-secret=${file}`);
    assert.equal(code, 0, stderr);
    const stored = await readFile(join(commands.dataFolder, 'modules.json'), 'utf8');
    assert.doesNotMatch(stdout + stderr + stored, /hunter2|YW5uOmh1bnRlcjI/);
    await using agent = await FetchFixture.over(commands.dataFolder, { recordsName: 'modules.json' });
    const requestCount = commands.server.requests.length;
    assert.equal((await agent.fetch(commands.url('v1'), { pullSecret: secret })).source, 'cache');
    assert.equal(commands.server.requests.length, requestCount);
    await assert.rejects(agent.fetch(commands.url('v1')), { code: 'unauthorized' });
  });

  test('pulls nothing that policy, pin or preflight refuse', async (t) => {
    const commands = await FetchCommands.start(t);
    await push(commands);
    commands.registry.image([{ mediaType: wasmContent, bytes: wasmHeader }], { tags: ['bad'] });
    const policy = join(commands.folder, 'policy.yaml');
    await writeFile(policy, 'version: 1\ndefaultAction: deny\n');
    for (const [words, said] of [
      [
        [commands.url('v1'), `--policy=${policy}`],
        /nothing was pulled: refused by policy: .*policy\.yaml line 2 is deny/,
      ],
      [[commands.url('v1'), `--pin=${'a'.repeat(64)}`], /nothing was pulled: .*does not match/],
      [[commands.url('bad')], /Envoy could not run the module .*\(no_abi_export\)/],
      [[commands.url('none')], /nothing was pulled: .*404/],
    ] as const) {
      const { code, stdout, stderr } = await commands.pull(...words);
      assert.equal(code, 1, words.join(' '));
      assert.match(stderr, said);
      assert.equal(stdout, '');
    }
  });

  test('the variable of the agent names the policy where no flag does', async (t) => {
    const commands = await FetchCommands.start(t);
    await push(commands);
    const policy = join(commands.folder, 'policy.yaml');
    await writeFile(policy, 'version: 1\ndefaultAction: deny\n');
    const { code } = await commands.run(['pull', commands.url('v1')], { WASM_POLICY_FILE: policy });
    assert.equal(code, 1);
    assert.equal(commands.server.requests.length, 0);
  });

  test('makes no room by deleting what may be in use', async (t) => {
    const commands = await FetchCommands.start(t);
    await push(commands);
    const store = await FileBlobStore.open({ folder: commands.dataFolder });
    const used = await ingestBytes(store, content('in use', 1_000));
    await store.close();
    const policy = join(commands.folder, 'policy.yaml');
    await writeFile(policy, 'version: 1\ndefaultAction: allow\ncaps:\n  quotaBytes: 1100\n');
    const { code, stderr } = await commands.pull(commands.url('v1'), `--policy=${policy}`);
    assert.equal(code, 1);
    assert.match(stderr, /the quota is 1100 and no unused module is left to delete/);
    assert.deepEqual(await readdir(join(commands.dataFolder, 'blobs', 'sha256')), [used.digest]);
  });

  test('leaves no half-written file when it is interrupted', async (t) => {
    const commands = await FetchCommands.start(t);
    const layer = content('layer', 100_000);
    commands.registry.image([{ mediaType: wasmContent, bytes: layer }], { tags: ['v1'] });
    const begun = Promise.withResolvers<void>();
    commands.registry.fail('GET /v2/acme/plugin/blobs', (_, response) => {
      response.writeHead(200, { 'content-length': layer.byteLength });
      response.write(layer.subarray(0, 50_000), () => begun.resolve());
      return true;
    });
    const words = ['pull', '--data-folder', commands.dataFolder, commands.url('v1')];
    const { code, stderr } = await commands.interrupt(words, 'SIGINT', begun.promise);
    assert.equal(code, 130);
    assert.match(stderr, /^Error: interrupted by SIGINT; nothing half-done is left$/m);
    assert.deepEqual(await readdir(join(commands.dataFolder, 'ingest')), []);
    assert.deepEqual(await readdir(join(commands.dataFolder, 'blobs', 'sha256')), []);
  });

  test('a folder that cannot be one is told', async (t) => {
    const commands = await FetchCommands.start(t);
    await push(commands);
    const path = join(commands.folder, 'file');
    await writeFile(path, '');
    const { code, stderr } = await commands.run(['pull', '--data-folder', path, commands.url('v1')]);
    assert.equal(code, 1);
    assert.match(stderr, /file/);
  });
});
