import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, test } from 'node:test';
import { isCollectionDue, type Look } from '../../agent/idle-collection.ts';

const mib = 1024 * 1024;

describe('memory is given back', () => {
  const table: readonly (readonly [string, Look, boolean])[] = [
    ['after the start', { cpuMs: 0, residentBytes: 60 * mib, baselineBytes: undefined }, true],
    ['not while the start goes on', { cpuMs: 90, residentBytes: 60 * mib, baselineBytes: undefined }, false],
    ['not when nothing has grown', { cpuMs: 1, residentBytes: 61 * mib, baselineBytes: 60 * mib }, false],
    [
      'when a push has left its garbage',
      { cpuMs: 1, residentBytes: 62 * mib, baselineBytes: 60 * mib },
      true,
    ],
    ['not while pushes come', { cpuMs: 40, residentBytes: 90 * mib, baselineBytes: 60 * mib }, false],
    ['not when it shrank', { cpuMs: 0, residentBytes: 50 * mib, baselineBytes: 60 * mib }, false],
  ];
  for (const [name, look, isDue] of table) {
    test(name, () => {
      assert.equal(isCollectionDue(look), isDue);
    });
  }

  test('by a process that rests: its garbage is gone, and it can still end', async () => {
    const url = new URL('../../agent/idle-collection.ts', import.meta.url);
    const program = `
      const { IdleCollection } = await import(${JSON.stringify(url.href)});
      const isGone = new Promise((resolve) => {
        const registry = new FinalizationRegistry(resolve);
        let garbage = { payload: Array.from({ length: 500_000 }, (_, index) => ({ index })) };
        registry.register(garbage, 'gone');
        garbage = undefined;
        globalThis.keep = registry;
      });
      const logged = Promise.withResolvers();
      const collection = new IdleCollection({ log: { debug: (message, fields) => logged.resolve({ message, fields }) } });
      // The timer of the collection does not keep a process alive.
      const alive = setInterval(() => {}, 1000);
      const [what, line] = await Promise.all([isGone, logged.promise]);
      clearInterval(alive);
      console.log(JSON.stringify({ what, line }));`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const { promise, resolve } = Promise.withResolvers<number | null>();
    child.once('close', resolve);
    assert.equal(await promise, 0);
    const { what, line } = JSON.parse(output) as {
      what: string;
      line: { message: string; fields: { residentKibBefore: number; residentKib: number } };
    };
    assert.equal(what, 'gone');
    assert.equal(line.message, 'gave memory back');
    assert.ok(line.fields.residentKib < line.fields.residentKibBefore);
  });
});
