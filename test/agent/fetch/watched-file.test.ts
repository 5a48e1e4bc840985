import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { WatchedFile } from '../../../agent/fetch/watched-file.ts';
import { isOnLocalDisk } from '../../../cache/local-disk.ts';
import { temporaryFolder } from '../../support/test-end.ts';

const options = { maxSizeBytes: 65_536, parse: (text: string) => text };

test('a file on a disk of this machine is at hand when it was read and has not changed', async (t) => {
  const folder = await temporaryFolder(t);
  if (!(await isOnLocalDisk(folder))) return t.skip(`${folder} is on no disk of this machine`);
  const path = join(folder, 'file');
  const file = new WatchedFile(path, options);
  assert.equal(file.atHand(), undefined);
  assert.deepEqual(await file.read(), { kind: 'missing' });
  assert.deepEqual(file.atHand(), { kind: 'missing' });
  await writeFile(path, 'one');
  assert.equal(file.atHand(), undefined);
  const reading = await file.read();
  assert.equal(reading.kind === 'read' && reading.value, 'one');
  assert.deepEqual(file.atHand(), reading);
  await writeFile(path, 'three');
  assert.equal(file.atHand(), undefined);
});

test('a file on any other volume, which may hang, is never at hand', async () => {
  const file = new WatchedFile('/proc/version', options);
  const reading = await file.read();
  assert.equal(reading.kind, 'read');
  assert.equal(file.atHand(), undefined);
});
