import assert from 'node:assert/strict';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { Blob } from '../../../cache/types.ts';
import { content } from '../../cache/store-fixture.ts';
import { CacheFixture, startPage } from './cache-fixture.ts';
import { runCommand } from './command-process.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

async function damage({ path }: Blob): Promise<void> {
  await chmod(path, 0o640);
  await writeFile(path, 'other bytes');
}

describe('cache ls', () => {
  test('tells size, age, users and names, the least recently used first', async (t) => {
    const cache = await CacheFixture.make(t);
    const old = await cache.keep(content('old', 2_048), 3 * dayMs);
    const used = await cache.keep(content('used', 10), 1.5 * hourMs);
    const secret = await cache.keep(content('secret', 10), 10.5 * 60_000);
    await cache.writeKept({
      'extensions.istio.io/trafficextension/shop.jwt~istio-translated-wasmplugin': used,
    });
    await cache.writeRecords([
      { blob: used, repository: 'registry.example/acme/jwt', tag: 'v1' },
      { blob: secret, repository: 'registry.example/acme/secret', tag: 'v2', readers: ['somebody'] },
    ]);
    const { code, stdout, stderr } = await cache.run('ls');
    assert.equal(stderr, '');
    assert.equal(code, 0);
    const cell = (blob: Blob): string => blob.digest.slice(0, 12);
    assert.equal(
      stdout,
      `${cache.folder}: 3 modules, 2.0 KiB

MODULE        SIZE     LAST USED  IN USE BY          NAME
${cell(old)}  2.0 KiB  3d ago     -                  -
${cell(used)}  10 B     1h ago     kept for shop.jwt  oci://registry.example/acme/jwt:v1
${cell(secret)}  10 B     10m ago    -                  oci://registry.example/acme/secret:v2 (private)
`,
    );
  });

  test('gives all of it as JSON, with what the agent and Envoy use', async (t) => {
    const cache = await CacheFixture.make(t);
    const offered = await cache.keep(content('offered', 10), dayMs);
    const running = await cache.keep(content('running', 10));
    const agent = await startPage(t, 200, JSON.stringify({ plugins: [{ digest: offered.digest }] }));
    const envoy = await startPage(t, 200, JSON.stringify({ filename: running.path }));
    const { code, stdout } = await cache.run(
      'ls',
      '--json',
      `--status-port=${agent}`,
      `--admin-port=${envoy}`,
    );
    assert.equal(code, 0);
    const document = JSON.parse(stdout) as { totalBytes: number; modules: Record<string, unknown>[] };
    assert.equal(document.totalBytes, 20);
    assert.deepEqual(
      document.modules.map(({ digest, pinnedBy }) => ({ digest, pinnedBy })),
      [
        { digest: offered.digest, pinnedBy: ['agent'] },
        { digest: running.digest, pinnedBy: ['Envoy'] },
      ],
    );
  });

  test('says where there is no cache, and changes nothing where there is one', async (t) => {
    const none = await CacheFixture.make(t);
    const missing = await none.run('ls');
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /^Error: there is no module cache in .*--data-folder\n$/);
    await assert.rejects(stat(none.folder), { code: 'ENOENT' });

    const cache = await CacheFixture.make(t);
    const blob = await cache.keep(content('one', 10), dayMs);
    await damage(blob);
    await cache.writeIndex('modules.json', 'torn');
    const orphan = await cache.leaveOrphan();
    for (const words of [['ls'], ['verify'], ['gc', '--dry-run']]) await cache.run(...words);
    assert.deepEqual(await cache.moduleNames(), [blob.digest]);
    assert.equal(await readFile(join(cache.folder, 'modules.json'), 'utf8'), 'torn');
    assert.equal(await readFile(orphan, 'utf8'), 'half');
  });

  test('a command line that makes no sense ends with 2', async (t) => {
    const cache = await CacheFixture.make(t);
    for (const [words, said] of [
      [['ls', '--status-port=x'], /--status-port: "x" is no port/],
      [['ls', '--old'], /unknown option '--old'/],
      [['gc', '--unused-for', 'soon'], /--unused-for: "soon" is no time span/],
      [['gc', '--unused-for', '1m'], /less than 15m/],
      [['export'], /missing required argument 'folder'/],
      [['nonsense'], /unknown command 'nonsense'/],
    ] as const) {
      const { code, stderr } = await cache.run(...words);
      assert.match(stderr, said);
      assert.equal(code, 2, words.join(' '));
    }
    assert.equal((await runCommand(['cache', '--help'])).code, 0);
  });
});

describe('cache verify', () => {
  test('a sound cache is fine', async (t) => {
    const cache = await CacheFixture.make(t);
    const blob = await cache.keep(content('sound', 300_000));
    await cache.writeKept({ plugin: blob });
    const { code, stdout } = await cache.run('verify');
    assert.equal(stdout, `${cache.folder}: 1 module, 293 KiB hashed: all are whole\n`);
    assert.equal(code, 0);
  });

  test('names everything that is broken, and --repair makes it good', async (t) => {
    const cache = await CacheFixture.make(t);
    const sound = await cache.keep(content('sound', 100));
    const damaged = await cache.keep(content('damaged', 100));
    await damage(damaged);
    await cache.writeIndex('modules.json', '{"version":1,"records":[["a",{"dig');
    const orphan = await cache.leaveOrphan();
    const seen = await cache.run('verify', '--json');
    assert.equal(seen.code, 1);
    const document = JSON.parse(seen.stdout) as { faults: { kind: string; path: string; repair?: string }[] };
    const expected = [
      { kind: 'damaged-module', path: damaged.path },
      { kind: 'damaged-index', path: join(cache.folder, 'modules.json') },
      { kind: 'orphan', path: orphan },
    ];
    assert.deepEqual(
      document.faults.map(({ kind, path }) => ({ kind, path })),
      expected,
    );
    const repaired = await cache.run('verify', '--repair');
    assert.equal(repaired.code, 0, repaired.stdout);
    assert.match(repaired.stdout, /3 faults, 3 repaired/);
    assert.deepEqual(await cache.moduleNames(), [sound.digest]);
    assert.match(await readFile(join(cache.folder, 'modules.json.corrupt'), 'utf8'), /"dig$/);
    assert.deepEqual(await readdir(dirname(orphan)), []);
    assert.equal((await cache.run('verify')).code, 0);
  });

  test('a module that a restart would need and that is gone is a fault that only a download repairs', async (t) => {
    const cache = await CacheFixture.make(t);
    const blob = await cache.keep(content('gone', 10));
    await cache.keep(content('there', 10));
    await cache.writeKept({ 'shop.jwt': blob });
    await damage(blob);
    const { code, stdout } = await cache.run('verify', '--repair');
    assert.match(stdout, new RegExp(`damaged-module  ${blob.path}\n.*\n.*deleted; it is fetched again`));
    assert.equal(code, 0);
    const again = await cache.run('verify');
    assert.match(again.stdout, /missing-module .*\n {2}it is not there, but kept for shop\.jwt/);
    assert.equal(again.code, 1);
  });
});

describe('cache gc', () => {
  test('deletes what nobody needs, and what is damaged, and nothing else', async (t) => {
    const cache = await CacheFixture.make(t);
    const blobs = {
      unused: await cache.keep(content('unused', 1_000), 2 * dayMs),
      recent: await cache.keep(content('recent', 1_000), 20 * hourMs),
      kept: await cache.keep(content('kept', 1_000), 2 * dayMs),
      offered: await cache.keep(content('offered', 1_000), 2 * dayMs),
      running: await cache.keep(content('running', 1_000), 2 * dayMs),
      damaged: await cache.keep(content('damaged', 1_000)),
    };
    await damage(blobs.damaged);
    await cache.writeKept({ 'shop.jwt': blobs.kept, 'shop.broken': blobs.damaged });
    await cache.writeRecords([{ blob: blobs.unused, repository: 'registry.example/unused', tag: 'v1' }]);
    const orphan = await cache.leaveOrphan();
    const agent = await startPage(t, 200, JSON.stringify({ plugins: [{ digest: blobs.offered.digest }] }));
    const envoy = await startPage(t, 200, JSON.stringify({ filename: blobs.running.path }));
    const ports = [`--status-port=${agent}`, `--admin-port=${envoy}`];

    const planned = await cache.run('gc', '--dry-run', ...ports);
    assert.match(planned.stdout, /would delete 2 of 6 modules, 1011 B, 1 half-written file/);
    assert.equal((await cache.moduleNames()).length, 6);

    const { code, stdout } = await cache.run('gc', ...ports);
    assert.equal(code, 0);
    assert.match(stdout, /deleted 2 of 6 modules/);
    assert.match(stdout, /deleted {2}\w{12} {2}unused for 2d {2}oci:\/\/registry\.example\/unused:v1/);
    const left = [blobs.recent, blobs.kept, blobs.offered, blobs.running].map(({ digest }) => digest).sort();
    assert.deepEqual(await cache.moduleNames(), left);
    await assert.rejects(stat(orphan), { code: 'ENOENT' });
    assert.doesNotMatch(await readFile(join(cache.folder, 'modules.json'), 'utf8'), /unused/);

    const sooner = await cache.run('gc', '--unused-for=1h', '--json', ...ports);
    const document = JSON.parse(sooner.stdout) as { modules: { digest: string; kind: string }[] };
    assert.deepEqual(
      document.modules.filter(({ kind }) => kind === 'deleted').map(({ digest }) => digest),
      [blobs.recent.digest],
    );
  });

  test('deletes nothing where it cannot learn what is in use', async (t) => {
    const cache = await CacheFixture.make(t);
    const blob = await cache.keep(content('unused', 10), 2 * dayMs);
    const broken = await startPage(t, 500, 'no');
    const asked = await cache.run('gc', `--status-port=${broken}`);
    assert.equal(asked.code, 1);
    assert.match(
      asked.stderr,
      /nothing was deleted.*the agent at port \d+ cannot be asked: .*status 500.*--status-port=0/,
    );
    await cache.writeIndex('last-known-good.json', 'torn');
    const torn = await cache.run('gc');
    assert.equal(torn.code, 1);
    assert.match(torn.stderr, /nothing was deleted.*last-known-good\.json is damaged: it is not JSON/);
    assert.deepEqual(await cache.moduleNames(), [blob.digest]);
  });

  test('what answers as another program is told, and keeps nothing', async (t) => {
    const cache = await CacheFixture.make(t);
    await cache.keep(content('unused', 10), 2 * dayMs);
    const stock = await startPage(t, 404, 'page not found');
    const { code, stdout } = await cache.run('gc', `--status-port=${stock}`);
    assert.equal(code, 0);
    assert.match(stdout, /what answers at port \d+ is no agent of this kind \(status 404\)/);
    assert.deepEqual(await cache.moduleNames(), []);
  });

  test('what was used a moment ago stays, whatever is asked', async (t) => {
    const cache = await CacheFixture.make(t);
    const blob = await cache.keep(content('just pulled', 10), 14 * 60_000);
    await cache.run('gc', '--unused-for=15m');
    assert.deepEqual(await cache.moduleNames(), [blob.digest]);
  });
});

test('commands on the cache leave no file of their own behind', async (t) => {
  const cache = await CacheFixture.make(t);
  await cache.keep(content('one', 10), 2 * dayMs);
  for (const words of [['ls'], ['verify'], ['gc']]) await cache.run(...words);
  assert.deepEqual((await readdir(cache.folder)).sort(), ['blobs', 'ingest']);
  assert.deepEqual(await readdir(join(cache.folder, 'ingest')), []);
});
