import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { imageNames } from '../../../agent/cli/cache-export.ts';
import { content } from '../../cache/store-fixture.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { FetchFixture } from '../fetch/fetch-fixture.ts';
import { sha256, wasmModule } from '../fetch/module-bytes.ts';
import { CacheFixture } from './cache-fixture.ts';

/** Why the real program cannot be asked here; false when it can. */
function missingSkopeo(): string | false {
  try {
    execFileSync('skopeo', ['--version'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'skopeo is not installed (Debian package of the same name)';
  }
}

const skopeo = { skip: missingSkopeo() };
const run = promisify(execFile);

describe('cache export', () => {
  test('writes a layout that the agent takes modules from, under their names', async (t) => {
    const cache = await CacheFixture.make(t);
    const bytes = wasmModule('exported');
    const blob = await cache.keep(bytes);
    await cache.writeRecords([{ blob, repository: 'registry.example/acme/jwt', tag: 'v1' }]);
    const folder = join(await temporaryFolder(t), 'made', 'layout');
    const { code, stdout, stderr } = await cache.run('export', folder);
    assert.equal(code, 0, stderr);
    assert.match(stdout, new RegExp(`^${folder}: 1 image\noci:${folder}:registry.example/acme/jwt:v1\n`));
    assert.deepEqual(await readdir(join(folder, '..')), ['layout'], 'nothing else is left beside it');
    assert.equal((await stat(folder)).mode & 0o777, 0o755);

    const layouts = [{ path: folder, timeoutMs: 5_000 }];
    await using fixture = await FetchFixture.open({
      settings: { module: () => ({ layouts, mirrors: [] }) },
    });
    const fetched = await fixture.fetch('oci://registry.example/acme/jwt:v1', { sha256: blob.digest });
    assert.equal(fetched.source, 'layout');
    assert.equal(fetched.matchedPin, 'module');
    assert.deepEqual(await readFile(fetched.path), bytes);
  });

  test('the same modules give the same bytes', async (t) => {
    const cache = await CacheFixture.make(t);
    await cache.keep(content('module', 300_000));
    const parent = await temporaryFolder(t);
    const indexes: string[] = [];
    for (const name of ['one', 'two']) {
      await cache.run('export', join(parent, name));
      indexes.push(await readFile(join(parent, name, 'index.json'), 'utf8'));
    }
    assert.equal(indexes[0], indexes[1]);
  });

  test('skopeo inspects and copies what it wrote', skopeo, async (t) => {
    const cache = await CacheFixture.make(t);
    const blobs = [await cache.keep(wasmModule('one')), await cache.keep(content('two', 3_000_000))];
    const [one, two] = blobs;
    assert.ok(one !== undefined && two !== undefined);
    await cache.writeRecords([
      { blob: one, repository: 'registry.example:5000/acme/one', tag: 'v1' },
      { blob: two, repository: 'registry.example:5000/acme/two', tag: 'v2' },
    ]);
    const parent = await temporaryFolder(t);
    const folder = join(parent, 'layout');
    const exported = await cache.run('export', folder, '--json');
    const { images } = JSON.parse(exported.stdout) as {
      images: { names: string[]; manifest: string; module: string }[];
    };
    assert.deepEqual(
      images.map(({ names }) => names),
      [['registry.example:5000/acme/one:v1'], ['registry.example:5000/acme/two:v2']],
    );
    for (const { names, manifest } of images) {
      const source = `oci:${folder}:${names[0]}`;
      const inspected = JSON.parse((await run('skopeo', ['inspect', source])).stdout) as Record<
        string,
        unknown
      >;
      assert.equal(inspected['Digest'], `sha256:${manifest}`);
      assert.equal((inspected['Layers'] as string[]).length, 1);
      const copied = join(parent, manifest);
      await run('skopeo', ['copy', '--quiet', source, `dir:${copied}`]);
      assert.equal(sha256(await readFile(join(copied, 'manifest.json'))), manifest);
    }
  });

  test('takes the modules that are asked for, by name and by the beginning of any digest', async (t) => {
    const cache = await CacheFixture.make(t);
    const one = await cache.keep(content('one', 10));
    const two = await cache.keep(content('two', 10));
    await cache.keep(content('three', 10));
    await cache.writeRecords([{ blob: one, repository: 'registry.example/one', tag: 'v1' }]);
    const parent = await temporaryFolder(t);
    const wanted = ['oci://registry.example/one:v1', two.digest.slice(0, 12), `sha256:${two.digest}`];
    const { stdout } = await cache.run('export', join(parent, 'some'), ...wanted, '--json');
    const { images } = JSON.parse(stdout) as { images: { module: string; names: string[] }[] };
    assert.deepEqual(
      images.map(({ module }) => module),
      [one.digest, two.digest],
    );
    assert.deepEqual(images[1]?.names, [`module:${two.digest}`]);
    const unknown = await cache.run('export', join(parent, 'none'), 'oci://registry.example/other:v1');
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /has the name or digest "oci:\/\/registry\.example\/other:v1"/);
    assert.deepEqual(await readdir(parent), ['some']);
  });

  test('a module that is damaged is not exported, and nothing is left', async (t) => {
    const cache = await CacheFixture.make(t);
    await cache.keep(content('sound', 10));
    const { path } = await cache.keep(content('damaged', 10));
    await chmod(path, 0o640);
    await writeFile(path, 'ten bytes!');
    const parent = await temporaryFolder(t);
    const { code, stderr } = await cache.run('export', join(parent, 'layout'));
    assert.equal(code, 1);
    assert.match(stderr, /nothing was exported: the bytes of .* have sha256:.*cache verify --repair/);
    assert.deepEqual(await readdir(parent), []);
  });

  test('a folder that holds something is left as it is', async (t) => {
    const cache = await CacheFixture.make(t);
    await cache.keep(content('one', 10));
    const parent = await temporaryFolder(t);
    await mkdir(join(parent, 'empty'));
    assert.equal((await cache.run('export', join(parent, 'empty'))).code, 0);
    const before = (await readdir(join(parent, 'empty'))).sort();
    for (const target of [join(parent, 'empty'), join(parent, 'empty', 'index.json')]) {
      const { code, stderr } = await cache.run('export', target);
      assert.equal(code, 2);
      assert.match(stderr, /cannot export to .*name a folder that is not there yet/);
    }
    assert.deepEqual((await readdir(join(parent, 'empty'))).sort(), before);
  });

  test('gives names that containers/image takes', () => {
    const digest = 'c'.repeat(64);
    const cases: readonly (readonly [string, readonly string[]])[] = [
      ['oci://registry.example:5000/acme/jwt:v1', ['registry.example:5000/acme/jwt:v1']],
      ['oci://acme/jwt:v1', ['index.docker.io/acme/jwt:v1']],
      ['oci://registry.example/acme/jwt', ['registry.example/acme/jwt:cccccccccccc']],
      ['https://modules.example:8443/a%20b/geo.wasm', ['modules.example-8443/a-20b/geo.wasm:cccccccccccc']],
      ['http://[::1]/geo.wasm', []],
    ];
    for (const [name, expected] of cases) {
      assert.deepEqual(imageNames({ digest, names: [name] }), expected, name);
    }
  });
});
