import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FileRecordIndex } from '../../cache/record-index.ts';
import { temporaryFolder } from '../support/test-end.ts';
import { CollectedLog, failsWith } from './store-fixture.ts';

interface Tag {
  readonly digest: string;
}

function parseTag(value: unknown): Tag | undefined {
  if (typeof value !== 'object' || value === null || !('digest' in value)) throw new TypeError('not a tag');
  return typeof value.digest === 'string' ? { digest: value.digest } : undefined;
}

const settings = { parse: parseTag, maxEntryCount: 100 };

describe('a record index', () => {
  test('keeps its records and their order over a restart', async (t) => {
    const path = join(await temporaryFolder(t), 'made', 'tags.json');
    const index = await FileRecordIndex.open({ path, ...settings });
    index.set('a', { digest: '1' });
    index.set('b', { digest: '2' });
    index.set('__proto__', { digest: '3' });
    index.set('a', { digest: '4' });
    index.delete('b');
    index.delete('unknown');
    await index.flush();
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(join(path, '..')), ['tags.json']);
    const again = await FileRecordIndex.open({ path, ...settings });
    const expected = [
      ['__proto__', { digest: '3' }],
      ['a', { digest: '4' }],
    ];
    assert.deepEqual([...again.entries()], expected);
    assert.deepEqual(again.get('a'), { digest: '4' });
    assert.equal(again.get('b'), undefined);
    await Promise.all([index.close(), again.close()]);
  });

  test('writes by itself, and close writes what is left', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const index = await FileRecordIndex.open({ path, ...settings });
    index.set('a', { digest: '1' });
    await index.close();
    assert.match(await readFile(path, 'utf8'), /"a"/);
    index.set('late', { digest: '2' });
    assert.deepEqual(index.get('late'), { digest: '2' });
    await index.flush();
  });

  test('a flush covers what was set while an earlier write ran', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const index = await FileRecordIndex.open({ path, ...settings });
    const flushes: Promise<void>[] = [];
    const flushed = async (expected: number): Promise<void> => {
      await index.flush();
      const written: { records: [string, Tag][] } = JSON.parse(await readFile(path, 'utf8'));
      assert.ok(Number(written.records[0]?.[1].digest) >= expected);
    };
    for (let count = 0; count < 50; count += 1) {
      index.set('key', { digest: `${count}` });
      if (count % 10 === 9) {
        flushes.push(flushed(count));
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await Promise.all(flushes);
    await index.close();
  });

  test('many changes of one turn are one write', async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'tags.json');
    const index = await FileRecordIndex.open({ path, parse: parseTag, maxEntryCount: 10_000 });
    let serialisedCount = 0;
    const counting = {
      digest: 'x',
      toJSON: () => {
        serialisedCount += 1;
        return { digest: 'x' };
      },
    };
    index.set('counting', counting);
    for (let count = 0; count < 1_000; count += 1) index.set(`${count}`, { digest: 'y' });
    await index.flush();
    assert.equal(serialisedCount, 1);
    await index.close();
  });

  test('the record that was set longest ago goes first, in memory and from disk', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const index = await FileRecordIndex.open({ path, parse: parseTag, maxEntryCount: 3 });
    for (const key of ['a', 'b', 'c']) index.set(key, { digest: key });
    index.set('a', { digest: 'again' });
    index.get('b');
    index.set('d', { digest: 'd' });
    assert.deepEqual(
      [...index.entries()].map(([key]) => key),
      ['c', 'a', 'd'],
    );
    await index.close();
    const smaller = await FileRecordIndex.open({ path, parse: parseTag, maxEntryCount: 2 });
    assert.deepEqual(
      [...smaller.entries()].map(([key]) => key),
      ['a', 'd'],
    );
    await smaller.close();
    await assert.rejects(FileRecordIndex.open({ path, parse: parseTag, maxEntryCount: 0 }), /at least 1/);
  });

  const damages: readonly { readonly name: string; readonly text: string; readonly reason: RegExp }[] = [
    { name: 'empty', text: '', reason: /not JSON/ },
    { name: 'torn', text: '{"version":1,"records":[["a",{"dig', reason: /not JSON/ },
    { name: 'not an object', text: 'null', reason: /no version/ },
    { name: 'without records', text: '{"version":1}', reason: /no version and records/ },
    { name: 'of another version', text: '{"version":2,"records":[]}', reason: /unknown version/ },
    { name: 'with a record that is no pair', text: '{"version":1,"records":[["a"]]}', reason: /pairs/ },
    { name: 'with a key that is no text', text: '{"version":1,"records":[[1,2]]}', reason: /pairs/ },
  ];
  for (const { name, text, reason } of damages) {
    test(`a file that is ${name} is set aside and a new one is started`, async (t) => {
      const path = join(await temporaryFolder(t), 'tags.json');
      await writeFile(path, text);
      const log = new CollectedLog();
      const index = await FileRecordIndex.open({ path, ...settings, log });
      assert.deepEqual([...index.entries()], []);
      assert.equal(await readFile(`${path}.corrupt`, 'utf8'), text);
      assert.match(String(log.warnings('damaged')[0]?.fields.reason), reason);
      index.set('a', { digest: '1' });
      await index.close();
      const again = await FileRecordIndex.open({ path, ...settings });
      assert.deepEqual(again.get('a'), { digest: '1' });
    });
  }

  test('records that do not parse are dropped, the others stay', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const records = [
      ['a', { digest: '1' }],
      ['b', { digest: 2 }],
      ['c', null],
      ['d', { digest: '4' }],
    ];
    await writeFile(path, JSON.stringify({ version: 1, records }));
    const log = new CollectedLog();
    const index = await FileRecordIndex.open({ path, ...settings, log });
    assert.deepEqual(
      [...index.entries()].map(([key]) => key),
      ['a', 'd'],
    );
    assert.equal(log.warnings('dropped')[0]?.fields.droppedCount, 2);
    await index.close();
  });

  test('a link in its place is not followed, neither read nor written', async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'tags.json');
    const target = join(folder, 'target.json');
    const text = JSON.stringify({ version: 1, records: [['a', { digest: '1' }]] });
    await writeFile(target, text);
    await symlink(target, path);
    const log = new CollectedLog();
    const index = await FileRecordIndex.open({ path, ...settings, log });
    assert.equal(index.get('a'), undefined);
    assert.equal(log.warnings('cannot be read').length, 1);
    index.set('b', { digest: '2' });
    await index.close();
    assert.equal(await readFile(target, 'utf8'), text);
    assert.match(await readFile(path, 'utf8'), /"b"/);
  });

  test('a write that fails is logged, told to flush, loses nothing and is tried again', async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'tags.json');
    const log = new CollectedLog();
    const index = await FileRecordIndex.open({ path, ...settings, log });
    await mkdir(join(path, 'in the way'), { recursive: true });
    index.set('a', { digest: '1' });
    const error = await failsWith('io', index.flush());
    assert.match(error.message, new RegExp(`${path}.*remove it`));
    assert.ok(log.warnings('could not be written').length > 0);
    assert.deepEqual(await readdir(folder), ['tags.json'], 'no temporary file is left');
    await index.close();
    assert.deepEqual(index.get('a'), { digest: '1' });
  });

  test('temporary files of dead runs are swept, others stay', async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'tags.json');
    const orphan = `.tags.json.${process.pid}-1-0123456789abcdef.part`;
    const other = `.other.json.${process.pid}-1-0123456789abcdef.part`;
    for (const name of [orphan, other]) await writeFile(join(folder, name), '');
    const index = await FileRecordIndex.open({ path, ...settings });
    assert.deepEqual(await readdir(folder), process.platform === 'linux' ? [other] : [orphan, other].sort());
    await index.close();
  });
});

describe('a record index that several processes write', () => {
  const shared = { ...settings, isShared: true };

  async function opened(path: string): Promise<FileRecordIndex<Tag>> {
    return FileRecordIndex.open({ path, ...shared });
  }

  test('no write loses what the other has written', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const [agent, command] = [await opened(path), await opened(path)];
    agent.set('a', { digest: '1' });
    await agent.flush();
    command.set('b', { digest: '2' });
    await command.close();
    agent.set('c', { digest: '3' });
    await agent.flush();
    assert.deepEqual(agent.get('b'), { digest: '2' });
    const again = await opened(path);
    assert.deepEqual([...again.entries()].map(([key]) => key).sort(), ['a', 'b', 'c']);
    await Promise.all([agent.close(), again.close()]);
  });

  test('a refresh takes over what is new there, and tells when nothing is', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const [agent, command] = [await opened(path), await opened(path)];
    assert.equal(await agent.refresh(), false, 'there is no file yet');
    command.set('a', { digest: '1' });
    await command.flush();
    assert.equal(await command.refresh(), false, 'its own write is no news');
    assert.equal(await agent.refresh(), true);
    assert.deepEqual(agent.get('a'), { digest: '1' });
    assert.equal(await agent.refresh(), false);
    command.set('a', { digest: '2' });
    await command.close();
    // Plugins of one push ask all at once.
    assert.deepEqual(await Promise.all([agent.refresh(), agent.refresh()]), [true, true]);
    assert.deepEqual(agent.get('a'), { digest: '2' });
    assert.equal(await agent.refresh(), false);
    await agent.close();
  });

  test('of one key the own change counts until it is written, and deleted stays deleted', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const [agent, command] = [await opened(path), await opened(path)];
    for (const key of ['kept', 'deleted']) agent.set(key, { digest: 'agent' });
    await agent.flush();
    await command.refresh();
    command.set('kept', { digest: 'command' });
    command.set('deleted', { digest: 'command' });
    await command.close();
    agent.set('kept', { digest: 'agent again' });
    agent.delete('deleted');
    await agent.refresh();
    assert.deepEqual([...agent.entries()], [['kept', { digest: 'agent again' }]]);
    await agent.close();
    const again = await opened(path);
    assert.deepEqual([...again.entries()], [['kept', { digest: 'agent again' }]]);
    await again.close();
  });

  test('what the other has dropped stays here: it is dropped when its file is missed', async (t) => {
    const path = join(await temporaryFolder(t), 'tags.json');
    const agent = await opened(path);
    agent.set('a', { digest: '1' });
    await agent.flush();
    const command = await opened(path);
    command.delete('a');
    await command.close();
    await agent.refresh();
    assert.deepEqual(agent.get('a'), { digest: '1' });
    await agent.close();
  });

  test('a file that was damaged or taken away since costs nothing', async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'tags.json');
    const agent = await opened(path);
    agent.set('a', { digest: '1' });
    await agent.flush();
    await writeFile(path, 'torn');
    assert.equal(await agent.refresh(), false);
    assert.deepEqual(agent.get('a'), { digest: '1' });
    await rm(path);
    assert.equal(await agent.refresh(), false);
    agent.set('b', { digest: '2' });
    await agent.close();
    const again = await opened(path);
    assert.equal([...again.entries()].length, 2);
    await again.close();
  });
});
