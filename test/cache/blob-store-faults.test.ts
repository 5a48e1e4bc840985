import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, type TestContext, test } from 'node:test';
import { FileBlobStore } from '../../cache/blob-store.ts';
import { readRecordFile } from '../../cache/record-file.ts';
import { FileRecordIndex } from '../../cache/record-index.ts';
import { temporaryFolder } from '../support/test-end.ts';
import { CollectedLog, content, ingestBytes, ingestNames, namedFiles } from './store-fixture.ts';

const storeProcess = join(import.meta.dirname, 'store-process.ts');
const isRoot = process.getuid?.() === 0;

/** A mount namespace of one's own: what is mounted in it goes away with its process. */
const unshare = ['unshare', '--mount', ...(isRoot ? [] : ['--map-root-user'])];

function mountObstacle(): string | false {
  const probe = spawnSync(unshare[0] ?? '', [...unshare.slice(1), 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']);
  if (probe.status === 0) return false;
  return `this machine lets us mount no volume of our own: ${probe.error?.message ?? probe.stderr.toString().trim()}`;
}

const skipMount = mountObstacle();

/** Root writes into any folder, whatever its mode: then it has to be somebody else. */
const otherUser = isRoot ? { uid: 65_534, gid: 65_534 } : {};

function otherUserObstacle(): string | false {
  const script = 'require("node:fs").accessSync(process.argv[1])';
  const probe = spawnSync(process.execPath, ['-e', script, storeProcess], otherUser);
  if (probe.status === 0) return false;
  return `an ordinary user cannot read these files: ${probe.error?.message ?? probe.stderr.toString().trim()}`;
}

const skipOther = otherUserObstacle();

function outcomeOf(
  command: readonly string[],
  user: { uid?: number; gid?: number } = {},
): Record<string, unknown> {
  const [file = '', ...args] = command;
  const child = spawnSync(file, args, { encoding: 'utf8', ...user });
  assert.equal(child.status, 0, child.stderr);
  return JSON.parse(child.stdout);
}

function assertFailure(seen: unknown, expected: { readonly code: string; readonly message: RegExp }): void {
  assert.ok(typeof seen === 'object' && seen !== null && 'code' in seen && 'message' in seen, String(seen));
  assert.equal(seen.code, expected.code, String(seen.message));
  assert.match(String(seen.message), expected.message);
}

describe('a full volume', () => {
  test('fails the ingest, says what to do, and keeps what is needed', { skip: skipMount }, async (t) => {
    const folder = join(await temporaryFolder(t), 'volume');
    const seen = outcomeOf([...unshare, process.execPath, storeProcess, 'full-volume', folder]);
    assertFailure(seen.tooLarge, {
      code: 'no_space',
      message: /write .*volume\/ingest\/.*ENOSPC.*free space/,
    });
    assert.equal(seen.leftCount, 0);
    assert.equal(seen.isPinnedKept, true);
    assert.equal(seen.isIdleGone, true);
    assert.deepEqual(seen.fits, { code: 'none' });
    const named = seen.named as { name: string; digest: string }[];
    assert.equal(named.length, 2);
    for (const { name, digest } of named) assert.equal(name, digest);
  });

  test('a limit on file sizes fails the ingest the same way', async (t) => {
    const folder = await temporaryFolder(t);
    // Blocks of 512 bytes.
    const script = 'ulimit -f 200 && exec "$0" "$@"';
    const seen = outcomeOf(['sh', '-c', script, process.execPath, storeProcess, 'file-size-limit', folder]);
    assertFailure(seen.failed, { code: 'no_space', message: /EFBIG.*ulimit -f/ });
    assert.equal(seen.leftCount, 0);
    assert.deepEqual(seen.small, { code: 'none' });
    assert.equal((seen.named as unknown[]).length, 1);
  });
});

describe('a volume that cannot be written', () => {
  test('serves what it has, refuses ingests, and works again when it can be written', {
    skip: skipMount,
  }, async (t) => {
    const folder = join(await temporaryFolder(t), 'volume');
    const seen = outcomeOf([...unshare, process.execPath, storeProcess, 'read-only-volume', folder]);
    assert.equal(seen.isSoundFound, true);
    assert.deepEqual(seen.damagedFound, [null, null]);
    assert.equal(seen.blobCount, 1);
    assertFailure(seen.begin, { code: 'read_only', message: /ingest.*EROFS.*writable volume/ });
    assert.deepEqual(seen.expired, []);
    const warnings = seen.warnings as string[];
    assert.equal(
      warnings.filter((line) => line.includes('damaged')).length,
      1,
      'hashed once, not at each get',
    );
    assert.ok(warnings.some((line) => line.includes('cannot be deleted')));
    assert.deepEqual(seen.healed, { code: 'none' });
    assert.equal(seen.isHealedFound, true);
  });

  test('opens empty when it never had anything', { skip: skipMount }, async (t) => {
    const folder = join(await temporaryFolder(t), 'volume');
    const seen = outcomeOf([...unshare, process.execPath, storeProcess, 'read-only-empty-volume', folder]);
    assert.equal(seen.blobCount, 0);
    assertFailure(seen.begin, { code: 'read_only', message: /EROFS.*writable volume/ });
    assert.ok((seen.warnings as string[]).includes('the module cache cannot be written'));
  });

  test('by owner or mode, says so, and files it cannot read count as absent', {
    skip: skipOther,
  }, async (t) => {
    const folder = await temporaryFolder(t);
    const store = await FileBlobStore.open({ folder });
    const { digest, path } = await ingestBytes(store, content('unreadable', 10));
    await store.close();
    await chmod(path, 0);
    const folders = [folder, dirname(dirname(path)), dirname(path), join(folder, 'ingest')];
    for (const each of folders) await chmod(each, 0o555);
    let seen: Record<string, unknown>;
    try {
      seen = outcomeOf([process.execPath, storeProcess, 'unwritable-folder', folder, digest], otherUser);
    } finally {
      for (const each of folders) await chmod(each, 0o750);
    }
    assert.equal(seen.found, null);
    assert.equal(seen.blobCount, 1);
    assertFailure(seen.begin, { code: 'read_only', message: /EACCES.*owner and mode/ });
    assert.deepEqual(seen.warnings, ['a cached module cannot be read, it counts as absent']);
  });
});

/** Runs the scenario and kills it after so many lines; resolves with the digests it has told as committed. */
async function killedRun(
  scenario: string,
  folder: string,
  seed: number,
  lineCount: number,
): Promise<Set<string>> {
  const child = spawn(process.execPath, [storeProcess, scenario, folder, `${seed}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const committed = new Set<string>();
  let left = lineCount;
  for await (const line of createInterface({ input: child.stdout })) {
    const told: { step: string; digest?: string } = JSON.parse(line);
    if (told.digest !== undefined) committed.add(told.digest);
    left -= 1;
    if (left === 0) child.kill('SIGKILL');
  }
  const [, signal] = await exited;
  assert.equal(signal, 'SIGKILL');
  return committed;
}

async function assertRecovers(t: TestContext, folder: string, committed: ReadonlySet<string>): Promise<void> {
  const named = await namedFiles(folder);
  for (const { name, digest } of named) assert.equal(name, digest, 'a named file is whole');
  const names = new Set(named.map(({ name }) => name));
  for (const digest of committed) assert.ok(names.has(digest), 'what was told as committed is there');
  const log = new CollectedLog();
  const store = await FileBlobStore.open({ folder, log });
  t.after(() => store.close());
  assert.deepEqual(await ingestNames(folder), []);
  for (const digest of names) assert.notEqual(await store.get(digest), undefined);
  assert.deepEqual(log.warnings(''), []);
  await store.close();
}

describe('a killed process', () => {
  test('leaves its half-written file to the sweep and its named file whole', async (t) => {
    const folder = await temporaryFolder(t);
    const committed = await killedRun('killed-midway', folder, 0, Number.POSITIVE_INFINITY);
    assert.equal(committed.size, 1);
    assert.equal((await readdir(join(folder, 'ingest'))).length, 1);
    await assertRecovers(t, folder, committed);
  });

  test('at any point leaves no half-named blob, and loses none that was committed', async (t) => {
    const folder = await temporaryFolder(t);
    const all = new Set<string>();
    for (const [seed, lineCount] of [1, 2, 7, 19, 34, 53, 90, 141].entries()) {
      for (const digest of await killedRun('ingest-for-ever', folder, seed, lineCount)) all.add(digest);
      await assertRecovers(t, folder, all);
    }
    assert.ok(all.size > 5, `${all.size} blobs were committed`);
  });

  test('leaves its record index whole, with all that was told as written', async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'records.json');
    const all = new Set<string>();
    for (const [seed, lineCount] of [1, 3, 8, 21].entries()) {
      for (const key of await killedRun('records-for-ever', folder, seed, lineCount)) all.add(key);
      const file = await readRecordFile(path);
      assert.equal(file.kind, 'read');
      const keys = new Set(file.kind === 'read' ? file.records.map(([key]) => key) : []);
      assert.deepEqual(
        [...all].filter((key) => !keys.has(key)),
        [],
      );
    }
    const index = await FileRecordIndex.open({ path, parse: String, maxEntryCount: 1_000 });
    await index.close();
    assert.deepEqual(await readdir(folder), ['records.json'], 'what was half-written is swept');
  });
});
