/**
 * A process of its own that works on a store, for what cannot be tried inside the test's process: a volume that is
 * full or read-only, a file size limit, a kill. Tells its outcome as lines on stdout.
 * Usage: store-process.ts <scenario> <folder> [seed or digest]
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { FileBlobStore, type FileBlobStoreOptions } from '../../cache/blob-store.ts';
import { FileRecordIndex } from '../../cache/record-index.ts';
import { CacheError } from '../../cache/types.ts';
import { CollectedLog, content, ingestBytes, ingestNames, namedFiles } from './store-fixture.ts';

type Outcome = Readonly<Record<string, unknown>>;

const [scenario = '', folder = '', argument = ''] = process.argv.slice(2);

function tell(outcome: Outcome): void {
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}

/** A small tmpfs; it goes away with the mount namespace this process was started in. */
function mountVolume(): void {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'pipe' });
}

async function failure(work: Promise<unknown>): Promise<Outcome> {
  try {
    await work;
    return { code: 'none' };
  } catch (error) {
    if (error instanceof CacheError) return { code: error.code, message: error.message };
    return { code: 'not a CacheError', message: String(error) };
  }
}

async function opened(options: Partial<FileBlobStoreOptions> = {}): Promise<FileBlobStore> {
  return FileBlobStore.open({ folder, ...options });
}

async function fullVolume(): Promise<void> {
  mountVolume();
  const store = await opened({ graceMs: 0 });
  const pinned = await ingestBytes(store, content('pinned', 300_000));
  store.setReferences('owner', [pinned.digest]);
  const idle = await ingestBytes(store, content('idle', 300_000));
  const tooLarge = await failure(ingestBytes(store, content('larger than the volume', 2_000_000)));
  const isIdleGone = (await store.get(idle.digest)) === undefined;
  const isPinnedKept = (await store.get(pinned.digest)) !== undefined;
  const leftCount = (await ingestNames(folder)).length;
  await ingestBytes(store, content('idle again', 500_000));
  // Fits only when the idle one goes.
  const fits = await failure(ingestBytes(store, content('fits', 500_000)));
  await store.close();
  tell({ tooLarge, isIdleGone, isPinnedKept, leftCount, fits, named: await namedFiles(folder) });
}

async function readOnlyVolume(): Promise<void> {
  mountVolume();
  const first = await opened();
  const sound = await ingestBytes(first, content('sound', 1_000));
  const damaged = await ingestBytes(first, content('damaged', 1_000));
  await first.close();
  chmodSync(damaged.path, 0o640);
  truncateSync(damaged.path, 10);
  execFileSync('mount', ['-o', 'remount,bind,ro', folder], { stdio: 'pipe' });

  const log = new CollectedLog();
  const store = await opened({ graceMs: 0, log });
  const isSoundFound = (await store.get(sound.digest)) !== undefined;
  const damagedFound = [await store.get(damaged.digest), await store.get(damaged.digest)];
  const blobCount = store.blobCount;
  const begin = await failure(store.beginIngest({ maxSizeBytes: 1 }));
  const expired = await store.expire(Number.MAX_SAFE_INTEGER);
  const warnings = log.warnings('').map(({ message }) => message);

  // The same store works when the volume does again.
  execFileSync('mount', ['-o', 'remount,bind,rw', folder], { stdio: 'pipe' });
  const healed = await failure(ingestBytes(store, content('damaged', 1_000)));
  const isHealedFound = (await store.get(damaged.digest)) !== undefined;
  await store.close();
  tell({ isSoundFound, damagedFound, blobCount, begin, expired, warnings, healed, isHealedFound });
}

async function readOnlyEmptyVolume(): Promise<void> {
  mountVolume();
  execFileSync('mount', ['-o', 'remount,bind,ro', folder], { stdio: 'pipe' });
  const log = new CollectedLog();
  const store = await opened({ log });
  const begin = await failure(store.beginIngest({ maxSizeBytes: 1 }));
  await store.close();
  tell({ begin, blobCount: store.blobCount, warnings: log.warnings('').map(({ message }) => message) });
}

async function fileSizeLimit(): Promise<void> {
  const store = await opened();
  const failed = await failure(ingestBytes(store, content('over the limit', 200_000)));
  const leftCount = (await ingestNames(folder)).length;
  const small = await failure(ingestBytes(store, content('under the limit', 10_000)));
  await store.close();
  tell({ failed, leftCount, small, named: await namedFiles(folder) });
}

async function unwritableFolder(): Promise<void> {
  const log = new CollectedLog();
  const store = await opened({ log });
  const found = (await store.get(argument)) ?? null;
  const begin = await failure(store.beginIngest({ maxSizeBytes: 1 }));
  await store.close();
  const warnings = log.warnings('').map(({ message }) => message);
  tell({ found, blobCount: store.blobCount, begin, warnings });
}

/** Ingests for ever; each line is one step that is done. Ends by a kill. */
async function ingestForEver(): Promise<void> {
  const store = await opened();
  const lane = async (name: string): Promise<void> => {
    for (let round = 0; ; round += 1) {
      const bytes = content(`${argument}/${name}/${round}`, 1 + ((round * 37_123) % 400_000));
      await using ingest = await store.beginIngest({ maxSizeBytes: bytes.length });
      tell({ step: 'begun' });
      for (let start = 0; start < bytes.length; start += 50_000) {
        await ingest.write(bytes.subarray(start, start + 50_000));
        tell({ step: 'written' });
      }
      const { digest } = await ingest.commit();
      tell({ step: 'committed', digest });
    }
  };
  await Promise.all([lane('a'), lane('b'), lane('c')]);
}

/** Dies with one blob named and one half-written. */
async function killedMidway(): Promise<void> {
  const store = await opened();
  const { digest } = await ingestBytes(store, content('named', 1_000));
  const ingest = await store.beginIngest({ maxSizeBytes: 1_000_000 });
  await ingest.write(content('half', 500_000));
  tell({ step: 'committed', digest });
  process.stdout.write('', () => process.kill(process.pid, 'SIGKILL'));
}

/** Sets records for ever, each line one that is on disk. Ends by a kill. */
async function recordsForEver(): Promise<void> {
  const index = await FileRecordIndex.open({
    path: join(folder, 'records.json'),
    parse: (value) => (typeof value === 'string' ? value : undefined),
    maxEntryCount: 1_000,
    isShared: true,
  });
  for (let round = 0; ; round += 1) {
    const digest = `${argument}/${round}`;
    index.set(digest, 'x'.repeat(10_000));
    await index.flush();
    tell({ step: 'committed', digest });
  }
}

const scenarios: Readonly<Record<string, () => Promise<void>>> = {
  'full-volume': fullVolume,
  'read-only-volume': readOnlyVolume,
  'read-only-empty-volume': readOnlyEmptyVolume,
  'file-size-limit': fileSizeLimit,
  'unwritable-folder': unwritableFolder,
  'ingest-for-ever': ingestForEver,
  'killed-midway': killedMidway,
  'records-for-ever': recordsForEver,
};

const run = scenarios[scenario];
if (run === undefined) throw new Error(`no scenario ${scenario}`);
await run();
