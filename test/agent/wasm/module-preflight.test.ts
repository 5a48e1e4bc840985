import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { FetchError } from '../../../agent/fetch/types.ts';
import { LogRoot } from '../../../agent/log.ts';
import { CheckedSource } from '../../../agent/wasm/checked-source.ts';
import { ModulePreflight } from '../../../agent/wasm/module-preflight.ts';
import { HttpOrigin } from '../../support/http-origin.ts';
import { buildModule } from '../../support/wasm-fixtures/module-builder.ts';
import { exported, pluginModule } from '../../support/wasm-fixtures/plugin-module.ts';
import { createWorkspace, type Workspace } from '../../support/workspace.ts';
import { FetchFixture } from '../fetch/fetch-fixture.ts';
import { sha256 } from '../fetch/module-bytes.ts';

const noAbi = buildModule({ functions: [] });
const twoVersions = pluginModule({ functions: [exported('proxy_abi_version_0_2_0', [], [])] });

/** A preflight with what it counts and logs. */
function preflight(maxMemoryPages?: () => number | undefined) {
  const counted: string[] = [];
  const logged: string[] = [];
  const log = new LogRoot({
    format: 'text',
    levels: new Map(),
    write: (line) => void logged.push(line),
  }).scope('wasm');
  const metrics = { preflightRefused: (code: string) => void counted.push(code) };
  return { made: new ModulePreflight({ maxMemoryPages, metrics, log }), counted, logged };
}

function refusedWith(code: string, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof FetchError, String(error));
    assert.deepEqual([error.code, text.test(error.message)], [code, true], error.message);
    return true;
  };
}

describe('the preflight of modules', () => {
  let workspace: Workspace;
  before(async () => {
    workspace = await createWorkspace();
  });
  after(() => workspace.close());

  const stored = async (bytes: Uint8Array): Promise<{ path: string; digest: string }> => {
    const digest = sha256(bytes);
    return { path: await workspace.write(digest, bytes), digest };
  };

  test('passes a sound module, and refuses one that Envoy cannot run, with the reason and its code', async () => {
    const { made, counted } = preflight();
    await made.passStored(await stored(pluginModule()), 'Wasm module oci://a/b:1');
    await assert.rejects(
      made.passStored(await stored(noAbi), 'Wasm module oci://a/b:2'),
      refusedWith(
        'preflight_refused',
        /^Wasm module oci:\/\/a\/b:2 was not given to Envoy.*\(no_abi_export\)/s,
      ),
    );
    assert.deepEqual(counted, ['no_abi_export']);
  });

  test('reads a stored module once: its bytes never change', async () => {
    const { made } = preflight();
    const module = await stored(pluginModule({ memories: [{ min: 2 }] }));
    await made.passStored(module, 'first');
    await rm(module.path);
    await made.passStored(module, 'second');
  });

  test('asks for the limit of memory pages each time, and never goes over that of Envoy', async () => {
    let maxMemoryPages: number | undefined = 4;
    const { made } = preflight(() => maxMemoryPages);
    const module = await stored(pluginModule({ memories: [{ min: 5 }] }));
    await assert.rejects(made.passStored(module, 'm'), refusedWith('preflight_refused', /memory_over_limit/));
    maxMemoryPages = undefined;
    await made.passStored(module, 'm');
    maxMemoryPages = 100_000;
    const huge = await stored(pluginModule({ memories: [{ min: 16_385 }] }));
    await assert.rejects(made.passStored(huge, 'm'), refusedWith('preflight_refused', /memory_over_limit/));
  });

  test('tells a warning once for each module', async () => {
    const { made, logged } = preflight();
    for (let time = 0; time < 3; time += 1) await made.passStored(await stored(twoVersions), 'Wasm module m');
    const path = await workspace.write('local.wasm', twoVersions);
    for (let time = 0; time < 3; time += 1) await made.passLocal({ kind: 'file', path });
    assert.equal(logged.filter((line) => line.includes('several_abi_versions')).length, 2, logged.join('\n'));
  });

  test('a stored module that cannot be read is a failure of the store, and looked at again next time', async () => {
    const { made, counted } = preflight();
    const bytes = pluginModule({ memories: [{ min: 3 }] });
    const module = { path: workspace.path('not-yet.wasm'), digest: sha256(bytes) };
    await assert.rejects(made.passStored(module, 'm'), refusedWith('store', /it is not there/));
    await workspace.write('not-yet.wasm', bytes);
    await made.passStored(module, 'm');
    assert.deepEqual(counted, []);
  });

  test('judges a local file as it is now', async () => {
    const { made } = preflight();
    const path = await workspace.write('changing.wasm', noAbi);
    await assert.rejects(
      made.passLocal({ kind: 'file', path }),
      refusedWith('preflight_refused', /no_abi_export/),
    );
    await workspace.write('changing.wasm', pluginModule());
    await made.passLocal({ kind: 'file', path });
  });

  test('does not wait for what is no file', async () => {
    const { made } = preflight();
    const pipe = workspace.path('pipe');
    await promisify(execFile)('mkfifo', [pipe]);
    for (const [path, code, text] of [
      [pipe, 'store', /not a regular file/],
      [workspace.path(''), 'store', /cannot be read/],
      [workspace.path('absent'), 'not_found', /mount it into the proxy container/],
    ] as const) {
      await assert.rejects(made.passLocal({ kind: 'file', path }), refusedWith(code, text));
    }
  });

  test('judges inline code by its bytes, and passes what V8 does not run', async () => {
    const { made, counted } = preflight();
    await made.passLocal({ kind: 'inline', bytes: pluginModule() });
    await assert.rejects(
      made.passLocal({ kind: 'inline', bytes: Buffer.from('envoy.some_plugin') }),
      refusedWith('preflight_refused', /inline Wasm module sha256:[0-9a-f]{64} .*\(not_wasm\)/s),
    );
    await made.passLocal({ kind: 'unseen' });
    assert.deepEqual(counted, ['not_wasm']);
  });

  test('after a refusal asks the origin again, in place of the cache', async (t) => {
    const origin = await HttpOrigin.start();
    t.after(() => origin.close());
    await using fixture = await FetchFixture.open();
    const checked = new CheckedSource({ source: fixture.source, preflight: preflight().made });
    const request = {
      resourceName: 'plugin',
      url: await origin.put('/plugin.wasm', noAbi),
      sha256: undefined,
      timeoutMs: 20_000,
      pullPolicy: 'if-not-present',
      pullSecret: undefined,
      pluginResourceVersion: '',
    } as const;
    const { signal } = new AbortController();
    await assert.rejects(
      checked.fetch(request, { signal }),
      refusedWith('preflight_refused', /no_abi_export/),
    );
    await origin.put('/plugin.wasm', pluginModule());
    const module = await checked.fetch(request, { signal });
    assert.deepEqual([module.digest, module.source], [sha256(pluginModule()), 'http']);
    assert.equal((await checked.fetch(request, { signal })).source, 'cache');
  });
});
