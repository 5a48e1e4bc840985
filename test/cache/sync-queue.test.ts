import assert from 'node:assert/strict';
import { type FileHandle, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SyncQueue } from '../../cache/sync-queue.ts';
import { temporaryFolder } from '../support/test-end.ts';

describe('the sync queue', () => {
  test('syncs and closes what it is given, and idle waits for it', async (t) => {
    const folder = await temporaryFolder(t);
    const queue = new SyncQueue(folder);
    const handles: FileHandle[] = [];
    for (let count = 0; count < 40; count += 1) {
      const handle = await open(join(folder, `${count}`), 'w');
      handles.push(handle);
      await queue.add(handle, (error) => assert.fail(String(error)));
    }
    await queue.idle();
    for (const handle of handles) await assert.rejects(handle.stat(), { code: 'EBADF' });
    await queue.idle();
  });

  test('tells the owner of a file that it is not durable, and goes on with the others', async (t) => {
    const folder = await temporaryFolder(t);
    const queue = new SyncQueue(folder);
    const failed = new Map<string, unknown>();
    const broken = await open(join(folder, 'broken'), 'w');
    await broken.close();
    const sound = await open(join(folder, 'sound'), 'w');
    await queue.add(broken, (error) => failed.set('broken', error));
    await queue.add(sound, (error) => failed.set('sound', error));
    await queue.idle();
    assert.deepEqual([...failed.keys()], ['broken']);
    await assert.rejects(sound.stat(), { code: 'EBADF' });
  });

  test('a folder that cannot be synced fails the files in it', async (t) => {
    const parent = await temporaryFolder(t);
    const queue = new SyncQueue(join(parent, 'gone'));
    await writeFile(join(parent, 'file'), '');
    const handle = await open(join(parent, 'file'), 'r+');
    await rm(join(parent, 'file'));
    const failures: unknown[] = [];
    await queue.add(handle, (error) => failures.push(error));
    await queue.idle();
    assert.equal(failures.length, 1);
    assert.equal((failures[0] as NodeJS.ErrnoException).code, 'ENOENT');
  });
});
