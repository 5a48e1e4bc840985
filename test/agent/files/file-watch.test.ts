import assert from 'node:assert/strict';
import { appendFile, chmod, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { systemClock } from '../../../agent/clock.ts';
import { FileWatch } from '../../../agent/files/file-watch.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { LogCapture } from '../identity/sds-fixture.ts';
import { EventQueue } from '../xds/event-queue.ts';

interface Watching {
  readonly watch: FileWatch;
  readonly folder: string;
  readonly path: string;
  /** Keys in the order of their changes. */
  readonly changes: EventQueue<string>;
  readonly failures: EventQueue<true>;
}

async function startWatch(
  t: TestContext,
  options: { debounceMs?: number; pollIntervalMs?: number; isModeWatched?: boolean; clock?: FakeClock } = {},
): Promise<Watching> {
  const folder = await temporaryFolder(t);
  const changes = new EventQueue<string>();
  const failures = new EventQueue<true>();
  const watch = new FileWatch({
    ...options,
    debounceMs: options.debounceMs ?? 5,
    onChange: (key) => changes.push(key),
    onFailure: () => failures.push(true),
    log: new LogCapture().root.scope('cache'),
    clock: options.clock ?? systemClock,
    random: () => 0.5,
  });
  atEnd(t, async () => watch.close());
  return { watch, folder, path: join(folder, 'certs', 'cert.pem'), changes, failures };
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

/** As the kubelet publishes a secret or config map: files behind `..data`, which is swapped at once. */
async function publish(
  folder: string,
  version: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  const data = `..${version}`;
  for (const [name, text] of Object.entries(files)) await write(join(folder, data, name), text);
  const previous = await readFile(join(folder, '..previous'), 'utf8').catch(() => undefined);
  await symlink(data, join(folder, '..data_tmp'));
  await rename(join(folder, '..data_tmp'), join(folder, '..data'));
  for (const name of Object.keys(files)) {
    await symlink(join('..data', name), join(folder, name)).catch(() => undefined);
  }
  if (previous !== undefined) await rm(join(folder, previous), { recursive: true });
  await writeFile(join(folder, '..previous'), data);
}

const changesOfFile: readonly {
  readonly name: string;
  readonly change: (path: string) => Promise<void>;
}[] = [
  { name: 'is written again', change: async (path) => writeFile(path, 'two') },
  { name: 'grows', change: async (path) => appendFile(path, 'more') },
  {
    name: 'is replaced by rename',
    change: async (path) => {
      await writeFile(`${path}.new`, 'one');
      await rename(`${path}.new`, path);
    },
  },
  { name: 'is removed', change: async (path) => rm(path) },
  {
    name: 'is removed and made anew',
    change: async (path) => {
      await rm(path);
      await writeFile(path, 'three');
    },
  },
  { name: 'goes with its folder', change: async (path) => rm(dirname(path), { recursive: true }) },
  {
    name: 'goes with its folder, and comes back with it',
    change: async (path) => {
      await rm(dirname(path), { recursive: true });
      await write(path, 'back');
    },
  },
  {
    name: 'is in a folder that another one takes the place of',
    change: async (path) => {
      await write(join(`${dirname(path)}.new`, 'cert.pem'), 'other');
      await rename(dirname(path), `${dirname(path)}.old`);
      await rename(`${dirname(path)}.new`, dirname(path));
    },
  },
];

for (const { name, change } of changesOfFile) {
  test(`a change is told, and the next one too, when the file ${name}`, async (t) => {
    const { watch, path, changes } = await startWatch(t);
    await write(path, 'one');
    await watch.add('key', path);
    await change(path);
    assert.equal(await changes.next(), 'key');
    // The watch lives on, wherever the change led.
    await write(path, 'the last one, longer than all');
    assert.equal(await changes.next(), 'key');
  });
}

test('a swap by the kubelet is told, again and again', async (t) => {
  const { watch, folder, changes } = await startWatch(t);
  const mount = join(folder, 'mount');
  await publish(mount, '2026_1', { 'cert.pem': 'one', 'key.pem': 'k' });
  await watch.add('key', join(mount, 'cert.pem'));
  for (const version of ['2026_2', '2026_3', '2026_4']) {
    await publish(mount, version, { 'cert.pem': version, 'key.pem': 'k' });
    assert.equal(await changes.next(), 'key');
  }
});

test('a swap that leaves the contents as they were is told too: another file is there', async (t) => {
  const { watch, folder, changes } = await startWatch(t);
  const mount = join(folder, 'mount');
  await publish(mount, '1', { 'cert.pem': 'same' });
  await watch.add('key', join(mount, 'cert.pem'));
  await publish(mount, '2', { 'cert.pem': 'same' });
  assert.equal(await changes.next(), 'key');
});

test('a link in the middle of the path, and a chain of links, are followed', async (t) => {
  const { watch, folder, changes } = await startWatch(t);
  await write(join(folder, 'v1', 'cert.pem'), 'one');
  await write(join(folder, 'v2', 'cert.pem'), 'two');
  await symlink('v1', join(folder, 'current'));
  await symlink(join(folder, 'current'), join(folder, 'alias'));
  await watch.add('key', join(folder, 'alias', 'cert.pem'));
  await symlink('v2', join(folder, 'next'));
  await rename(join(folder, 'next'), join(folder, 'current'));
  assert.equal(await changes.next(), 'key');
  await writeFile(join(folder, 'v2', 'cert.pem'), 'changed');
  assert.equal(await changes.next(), 'key');
});

test('a file that is not there yet is told when it comes, its folders too', async (t) => {
  const { watch, folder, changes } = await startWatch(t);
  const path = join(folder, 'a', 'b', 'c', 'cert.pem');
  await watch.add('key', path);
  await write(path, 'here');
  assert.equal(await changes.next(), 'key');
});

test('chmod is a change behind links only', async (t) => {
  const { watch, folder, changes } = await startWatch(t);
  const plain = join(folder, 'plain.pem');
  const linked = join(folder, 'linked.pem');
  await write(plain, 'one');
  await symlink('target.pem', linked);
  await write(join(folder, 'target.pem'), 'one');
  await watch.add('plain', plain);
  await watch.add('linked', linked);
  await chmod(plain, 0o600);
  await chmod(linked, 0o600);
  assert.equal(await changes.next(), 'linked');
  // Had chmod of the plain file been told, it would have come first.
  await writeFile(plain, 'changed');
  assert.equal(await changes.next(), 'plain');
});

test('other files of the folder, and files that stay as they are, are not told', async (t) => {
  const clock = new FakeClock();
  const { watch, path, changes } = await startWatch(t, { clock });
  await write(path, 'one');
  await watch.add('key', path);
  await write(join(dirname(path), 'other.pem'), 'x');
  // A sign of the file itself, without a change of what it is.
  await chmod(path, 0o644);
  await clock.waitForTimer();
  clock.advance(5);
  await writeFile(path, 'two');
  await clock.waitForTimer();
  clock.advance(5);
  assert.equal(await changes.next(), 'key');
  assert.equal(changes.pendingCount, 0);
});

test('many signs within the debounce are one look', async (t) => {
  const clock = new FakeClock();
  const { watch, path, changes } = await startWatch(t, { clock, debounceMs: 100 });
  await write(path, 'one');
  await watch.add('key', path);
  for (let index = 0; index < 20; index += 1) await writeFile(path, `version ${index}`);
  assert.equal(await clock.waitForTimer(), 100);
  assert.equal(clock.pendingDelaysMs.length, 1);
  clock.advance(100);
  assert.equal(await changes.next(), 'key');
  assert.equal(changes.pendingCount, 0);
});

test('several files, and several keys for one file, are told apart', async (t) => {
  const { watch, folder, changes } = await startWatch(t);
  const [one, two] = [join(folder, 'one.pem'), join(folder, 'two.pem')];
  await write(one, '1');
  await write(two, '2');
  await watch.add('a', one);
  await watch.add('b', one);
  await watch.add('c', two);
  await writeFile(one, 'new');
  assert.deepEqual([await changes.next(), await changes.next()].sort(), ['a', 'b']);
  watch.remove('a');
  await writeFile(one, 'newer');
  assert.equal(await changes.next(), 'b');
  await writeFile(two, 'new');
  assert.equal(await changes.next(), 'c');
});

test('a watch that cannot be made is tried again with growing waits, and then tells what has changed', async (t) => {
  const clock = new FakeClock();
  const { watch, folder, changes, failures } = await startWatch(t, { clock });
  const loop = join(folder, 'loop');
  await symlink('loop', loop);
  await watch.add('key', join(loop, 'cert.pem'));
  await failures.next();
  for (const waitMs of [500, 750, 1125]) {
    assert.equal(await clock.waitForTimer(), waitMs);
    clock.advance(waitMs);
    await failures.next();
  }
  await rm(loop);
  await mkdir(loop);
  clock.advance(await clock.waitForTimer());
  await watch.add('key', join(loop, 'cert.pem'));
  await writeFile(join(loop, 'cert.pem'), 'here');
  await clock.waitForTimer(5);
  clock.advance(5);
  assert.equal(await changes.next(), 'key');
});

test('a set of files takes the place of the one before, and tells when some are new', async (t) => {
  const { watch, folder, changes } = await startWatch(t);
  const [one, two] = [join(folder, 'one.yaml'), join(folder, 'two.yaml')];
  assert.deepEqual(
    [await watch.set([one]), await watch.set([one]), await watch.set([one, two]), await watch.set([two])],
    [true, false, true, false],
  );
  await write(one, '1');
  await write(two, '2');
  assert.equal(await changes.next(), two);
  assert.equal(changes.pendingCount, 0);
});

test('with polls a change is told that no event has told', async (t) => {
  const clock = new FakeClock();
  // The debounce is never over: events lead nowhere, as where there are none.
  const { watch, path, changes } = await startWatch(t, { clock, debounceMs: 1e9, pollIntervalMs: 10_000 });
  await write(path, 'one');
  await watch.add('key', path);
  for (const text of ['another', 'one more']) {
    await writeFile(path, text);
    clock.advance(10_000);
    assert.equal(await changes.next(), 'key');
  }
  clock.advance(10_000);
  watch.remove('key');
  assert.deepEqual(
    clock.pendingDelaysMs.filter((delayMs) => delayMs <= 10_000),
    [],
  );
  assert.equal(changes.pendingCount, 0);
});

test('chmod is a change everywhere where the mode is watched', async (t) => {
  const { watch, path, changes } = await startWatch(t, { isModeWatched: true });
  await write(path, 'one');
  await watch.add('key', path);
  await chmod(path, 0o600);
  assert.equal(await changes.next(), 'key');
});

test('nothing is told after the end', async (t) => {
  const { watch, path, changes } = await startWatch(t, { pollIntervalMs: 1 });
  await write(path, 'one');
  await watch.add('key', path);
  await watch.close();
  await watch.close();
  await watch.add('late', path);
  await writeFile(path, 'two');
  const after = await startWatch(t);
  await after.watch.add('other', path);
  await writeFile(path, 'three');
  assert.equal(await after.changes.next(), 'other');
  assert.equal(changes.pendingCount, 0);
});
