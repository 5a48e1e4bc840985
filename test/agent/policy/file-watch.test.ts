import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FileWatch, type FileWatchOptions } from '../../../agent/policy/file-watch.ts';
import { createKeptLog } from './kept-log.ts';
import { createPolicyFolder } from './policy-fixture.ts';

/** A watch whose signals can be waited for. */
function createWatch(options: Partial<FileWatchOptions> = {}): {
  readonly watch: FileWatch;
  readonly next: () => Promise<void>;
} {
  let waiting: (() => void) | undefined;
  const watch = new FileWatch({
    log: createKeptLog().log,
    onSignal: () => waiting?.(),
    debounceMs: 1,
    pollIntervalMs: 3_600_000,
    ...options,
  });
  return {
    watch,
    async next() {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting = resolve;
      await promise;
    },
  };
}

describe('a watch on files', () => {
  test('tells which call brings new files, so that they are read again', async () => {
    await using folder = await createPolicyFolder();
    const { watch } = createWatch();
    const other = join(folder.path, 'ca.pem');
    assert.deepEqual(
      [
        await watch.set([folder.file]),
        await watch.set([folder.file]),
        await watch.set([folder.file, other]),
        await watch.set([other]),
      ],
      [true, false, true, false],
    );
    await watch.close();
  });

  test('tells of files that come, change and go', async () => {
    await using folder = await createPolicyFolder();
    const { watch, next } = createWatch();
    await watch.set([folder.file]);
    for (const change of [
      () => writeFile(folder.file, '1'),
      () => writeFile(folder.file, '2'),
      () => rename(folder.file, join(folder.path, 'away')),
    ]) {
      const signal = next();
      await change();
      await signal;
    }
    await watch.close();
  });

  test('finds a folder that is not there yet', async () => {
    await using folder = await createPolicyFolder();
    const { watch, next } = createWatch({ pollIntervalMs: 5 });
    await watch.set([join(folder.path, 'later/ca.pem')]);
    const signal = next();
    await folder.write('later/ca.pem', 'x');
    await signal;
    await watch.close();
  });

  test('is silent after its end', async () => {
    await using folder = await createPolicyFolder();
    const { watch } = createWatch({ onSignal: () => assert.fail('told of a change') });
    await watch.set([folder.file]);
    await watch.close();
    await watch.close();
    await writeFile(folder.file, '1');
    await watch.set([folder.file]);
    await watch.close();
  });
});
