import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describe, test } from 'node:test';
import { BootstrapFileError, writeBootstrapFile } from '../../../agent/envoy/bootstrap-file.ts';
import { createWorkspace } from '../../support/workspace.ts';

describe('the bootstrap file', () => {
  test('is written for its owner alone, with its folder, and goes with Envoy', async () => {
    await using workspace = await createWorkspace();
    const path = workspace.path('new/folder/envoy-rev.json');
    {
      await using _ = await writeBootstrapFile(path, { node: { id: 'x' } }, undefined);
      assert.deepEqual(JSON.parse(await readFile(path, 'utf8')), { node: { id: 'x' } });
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      assert.equal((await stat(dirname(path))).mode & 0o777, 0o700);
      assert.deepEqual(await readdir(dirname(path)), ['envoy-rev.json']);
    }
    assert.deepEqual(await readdir(dirname(path)), []);
  });

  test('takes the place of an older one', async () => {
    await using workspace = await createWorkspace();
    const path = await workspace.write('envoy-rev.json', 'a longer text than the new one');
    await using _ = await writeBootstrapFile(path, {}, undefined);
    assert.equal(await readFile(path, 'utf8'), '{}\n');
  });

  test('says where it cannot be written', async () => {
    await using workspace = await createWorkspace();
    await workspace.write('file', '');
    const path = workspace.path('file/envoy-rev.json');
    await assert.rejects(writeBootstrapFile(path, {}, undefined), (error: unknown) => {
      assert.ok(error instanceof BootstrapFileError);
      assert.ok(error.message.includes(path));
      return true;
    });
  });
});
