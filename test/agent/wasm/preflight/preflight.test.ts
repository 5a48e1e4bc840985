import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { readModule } from '../../../../agent/wasm/preflight/module-reader.ts';
import { inspectModule, judgeReading, preflightModule } from '../../../../agent/wasm/preflight/preflight.ts';
import { envoyMaxMemoryPages, type Verdict } from '../../../../agent/wasm/preflight/verdict.ts';
import { acceptedModules } from '../../../support/wasm-fixtures/accepted-modules.ts';
import { crashingModules } from '../../../support/wasm-fixtures/crashing-modules.ts';
import { hostAbiModules } from '../../../support/wasm-fixtures/host-abi-modules.ts';
import { memorySource } from '../../../support/wasm-fixtures/memory-source.ts';
import { f64, i32 } from '../../../support/wasm-fixtures/module-builder.ts';
import { exported, importedFunction, pluginModule } from '../../../support/wasm-fixtures/plugin-module.ts';
import { rejectedModules } from '../../../support/wasm-fixtures/rejected-modules.ts';
import { unreadableModules } from '../../../support/wasm-fixtures/unreadable-modules.ts';
import { createWorkspace, type Workspace } from '../../../support/workspace.ts';

const { signal } = new AbortController();

let workspace: Workspace;

before(async () => {
  workspace = await createWorkspace();
});
after(() => workspace.close());

async function judge(bytes: Uint8Array, maxMemoryPages = envoyMaxMemoryPages): Promise<Verdict> {
  return judgeReading(await readModule(memorySource(bytes)), { maxMemoryPages });
}

/** The only reason why these bytes are refused. */
async function reasonOf(bytes: Uint8Array, maxMemoryPages?: number): Promise<string> {
  const verdict = await judge(bytes, maxMemoryPages);
  assert.ok(verdict.kind === 'refused' && verdict.reasons.length === 1, JSON.stringify(verdict));
  return verdict.reasons[0]?.message ?? '';
}

function codesOf(verdict: Verdict): { readonly refusals: string[]; readonly warnings: string[] } {
  const codes = (told: readonly { readonly code: string }[]): string[] => told.map(({ code }) => code);
  return verdict.kind === 'accepted'
    ? { refusals: [], warnings: codes(verdict.warnings) }
    : { refusals: codes(verdict.reasons), warnings: [] };
}

describe('the preflight judges a module', () => {
  for (const each of [
    ...hostAbiModules,
    ...acceptedModules,
    ...unreadableModules,
    ...rejectedModules,
    ...crashingModules,
  ]) {
    test(`that ${each.name}`, async () => {
      const verdict = await judge(each.build());
      const expected = { refusals: [...each.refusals], warnings: [...each.warnings] };
      assert.deepEqual(codesOf(verdict), expected, JSON.stringify(verdict));
    });
  }
});

describe('a refusal says what was found, what Envoy wants and what to do', () => {
  test('for an unknown import', async () => {
    const message = await reasonOf(pluginModule({ imports: [importedFunction('env', 'abort', [i32], [])] }));
    assert.equal(
      message,
      'It imports the function "env"."abort", which Envoy does not offer to modules of ABI 0_2_1; compile AssemblyScript with `--use abort=` or with an abort of your own.',
    );
  });

  test('for an import of another ABI version', async () => {
    const imports = [importedFunction('env', 'proxy_clear_route_cache', [], [i32])];
    assert.match(await reasonOf(pluginModule({ imports })), /it is part of ABI 0_1_0: export that version/);
  });

  test('for a mistyped import', async () => {
    const imports = [importedFunction('env', 'proxy_done', [f64], [i32])];
    assert.match(
      await reasonOf(pluginModule({ imports })),
      /"env"\."proxy_done" as f64 -> i32; Envoy offers void -> i32/,
    );
  });

  test('for a mistyped export', async () => {
    const functions = [exported('proxy_on_done', [], [])];
    assert.match(
      await reasonOf(pluginModule({ functions })),
      /"proxy_on_done" as void -> void; Envoy calls it as i32 -> i32 in modules of ABI 0_2_1/,
    );
  });

  test('for bytes that are no module', async () => {
    assert.match(
      await reasonOf(Buffer.from('<html></html>')),
      /not a WebAssembly module: it is an HTML page/,
    );
  });

  test('with names that are quoted and cut', async () => {
    const name = `\n\u001b[31m${'n'.repeat(1000)}`;
    const message = await reasonOf(pluginModule({ imports: [importedFunction('env', name, [], [])] }));
    assert.ok(message.length < 400, message);
    assert.match(message, /"\\n\\u001b\[31mn+\.\.\."/);
  });

  test('at most twenty times', async () => {
    const imports = Array.from({ length: 30 }, (_, i) => importedFunction('env', `none_${i}`, [], []));
    const verdict = await judge(pluginModule({ imports }));
    assert.equal(verdict.kind === 'refused' && verdict.reasons.length, 20);
  });
});

describe('the limit on memory', () => {
  test('can be set lower than that of Envoy', async () => {
    const bytes = pluginModule({ memories: [{ min: 17, max: 100 }] });
    assert.match(await reasonOf(bytes, 16), /17 pages of 64 KiB; at most 16 are allowed/);
    assert.deepEqual(codesOf(await judge(bytes, 17)), { refusals: [], warnings: [] });
  });
});

describe('a module file', () => {
  test('is judged by its path', async () => {
    const good = await workspace.write('good.wasm', pluginModule());
    assert.deepEqual(await preflightModule(good, { signal }), {
      kind: 'accepted',
      abi: '0_2_1',
      warnings: [],
    });
    const large = await workspace.write('large.wasm', pluginModule({ memories: [{ min: 2 }] }));
    assert.deepEqual(codesOf(await preflightModule(large, { maxMemoryPages: 1, signal })).refusals, [
      'memory_over_limit',
    ]);
  });

  test('that is not there is an error, not a verdict', async () => {
    await assert.rejects(preflightModule(workspace.path('none.wasm'), { signal }), { code: 'ENOENT' });
  });

  test('is not read after the caller has given up', async () => {
    const path = await workspace.write('unread.wasm', pluginModule());
    const reason = new Error('given up');
    await assert.rejects(preflightModule(path, { signal: AbortSignal.abort(reason) }), reason);
  });

  test('is validated by V8 only when asked to, and V8 only warns', async () => {
    // `proxy_on_configure` leaves nothing on the stack: no engine takes that.
    const bytes = pluginModule({ functions: [exported('proxy_on_configure', [i32, i32], [i32], [0x01])] });
    const path = await workspace.write('invalid-code.wasm', bytes);
    const unasked = await inspectModule(path, { signal });
    assert.deepEqual(codesOf(unasked.verdict), { refusals: [], warnings: [] });
    assert.equal(unasked.summary?.functionCount, 5);
    const asked = await inspectModule(path, { validateUpToBytes: bytes.byteLength, signal });
    assert.deepEqual(codesOf(asked.verdict), { refusals: [], warnings: ['v8_validate_failed'] });
    const tooLarge = await inspectModule(path, { validateUpToBytes: bytes.byteLength - 1, signal });
    assert.deepEqual(codesOf(tooLarge.verdict).warnings, []);
    const good = await workspace.write('valid-code.wasm', pluginModule());
    const validated = await inspectModule(good, { validateUpToBytes: 10_000, signal });
    assert.deepEqual(codesOf(validated.verdict).warnings, []);
  });

  test('that is no module has a verdict and no summary', async () => {
    const path = await workspace.write('text.wasm', 'not a module');
    const { summary, verdict } = await inspectModule(path, { limits: { maxMemoryPages: 1 }, signal });
    assert.equal(summary, undefined);
    assert.deepEqual(codesOf(verdict).refusals, ['not_wasm']);
  });
});
