import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { isOnLocalDisk } from '../../cache/local-disk.ts';
import { temporaryFolder } from '../support/test-end.ts';

test('memory is local; what the kernel or somebody else answers is not known to be', async () => {
  assert.equal(await isOnLocalDisk('/dev/shm'), true);
  assert.equal(await isOnLocalDisk('/proc'), false);
  assert.equal(await isOnLocalDisk('/sys/kernel'), false);
});

test('of a path that is not there its nearest folder is asked', async (t) => {
  const folder = await temporaryFolder(t);
  const isLocal = await isOnLocalDisk(folder);
  assert.equal(await isOnLocalDisk(join(folder, 'not', 'there')), isLocal);
  assert.equal(await isOnLocalDisk('/dev/shm/not/there'), true);
  assert.equal(await isOnLocalDisk('/proc/version/not/there'), false);
});
