import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmod,
  mkdir,
  open as openFile,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import * as fc from 'fast-check';
import { FileBlobStore, type FileBlobStoreOptions } from '../../cache/blob-store.ts';
import { type Blob, CacheError } from '../../cache/types.ts';
import { temporaryFolder } from '../support/test-end.ts';
import { blobStoreContract } from './blob-store-contract.ts';
import {
  CollectedLog,
  content,
  failsWith,
  ingestBytes,
  ingestNames,
  ManualClock,
  namedFiles,
  sha256,
} from './store-fixture.ts';

blobStoreContract('FileBlobStore', (opening) => FileBlobStore.open(opening));
blobStoreContract('FileBlobStore with a quota', (opening) =>
  FileBlobStore.open({ ...opening, maxTotalBytes: () => 64_000_000 }),
);

/** As on a volume of the network: nothing is at hand, and all can be had. */
test('a blob of a folder that may hang is never at hand', async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openStore(t, { folder, isLocal: () => Promise.resolve(false) });
  const blob = await ingestBytes(store, content('far', 8));
  assert.equal(store.atHand(blob.digest), undefined);
  assert.deepEqual(await store.get(blob.digest), blob);
  assert.equal(store.atHand(blob.digest), undefined);
});

async function openStore(t: TestContext, options: FileBlobStoreOptions): Promise<FileBlobStore> {
  const store = await FileBlobStore.open(options);
  t.after(() => store.close());
  return store;
}

/** A closed store with one blob, as an earlier run leaves it. */
async function leftBlob(folder: string, bytes: Uint8Array): Promise<Blob> {
  const store = await FileBlobStore.open({ folder });
  const blob = await ingestBytes(store, bytes);
  await store.close();
  return blob;
}

/** Bytes this process has read from anything (proc(5), `/proc/<pid>/io`). */
async function readBytes(): Promise<number> {
  return Number(/^rchar: (\d+)/.exec(await readFile('/proc/self/io', 'utf8'))?.[1]);
}

async function cut(path: string, sizeBytes: number): Promise<void> {
  await chmod(path, 0o640);
  await truncate(path, sizeBytes);
}

async function overwrite(path: string, bytes: Uint8Array): Promise<void> {
  await chmod(path, 0o640);
  const file = await openFile(path, 'r+');
  await file.write(bytes, 0, bytes.length, 0);
  await file.close();
}

const needsProc =
  process.platform === 'linux' ? false : 'what a process reads and has open is told by /proc only';

describe('the files of a store', () => {
  test('blobs are read-only files, folders are closed to others, ingest files are private', async (t) => {
    const folder = join(await temporaryFolder(t), 'made', 'here');
    const store = await openStore(t, { folder });
    const ingest = await store.beginIngest({ maxSizeBytes: 10 });
    const names = await ingestNames(folder);
    assert.equal(names.length, 1);
    assert.equal((await stat(join(folder, 'ingest', names[0] ?? ''))).mode & 0o777, 0o600);
    const blob = await ingest.commit();
    assert.equal(blob.path, join(folder, 'blobs', 'sha256', blob.digest));
    assert.equal((await stat(blob.path)).mode & 0o777, 0o440);
    for (const path of [
      folder,
      join(folder, 'blobs'),
      join(folder, 'blobs/sha256'),
      join(folder, 'ingest'),
    ]) {
      assert.equal((await stat(path)).mode & 0o027, 0, path);
    }
    assert.deepEqual(await ingestNames(folder), []);
  });

  test('close leaves no file open, however many blobs were committed at once', {
    skip: needsProc,
  }, async (t) => {
    const folder = await temporaryFolder(t);
    const store = await openStore(t, { folder });
    await Promise.all(Array.from({ length: 60 }, (_, seed) => ingestBytes(store, content(`${seed}`, 3_000))));
    await store.close();
    const open: string[] = [];
    for (const name of await readdir('/proc/self/fd')) {
      const target = await readlink(`/proc/self/fd/${name}`).catch(() => '');
      if (target.startsWith(folder)) open.push(target);
    }
    assert.deepEqual(open, []);
    assert.equal(store.blobCount, 60);
    assert.ok((await namedFiles(folder)).every(({ name, digest }) => name === digest));
  });

  test('a blob is at hand only while its file is the one that was verified', async (t) => {
    const folder = await temporaryFolder(t);
    const store = await openStore(t, { folder });
    const [cutOne, goneOne] = [
      await ingestBytes(store, content('cut', 1_000)),
      await ingestBytes(store, content('gone', 1_000)),
    ];
    for (const { digest } of [cutOne, goneOne]) assert.notEqual(store.atHand(digest), undefined);
    await cut(cutOne.path, 999);
    await rm(goneOne.path);
    for (const { digest } of [cutOne, goneOne]) assert.equal(store.atHand(digest), undefined);
    assert.equal(await store.get(cutOne.digest), undefined);
    assert.equal(await store.get(goneOne.digest), undefined);
  });

  test('folders that vanish while a store runs are made again', async (t) => {
    const folder = await temporaryFolder(t);
    const store = await openStore(t, { folder });
    await rm(join(folder, 'ingest'), { recursive: true });
    const bytes = content('again', 1_000);
    const ingest = await store.beginIngest({ maxSizeBytes: bytes.length });
    await ingest.write(bytes);
    await rm(join(folder, 'blobs'), { recursive: true });
    const blob = await ingest.commit();
    assert.deepEqual(await store.get(sha256(bytes)), blob);
  });

  test('links in place of the own folders are refused with the path and what to do', async (t) => {
    for (const name of ['blobs', 'ingest']) {
      const folder = await temporaryFolder(t);
      const elsewhere = await temporaryFolder(t);
      await symlink(elsewhere, join(folder, name));
      const error = await failsWith('io', FileBlobStore.open({ folder }));
      assert.match(error.message, new RegExp(`${join(folder, name)}.*remove it`));
      assert.deepEqual(await readdir(elsewhere), []);
    }
  });

  test('a file in place of the cache folder is an error, not a warning', async (t) => {
    const path = join(await temporaryFolder(t), 'file');
    await writeFile(path, '');
    assert.match((await failsWith('io', FileBlobStore.open({ folder: path }))).message, new RegExp(path));
  });

  test('links and odd names among the blobs are left alone and never handed out', async (t) => {
    const folder = await temporaryFolder(t);
    const secret = content('outside', 100);
    const outside = join(await temporaryFolder(t), 'outside');
    await writeFile(outside, secret);
    const blobs = join(folder, 'blobs', 'sha256');
    await mkdir(blobs, { recursive: true });
    await symlink(outside, join(blobs, sha256(secret)));
    await symlink('/nowhere', join(blobs, 'b'.repeat(64)));
    await mkdir(join(blobs, 'c'.repeat(64)));
    await writeFile(join(blobs, 'notes.txt'), 'mine');
    await writeFile(join(blobs, 'D'.repeat(64)), 'upper case');
    const log = new CollectedLog();
    const store = await openStore(t, { folder, log, graceMs: 0 });
    assert.equal(store.blobCount, 0);
    assert.equal(log.warnings('names that are not modules')[0]?.fields.strangerCount, 5);
    assert.equal(await store.get(sha256(secret)), undefined);
    assert.equal(await store.get('c'.repeat(64)), undefined);
    assert.deepEqual(await store.expire(Number.MAX_SAFE_INTEGER), []);
    assert.equal((await readdir(blobs)).length, 5);

    const blob = await ingestBytes(store, secret);
    assert.ok(!(await readlink(blob.path).catch(() => undefined)), 'the link was replaced by the file');
    assert.deepEqual(await readFile(outside), secret);
  });

  test('a folder in place of a blob makes the commit fail and leaves nothing half-done', async (t) => {
    const folder = await temporaryFolder(t);
    const store = await openStore(t, { folder });
    const bytes = content('in the way', 100);
    await mkdir(join(folder, 'blobs', 'sha256', sha256(bytes), 'full'), { recursive: true });
    const error = await failsWith('io', ingestBytes(store, bytes));
    assert.match(error.message, /remove it/);
    assert.deepEqual(await ingestNames(folder), []);
    assert.equal(store.blobCount, 0);
  });
});

describe('a restart', () => {
  test('does not read the blobs, the first get reads one once for all, later gets do not', {
    skip: needsProc,
  }, async (t) => {
    const sizeBytes = 8_000_000;
    const folder = await temporaryFolder(t);
    const blob = await leftBlob(folder, content('read once', sizeBytes));
    const steps: number[] = [await readBytes()];
    const store = await openStore(t, { folder });
    assert.equal(store.blobCount, 1);
    steps.push(await readBytes());
    const blobs = await Promise.all(Array.from({ length: 10 }, () => store.get(blob.digest)));
    assert.ok(blobs.every((found) => found?.path === blob.path));
    steps.push(await readBytes());
    for (let count = 0; count < 10; count += 1) assert.deepEqual(await store.get(blob.digest), blob);
    steps.push(await readBytes());
    const [onOpen = 0, onFirst = 0, onLater = 0] = steps
      .slice(1)
      .map((total, step) => total - (steps[step] ?? 0));
    assert.ok(onOpen < sizeBytes / 2, `open read ${onOpen}`);
    assert.ok(onFirst >= sizeBytes && onFirst < 1.5 * sizeBytes, `the first gets read ${onFirst}`);
    assert.ok(onLater < sizeBytes / 2, `later gets read ${onLater}`);
  });

  test('a blob of this process is not read again', { skip: needsProc }, async (t) => {
    const store = await openStore(t, { folder: await temporaryFolder(t) });
    const bytes = content('own', 8_000_000);
    const { digest } = await ingestBytes(store, bytes);
    const before = await readBytes();
    assert.notEqual(await store.get(digest), undefined);
    assert.ok((await readBytes()) - before < bytes.length / 2);
  });

  const damages: readonly { readonly name: string; readonly damage: (path: string) => Promise<void> }[] = [
    { name: 'truncated', damage: async (path) => cut(path, 4_000) },
    { name: 'emptied', damage: async (path) => cut(path, 0) },
    {
      name: 'altered',
      damage: async (path) => {
        const before = await stat(path, { bigint: true });
        await overwrite(path, Buffer.from('altered'));
        // Files are stamped in steps of a few milliseconds on some kernels: until the next step nobody could tell.
        do await utimes(path, Number(before.atimeMs) / 1000, Number(before.mtimeMs) / 1000);
        while ((await stat(path, { bigint: true })).ctimeNs === before.ctimeNs);
      },
    },
    {
      name: 'replaced',
      damage: async (path) => {
        await writeFile(`${path}.new`, content('replaced', 10_000));
        await rename(`${path}.new`, path);
      },
    },
  ];
  for (const { name, damage } of damages) {
    for (const when of ['before a restart', 'while the store runs'] as const) {
      test(`a file ${name} ${when} is deleted, reported absent and can come again`, async (t) => {
        const folder = await temporaryFolder(t);
        const log = new CollectedLog();
        const bytes = content('sound', 10_000);
        let blob: Blob;
        let store: FileBlobStore;
        if (when === 'before a restart') {
          blob = await leftBlob(folder, bytes);
          await damage(blob.path);
          store = await openStore(t, { folder, log });
        } else {
          store = await openStore(t, { folder, log });
          blob = await ingestBytes(store, bytes);
          // A whole number of seconds: the damage can put it back exactly.
          await utimes(blob.path, 1, 1);
          assert.deepEqual(await store.get(blob.digest), blob);
          await damage(blob.path);
        }
        const found = await Promise.all([store.get(blob.digest), store.get(blob.digest)]);
        assert.deepEqual(found, [undefined, undefined]);
        const warnings = log.warnings('damaged');
        assert.equal(warnings.length, 1);
        assert.equal(warnings[0]?.fields.path, blob.path);
        assert.deepEqual(await namedFiles(folder), []);
        assert.equal(store.blobCount, 0);
        assert.deepEqual(await ingestBytes(store, bytes), blob);
        assert.deepEqual(await store.get(blob.digest), blob);
      });
    }
  }

  test('a file that only changed its times is hashed again and kept', async (t) => {
    const folder = await temporaryFolder(t);
    const store = await openStore(t, { folder });
    const blob = await ingestBytes(store, content('touched', 1_000));
    await utimes(blob.path, 1, 1);
    assert.deepEqual(await store.get(blob.digest), blob);
  });

  test('goes on with the last use of the earlier run', async (t) => {
    const folder = await temporaryFolder(t);
    const clock = new ManualClock();
    const hourMs = 3_600_000;
    const first = await FileBlobStore.open({ folder, clock });
    const idle = await ingestBytes(first, content('idle', 10));
    const used = await ingestBytes(first, content('used', 10));
    clock.advance(10 * hourMs);
    await first.get(used.digest);
    await first.close();
    clock.advance(20 * hourMs);
    const second = await openStore(t, { folder, clock });
    assert.deepEqual(
      second.list().map(({ digest }) => digest),
      [idle.digest, used.digest],
    );
    assert.deepEqual(await second.expire(clock.epochMs() - 24 * hourMs), [idle.digest]);
    assert.deepEqual(await second.get(used.digest), used);
  });

  test('a use time in the future does not keep a blob for ever', async (t) => {
    const folder = await temporaryFolder(t);
    const blob = await leftBlob(folder, content('future', 10));
    await utimes(blob.path, 9_999_999_999, 9_999_999_999);
    const clock = new ManualClock();
    const store = await openStore(t, { folder, clock });
    clock.advance(1);
    assert.deepEqual(await store.expire(clock.epochMs()), [blob.digest]);
  });

  test('sweeps the ingest files of dead runs only', { skip: needsProc }, async (t) => {
    const folder = await temporaryFolder(t);
    const running = await openStore(t, { folder });
    const bytes = content('running', 1_000);
    const ingest = await running.beginIngest({ maxSizeBytes: bytes.length });
    await ingest.write(bytes);
    const [live = ''] = await ingestNames(folder);

    const dead = await new Promise<number>((resolve, reject) => {
      const child = execFile(process.execPath, ['--version'], (error) => {
        if (error === null) resolve(child.pid ?? 0);
        else reject(error);
      });
    });
    const random = '0123456789abcdef';
    // The second has our pid and another start: what a restarted container sees of its dead run.
    const orphans = [`${dead}-12345-${random}.part`, `${process.pid}-1-${random}.part`];
    const strangers = ['notes.txt', `${dead}-12345-${random}.part.bak`];
    for (const name of [...orphans, ...strangers]) await writeFile(join(folder, 'ingest', name), 'half');
    const target = join(await temporaryFolder(t), 'target');
    await writeFile(target, 'mine');
    const link = `${dead}-67890-${random}.part`;
    await symlink(target, join(folder, 'ingest', link));

    const log = new CollectedLog();
    await openStore(t, { folder, log });
    assert.deepEqual([...(await ingestNames(folder))].sort(), [live, link, ...strangers].sort());
    assert.equal(log.lines.find(({ message }) => message.includes('swept'))?.fields.orphanCount, 2);
    assert.equal(await readFile(target, 'utf8'), 'mine');
    assert.equal((await ingest.commit()).digest, sha256(bytes));
  });

  test('sweeps files of runs it cannot see only when nobody has written to them for long', {
    skip: needsProc,
  }, async (t) => {
    const folder = await temporaryFolder(t);
    await (await FileBlobStore.open({ folder })).close();
    const names = ['0', '1'].map((digit) => `${process.pid}-1-${digit.repeat(16)}.part`);
    for (const name of names) await writeFile(join(folder, 'ingest', name), '');
    const hourAgo = Date.now() / 1_000 - 3_600;
    await utimes(join(folder, 'ingest', names[0] ?? ''), hourAgo, hourAgo);
    await openStore(t, { folder, orphanAgeMs: 1_800_000 });
    assert.deepEqual(await ingestNames(folder), names.slice(1));
  });

  test('a blob that another process has put there is found', async (t) => {
    const folder = await temporaryFolder(t);
    const store = await openStore(t, { folder });
    const blob = await leftBlob(folder, content('from elsewhere', 1_000));
    assert.deepEqual(await store.get(blob.digest), blob);
    assert.equal(store.blobCount, 1);
  });
});

describe('the quota', () => {
  test('the least recently used blobs that nobody needs make room', async (t) => {
    const folder = await temporaryFolder(t);
    const clock = new ManualClock();
    const store = await openStore(t, { folder, clock, graceMs: 1_000, maxTotalBytes: 1_000 });
    const blobs: Blob[] = [];
    for (const seed of ['pinned', 'older', 'newer']) {
      blobs.push(await ingestBytes(store, content(seed, 300)));
      clock.advance(1_000);
    }
    const [pinned, older, newer] = blobs;
    assert.ok(pinned !== undefined && older !== undefined && newer !== undefined);
    store.setReferences('owner', [pinned.digest]);
    const incoming = await ingestBytes(store, content('incoming', 400));
    assert.equal(await store.get(older.digest), undefined);
    for (const kept of [pinned, newer, incoming]) assert.deepEqual(await store.get(kept.digest), kept);
  });

  test('when everything is needed the ingest fails and nothing is lost', async (t) => {
    const folder = await temporaryFolder(t);
    const store = await openStore(t, { folder, graceMs: 0, maxTotalBytes: 1_000 });
    const pinned = await ingestBytes(store, content('pinned', 700));
    store.setReferences('owner', [pinned.digest]);
    const error = await failsWith('no_space', ingestBytes(store, content('too much', 400)));
    assert.match(error.message, /1100 bytes.*quota is 1000.*raise/);
    assert.deepEqual(await store.get(pinned.digest), pinned);
    assert.deepEqual(await ingestNames(folder), []);
    await ingestBytes(store, content('fits', 300));
  });

  test('what it deletes is told, and what is kept and coming in is counted', async (t) => {
    const evicted: string[] = [];
    const store = await openStore(t, {
      folder: await temporaryFolder(t),
      graceMs: 0,
      maxTotalBytes: 1_000,
      onEvicted: (digest) => evicted.push(digest),
    });
    assert.equal(store.limitBytes, 1_000);
    const first = await ingestBytes(store, content('first', 600));
    const ingest = await store.beginIngest({ maxSizeBytes: 300 });
    await ingest.write(content('second', 300));
    assert.equal(store.totalBytes, 900);
    await ingest.commit();
    assert.deepEqual(evicted, []);
    await ingestBytes(store, content('third', 200));
    assert.deepEqual(evicted, [first.digest]);
    assert.equal(store.totalBytes, 500);
  });

  test('a quota that was lowered is made true by the next purge, but for what is referenced', async (t) => {
    const evicted: string[] = [];
    const quota: { bytes: number | undefined } = { bytes: undefined };
    const clock = new ManualClock();
    const store = await openStore(t, {
      folder: await temporaryFolder(t),
      clock,
      graceMs: 1_000,
      maxTotalBytes: () => quota.bytes,
      onEvicted: (digest) => evicted.push(digest),
    });
    const blobs: Blob[] = [];
    for (const seed of ['pinned', 'older', 'newer', 'fresh']) {
      clock.advance(1_000);
      blobs.push(await ingestBytes(store, content(seed, 300)));
    }
    const [pinned, older, newer, fresh] = blobs;
    assert.ok(pinned !== undefined && older !== undefined && newer !== undefined && fresh !== undefined);
    store.setReferences('owner', [pinned.digest]);
    assert.equal(store.limitBytes, undefined);
    assert.deepEqual(await store.expire(0), []);
    quota.bytes = 700;
    assert.deepEqual(await store.expire(0), [], 'what makes room is no expiry');
    assert.deepEqual(evicted, [older.digest, newer.digest]);
    quota.bytes = 100;
    await store.expire(0);
    assert.deepEqual(
      evicted,
      [older.digest, newer.digest],
      'neither what is referenced nor what is in grace',
    );
    assert.deepEqual(await store.get(pinned.digest), pinned);
  });

  test('ingests at the same time count together', async (t) => {
    const store = await openStore(t, { folder: await temporaryFolder(t), maxTotalBytes: 1_000 });
    const first = await store.beginIngest({ maxSizeBytes: 1_000 });
    const second = await store.beginIngest({ maxSizeBytes: 1_000 });
    await first.write(content('first', 600));
    await failsWith('no_space', second.write(content('second', 600)));
    await first.commit();
  });
});

test('however ingests are cut short, what has a name is whole and nothing else is left', async (t) => {
  const folder = await temporaryFolder(t);
  const log = new CollectedLog();
  const store = await openStore(t, { folder, log });
  const chunks = Array.from({ length: 5 }, (_, seed) => content(`${seed}`, 300_000));
  const plan = fc.record({
    chunks: fc.array(fc.constantFrom(...chunks), { maxLength: 4 }),
    stopAt: fc.integer({ min: 0, max: 5 }),
    how: fc.constantFrom('signal', 'abort'),
    isDuringCall: fc.boolean(),
  });
  type Plan = typeof plan extends fc.Arbitrary<infer Value> ? Value : never;
  const run = async ({ chunks, stopAt, how, isDuringCall }: Plan): Promise<void> => {
    const controller = new AbortController();
    const ingest = await store.beginIngest({ maxSizeBytes: 2_000_000, signal: controller.signal });
    const stop = async (): Promise<void> => (how === 'signal' ? controller.abort() : ingest.abort());
    const calls = [...chunks.map((chunk) => () => ingest.write(chunk)), () => ingest.commit()];
    for (const [position, call] of calls.entries()) {
      if (position === stopAt && !isDuringCall) await stop();
      const work = call();
      const stopped = position === stopAt && isDuringCall ? stop() : undefined;
      try {
        await work;
      } catch (error) {
        assert.ok(
          error instanceof CacheError && error.code === 'aborted' && position >= stopAt,
          String(error),
        );
      }
      await stopped;
    }
    await ingest.abort();
  };
  await fc.assert(
    fc.asyncProperty(fc.array(plan, { minLength: 1, maxLength: 4 }), async (plans) => {
      await Promise.all(plans.map(run));
      assert.deepEqual(await ingestNames(folder), []);
      for (const { name, digest } of await namedFiles(folder)) {
        assert.equal(name, digest);
        assert.notEqual(await store.get(digest), undefined);
        await rm(join(folder, 'blobs', 'sha256', name));
      }
    }),
    { numRuns: 40, seed: 7, interruptAfterTimeLimit: 5_000 },
  );
  assert.deepEqual(log.warnings(''), []);
});
