import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  buildHeaderPlugin,
  buildPlugin,
  buildPluginWithoutAbi,
  paddedModule,
} from '../support/plugin-build.ts';
import { customSectionHeader } from '../support/wasm-section.ts';
import { PluginHost } from './plugin-host.ts';

test('the same sources give the same file, also when two build at once', async () => {
  const [first, second] = await Promise.all([buildPlugin(), buildPlugin()]);
  assert.deepEqual(first, second);
  assert.equal((await readFile(first.path)).byteLength, first.sizeBytes);
});

test('variants and labels are different modules', async () => {
  const built = [
    await buildPlugin(),
    await buildPluginWithoutAbi(),
    await buildHeaderPlugin('a'),
    await buildHeaderPlugin('b"\n'),
  ];
  assert.equal(new Set(built.map(({ path }) => path)).size, built.length);
});

test('a padded module has exactly the size, still works, and does not compress', async () => {
  const plugin = await buildPlugin();
  for (const extraBytes of [10, 11, 129, 130, 131, 16_400, 100_000]) {
    const sizeBytes = plugin.sizeBytes + extraBytes;
    const padded = await paddedModule(sizeBytes);
    assert.equal(padded.sizeBytes, sizeBytes);
    const host = await PluginHost.load(padded.path);
    assert.notEqual(
      host.configure({ basic_auth_rules: [{ exact: '/', request_methods: ['GET'], credentials: ['a:b'] }] }),
      undefined,
    );
  }
  const bytes = await readFile((await paddedModule(500_000)).path);
  assert.ok(gzipSync(bytes).byteLength > 400_000);
});

test('a module cannot be padded to less than it has', async () => {
  await assert.rejects(paddedModule(100), RangeError);
});

test('a custom section takes exactly the bytes it is given at every width of its length', () => {
  for (const sectionBytes of [10, 129, 130, 131, 16_385, 16_386, 16_387, 2_097_155, 268_435_460]) {
    const head = customSectionHeader('padding', sectionBytes);
    assert.ok(head !== undefined);
    let at = 1;
    let size = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = head[at] ?? 0;
      size += (byte & 0x7f) * 2 ** shift;
      at += 1;
      if (byte < 0x80) break;
    }
    assert.equal(at + size, sectionBytes);
  }
  assert.equal(customSectionHeader('padding', 9), undefined);
});
