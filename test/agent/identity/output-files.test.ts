import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { OutputFiles } from '../../../agent/identity/output-files.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { LogCapture } from './sds-fixture.ts';

async function open(t: TestContext, fileMode = 0o600) {
  const folder = await temporaryFolder(t);
  const logs = new LogCapture();
  const output = new OutputFiles({ folder, fileMode, log: logs.root.scope('cache') });
  return { output, folder, logs, path: (name: string) => join(folder, name) };
}

const all = {
  privateKey: Buffer.from('key'),
  certificateChain: Buffer.from('chain'),
  root: Buffer.from('root'),
};

for (const mode of [0o600, 0o644]) {
  test(`all three files are written with mode ${mode.toString(8)}, whatever the umask, and nothing else`, async (t) => {
    const before = process.umask(0o077);
    atEnd(t, () => process.umask(before));
    const { output, folder, path } = await open(t, mode);
    await output.write(all);
    assert.deepEqual((await readdir(folder)).sort(), ['cert-chain.pem', 'key.pem', 'root-cert.pem']);
    assert.equal(await readFile(path('key.pem'), 'utf8'), 'key');
    for (const name of await readdir(folder)) assert.equal((await stat(path(name))).mode & 0o777, mode);
  });
}

test('only what has changed is written', async (t) => {
  const { output, path } = await open(t);
  await output.write(all);
  const before = await Promise.all(
    ['key.pem', 'cert-chain.pem'].map(async (name) => (await stat(path(name))).ino),
  );
  await output.write({ ...all, certificateChain: Buffer.from('another') });
  const after = await Promise.all(
    ['key.pem', 'cert-chain.pem'].map(async (name) => (await stat(path(name))).ino),
  );
  assert.equal(after[0], before[0]);
  assert.notEqual(after[1], before[1]);
  assert.equal(await readFile(path('cert-chain.pem'), 'utf8'), 'another');
});

test('roots alone leave key and chain as they are', async (t) => {
  const { output, folder } = await open(t);
  await output.write({ root: Buffer.from('root') });
  assert.deepEqual(await readdir(folder), ['root-cert.pem']);
});

test('a folder that is not there is an error in the log, without the contents', async (t) => {
  const { logs } = await open(t);
  const output = new OutputFiles({
    folder: '/no/such/folder',
    fileMode: 0o600,
    log: logs.root.scope('cache'),
  });
  await output.write(all);
  const line = await logs.waitFor(
    'error when output the resource: the folder of OUTPUT_CERTS must be there and writable',
  );
  assert.match(String(line['reason']), /ENOENT/);
});

test('a file that cannot be replaced leaves no temporary file behind', async (t) => {
  const { output, folder, logs, path } = await open(t);
  await mkdir(path('key.pem'));
  await writeFile(path('key.pem/inside'), '');
  await output.write(all);
  assert.deepEqual(await readdir(folder), ['key.pem']);
  assert.equal(logs.lines.length, 1);
});

test('writers at the same time leave a key with its own chain', async (t) => {
  const { output, path } = await open(t);
  const versions = Array.from({ length: 20 }, (_, index) => Buffer.from(`version ${index}`));
  await Promise.all(versions.map(async (text) => output.write({ privateKey: text, certificateChain: text })));
  assert.equal(await readFile(path('key.pem'), 'utf8'), 'version 19');
  assert.equal(await readFile(path('cert-chain.pem'), 'utf8'), 'version 19');
});
