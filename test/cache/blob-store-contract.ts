import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { StoreClock } from '../../cache/blob-store.ts';
import type { BlobStore } from '../../cache/types.ts';
import { temporaryFolder } from '../support/test-end.ts';
import { content, failsWith, ingestBytes, ManualClock, sha256 } from './store-fixture.ts';

export interface StoreOpening {
  readonly folder: string;
  readonly clock: StoreClock;
  readonly graceMs: number;
}

const graceMs = 60_000;

/** What every BlobStore must do, whatever it is made of. `open` twice on one folder is a restart. */
export function blobStoreContract(name: string, open: (opening: StoreOpening) => Promise<BlobStore>): void {
  const started = async (
    t: TestContext,
  ): Promise<{ store: BlobStore; clock: ManualClock; folder: string }> => {
    const clock = new ManualClock();
    const folder = await temporaryFolder(t);
    const store = await open({ folder, clock, graceMs });
    t.after(() => store.close());
    return { store, clock, folder };
  };

  describe(`${name} keeps the contract of a blob store`, () => {
    test('what was written in chunks is found whole under its digest', async (t) => {
      const { store } = await started(t);
      const bytes = content('whole', 300_001);
      await using ingest = await store.beginIngest({ maxSizeBytes: bytes.length });
      assert.equal(ingest.sizeBytes, 0);
      await ingest.write(bytes.subarray(0, 1));
      await ingest.write(bytes.subarray(1, 200_000));
      await ingest.write(bytes.subarray(200_000));
      assert.equal(ingest.sizeBytes, bytes.length);
      assert.equal(ingest.digest, sha256(bytes));
      assert.equal(store.blobCount, 0);
      assert.equal(await store.get(sha256(bytes)), undefined);

      const blob = await ingest.commit();
      assert.deepEqual({ ...blob, path: '' }, { digest: sha256(bytes), sizeBytes: bytes.length, path: '' });
      assert.ok(isAbsolute(blob.path));
      assert.deepEqual(await readFile(blob.path), bytes);
      assert.deepEqual(await store.get(blob.digest), blob);
      assert.equal(store.blobCount, 1);
    });

    test('a blob that is known to be good is at hand, and nothing else', async (t) => {
      const { store, clock, folder } = await started(t);
      const blob = await ingestBytes(store, content('at hand', 1_000));
      assert.deepEqual(store.atHand(blob.digest), blob);
      assert.equal(store.atHand('b'.repeat(64)), undefined);
      assert.equal(store.atHand('no digest'), undefined);
      await store.close();
      assert.equal(store.atHand(blob.digest), undefined);
      const next = await open({ folder, clock, graceMs });
      t.after(() => next.close());
      assert.equal(next.atHand(blob.digest), undefined, 'it is not verified yet');
      assert.deepEqual(await next.get(blob.digest), blob);
      assert.deepEqual(next.atHand(blob.digest), blob);
    });

    test('content of no bytes is content', async (t) => {
      const { store } = await started(t);
      await using ingest = await store.beginIngest({ maxSizeBytes: 0 });
      await ingest.write(new Uint8Array());
      const blob = await ingest.commit(sha256(new Uint8Array()));
      assert.equal(blob.sizeBytes, 0);
      assert.deepEqual(await store.get(blob.digest), blob);
    });

    test('bytes of another digest than expected get no name, and both digests are told', async (t) => {
      const { store } = await started(t);
      const bytes = content('mismatch', 1_000);
      const expected = sha256(content('other', 1_000));
      const ingest = await store.beginIngest({ maxSizeBytes: 1_000 });
      await ingest.write(bytes);
      const error = await failsWith('digest_mismatch', ingest.commit(expected));
      assert.match(error.message, new RegExp(expected));
      assert.match(error.message, new RegExp(sha256(bytes)));
      assert.equal(store.blobCount, 0);
      assert.equal(await store.get(expected), undefined);
      assert.equal(await store.get(sha256(bytes)), undefined);
      await failsWith('digest_mismatch', ingest.commit());
      await ingest.abort();
    });

    test('one byte over the cap fails before it is kept', async (t) => {
      const { store } = await started(t);
      const bytes = content('cap', 1_001);
      const ingest = await store.beginIngest({ maxSizeBytes: 1_000 });
      await ingest.write(bytes.subarray(0, 1_000));
      const error = await failsWith('too_large', ingest.write(bytes.subarray(1_000)));
      assert.match(error.message, /1000/);
      await failsWith('too_large', ingest.commit());
      assert.equal(store.blobCount, 0);
    });

    test('an ingest that is given up leaves nothing, and giving up twice or after commit is safe', async (t) => {
      const { store } = await started(t);
      const bytes = content('given up', 5_000);
      const ingest = await store.beginIngest({ maxSizeBytes: 5_000 });
      await ingest.write(bytes);
      await ingest.abort();
      await ingest.abort();
      await failsWith('aborted', ingest.write(bytes));
      await failsWith('aborted', ingest.commit());
      assert.equal(store.blobCount, 0);

      const committed = await store.beginIngest({ maxSizeBytes: 5_000 });
      await committed.write(bytes);
      const blob = await committed.commit();
      await committed.abort();
      assert.deepEqual(await store.get(blob.digest), blob);
    });

    test('a signal ends an ingest before, between and during its calls', async (t) => {
      const { store } = await started(t);
      const bytes = content('signal', 3_000_000);
      const reason = new Error('the caller left');

      await failsWith(
        'aborted',
        store.beginIngest({ maxSizeBytes: 1, signal: AbortSignal.abort(reason) }).then(() => undefined),
      );

      const between = new AbortController();
      const idle = await store.beginIngest({ maxSizeBytes: bytes.length, signal: between.signal });
      await idle.write(bytes);
      between.abort(reason);
      const error = await failsWith('aborted', idle.commit());
      assert.equal(error.cause, reason);

      const during = new AbortController();
      const busy = await store.beginIngest({ maxSizeBytes: bytes.length, signal: during.signal });
      const write = busy.write(bytes);
      during.abort(reason);
      await failsWith('aborted', write);
      assert.equal(store.blobCount, 0);
    });

    test('two ingests of the same content both succeed and one blob stays', async (t) => {
      const { store } = await started(t);
      const bytes = content('twice', 500_000);
      const blobs = await Promise.all([ingestBytes(store, bytes), ingestBytes(store, bytes, 1_000)]);
      assert.deepEqual(blobs[0], blobs[1]);
      assert.deepEqual(await ingestBytes(store, bytes), blobs[0]);
      assert.equal(store.blobCount, 1);
      assert.deepEqual(await readFile(blobs[0].path), bytes);
    });

    test('a second call before the first has ended is refused and spoils the ingest', async (t) => {
      const { store } = await started(t);
      const bytes = content('overlap', 2_000_000);
      const ingest = await store.beginIngest({ maxSizeBytes: 2 * bytes.length });
      const first = ingest.write(bytes);
      const second = ingest.write(bytes);
      const outcomes = await Promise.all([failsWith('io', first), failsWith('io', second)]);
      assert.match(outcomes[1].message, /await each call/);
      await failsWith('io', ingest.commit());
      assert.equal(store.blobCount, 0);
    });

    test('text that is no digest names nothing', async (t) => {
      const { store } = await started(t);
      const blob = await ingestBytes(store, content('named', 10));
      const { digest } = blob;
      for (const text of ['', '..', `../sha256/${digest}`, `sha256:${digest}`, digest.toUpperCase()]) {
        assert.equal(await store.get(text), undefined, text);
      }
      assert.deepEqual(await store.get(digest), blob);
      assert.equal(store.blobCount, 1);
    });

    test('a blob outlives a restart', async (t) => {
      const { store, clock, folder } = await started(t);
      const bytes = content('restart', 100_000);
      const blob = await ingestBytes(store, bytes);
      await store.close();
      const again = await open({ folder, clock, graceMs });
      t.after(() => again.close());
      assert.equal(again.blobCount, 1);
      assert.deepEqual(await again.get(blob.digest), blob);
    });

    test('a file that was deleted behind its back is absent and can come again', async (t) => {
      const { store } = await started(t);
      const bytes = content('deleted', 1_000);
      const blob = await ingestBytes(store, bytes);
      await rm(blob.path, { force: true });
      assert.equal(await store.get(blob.digest), undefined);
      assert.equal(store.blobCount, 0);
      assert.deepEqual(await ingestBytes(store, bytes), blob);
      assert.deepEqual(await readFile(blob.path), bytes);
    });

    test('expiry deletes what was not used since, and only that', async (t) => {
      const { store, clock } = await started(t);
      const old = await ingestBytes(store, content('old', 10));
      const used = await ingestBytes(store, content('used', 10));
      clock.advance(graceMs);
      await store.get(used.digest);
      clock.advance(graceMs);
      assert.deepEqual(await store.expire(clock.epochMs() - graceMs), [old.digest]);
      assert.equal(await store.get(old.digest), undefined);
      assert.deepEqual(await store.get(used.digest), used);
      assert.deepEqual(await store.expire(clock.epochMs() - graceMs), []);
    });

    test('what was just handed out does not expire, by commit as by get', async (t) => {
      const { store, clock } = await started(t);
      const { digest } = await ingestBytes(store, content('grace', 10));
      const everything = Number.MAX_SAFE_INTEGER;
      clock.advance(graceMs - 1);
      assert.deepEqual(await store.expire(everything), []);
      await store.get(digest);
      clock.advance(graceMs - 1);
      assert.deepEqual(await store.expire(everything), []);
      clock.advance(1);
      assert.deepEqual(await store.expire(everything), [digest]);
    });

    test('a reference of any owner pins, and only the last release unpins', async (t) => {
      const { store, clock } = await started(t);
      const { digest } = await ingestBytes(store, content('pinned', 10));
      const other = await ingestBytes(store, content('other', 10));
      const everything = Number.MAX_SAFE_INTEGER;
      store.setReferences('first', [digest, 'f'.repeat(64)]);
      store.setReferences('second', [digest]);
      clock.advance(graceMs);
      assert.deepEqual(await store.expire(everything), [other.digest]);
      store.setReferences('first', []);
      assert.deepEqual(await store.expire(everything), []);
      store.setReferences('second', [other.digest]);
      assert.deepEqual(await store.expire(everything), [digest]);
      assert.equal(store.blobCount, 0);
    });

    test('being referenced is use: the time counts from the release', async (t) => {
      const { store, clock } = await started(t);
      const { digest } = await ingestBytes(store, content('released', 10));
      store.setReferences('owner', [digest]);
      clock.advance(10 * graceMs);
      store.setReferences('owner', []);
      clock.advance(graceMs);
      assert.deepEqual(await store.expire(clock.epochMs() - graceMs), []);
      assert.deepEqual(await store.expire(clock.epochMs() - graceMs + 1), [digest]);
    });

    test('a missing file counts as expired, also when it is referenced', async (t) => {
      const { store } = await started(t);
      const blob = await ingestBytes(store, content('missing', 10));
      store.setReferences('owner', [blob.digest]);
      await rm(blob.path, { force: true });
      assert.deepEqual(await store.expire(0), [blob.digest]);
      assert.equal(store.blobCount, 0);
    });

    test('closing gives up open ingests, and nothing works afterwards', async (t) => {
      const { store } = await started(t);
      const bytes = content('closing', 2_000_000);
      const { digest } = await ingestBytes(store, content('kept', 10));
      const idle = await store.beginIngest({ maxSizeBytes: bytes.length });
      const busy = await store.beginIngest({ maxSizeBytes: bytes.length });
      const write = busy.write(bytes);
      const closed = store.close();
      await failsWith('aborted', write);
      await closed;
      await store.close();
      await failsWith('aborted', idle.commit());
      await failsWith('aborted', store.get(digest));
      await failsWith('aborted', store.expire(0));
      await failsWith(
        'aborted',
        store.beginIngest({ maxSizeBytes: 1 }).then(() => undefined),
      );
    });
  });
}
