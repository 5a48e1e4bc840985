import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { preflightModule } from '../../../../agent/wasm/preflight/preflight.ts';
import type { Verdict } from '../../../../agent/wasm/preflight/verdict.ts';
import { envoyBinary } from '../../../support/envoy.ts';
import { buildHeaderPlugin, buildPlugin, buildPluginWithoutAbi } from '../../../support/plugin-build.ts';
import { acceptedModules } from '../../../support/wasm-fixtures/accepted-modules.ts';
import { crashingModules } from '../../../support/wasm-fixtures/crashing-modules.ts';
import { runInEnvoy } from '../../../support/wasm-fixtures/envoy-validation.ts';
import { allExports, hostAbiModules } from '../../../support/wasm-fixtures/host-abi-modules.ts';
import { i32, i64 } from '../../../support/wasm-fixtures/module-builder.ts';
import { exported, importedFunction, pluginModule } from '../../../support/wasm-fixtures/plugin-module.ts';
import {
  type EnvoyVerdict,
  type PreflightCase,
  rejectedCase,
} from '../../../support/wasm-fixtures/preflight-case.ts';
import { rejectedModules, trappingModule } from '../../../support/wasm-fixtures/rejected-modules.ts';
import { unreadableModules } from '../../../support/wasm-fixtures/unreadable-modules.ts';
import { createWorkspace, type Workspace } from '../../../support/workspace.ts';

const envoy = envoyBinary();
const basicAuthConfiguration = JSON.stringify({
  basic_auth_rules: [{ prefix: '/private', request_methods: ['GET'], credentials: ['user:password'] }],
});
const { signal } = new AbortController();

let workspace: Workspace;

before(async () => {
  workspace = await createWorkspace();
});
after(() => workspace.close());

/** What Envoy would do according to us. */
function expectationOf(verdict: Verdict): EnvoyVerdict {
  if (verdict.kind === 'accepted') return 'accepts';
  return verdict.reasons.some(({ code }) => code.startsWith('crash_class')) ? 'crashes' : 'rejects';
}

/** Both verdicts on one module file. */
async function compare(modulePath: string, configuration = '') {
  const path = envoy.path ?? assert.fail('runs only with Envoy');
  const verdict = await preflightModule(modulePath, { signal });
  const run = await runInEnvoy(path, workspace, { modulePath, configuration });
  return { verdict, run, context: `${JSON.stringify(verdict)}\n${run.log}` };
}

async function compareBytes(bytes: Uint8Array) {
  return compare(await workspace.write(`${randomUUID()}.wasm`, bytes));
}

/** A plugin of the shape in which Envoy looks this export up, with a signature of no host. */
function withMistyped(name: string, shape: { readonly isReactor: boolean }): Uint8Array {
  const functions = new Map(
    (shape.isReactor
      ? [exported('_initialize', [], [])]
      : [exported('proxy_on_memory_allocate', [i32], [i32])]
    ).map((each) => [each.exportedAs?.[0] ?? '', each]),
  );
  functions.set(name, exported(name, [i64, i64], [i64]));
  return pluginModule({ without: shape.isReactor ? [] : ['malloc'], functions: [...functions.values()] });
}

/** Each export that Envoy looks up, alone with a wrong signature; what both shapes share is tried in one. */
const mistypedExports: readonly PreflightCase[] = [true, false].flatMap((isReactor) =>
  allExports('0_2_1', { isReactor, hasMalloc: isReactor }).flatMap(({ exportedAs }) => {
    const name = exportedAs?.[0] ?? '';
    if (!isReactor && /^(?:proxy_on_(?!memory)|proxy_validate|envoy_)/.test(name)) return [];
    const shape = isReactor ? 'reactor' : 'command';
    const build = (): Uint8Array => withMistyped(name, { isReactor });
    return [rejectedCase(`has a mistyped ${name}, as a ${shape}`, ['mistyped_export'], build)];
  }),
);

const cases = [
  ...hostAbiModules,
  ...acceptedModules,
  ...unreadableModules,
  ...rejectedModules,
  ...crashingModules,
  ...mistypedExports,
];

describe('our verdict and that of a real Envoy agree', { skip: envoy.skipReason, concurrency: 2 }, () => {
  for (const each of cases) {
    test(`on a module that ${each.name}`, async () => {
      const { verdict, run, context } = await compareBytes(each.build());
      assert.equal(run.verdict, each.envoy, context);
      assert.equal(expectationOf(verdict), each.envoy, context);
    });
  }

  for (const [what, build, configuration] of [
    ['basic-auth plugin', () => buildPlugin(), basicAuthConfiguration],
    ['header plugin', () => buildHeaderPlugin('preflight'), '{"response_headers":{}}'],
  ] as const) {
    test(`on the ${what}, built with AssemblyScript`, async () => {
      const { verdict, run, context } = await compare((await build()).path, configuration);
      assert.deepEqual(verdict, { kind: 'accepted', abi: '0_2_1', warnings: [] }, context);
      assert.equal(run.verdict, 'accepts', context);
    });
  }

  test('on the plugin without an ABI version, built with AssemblyScript', async () => {
    const { verdict, run, context } = await compare((await buildPluginWithoutAbi()).path);
    assert.equal(verdict.kind === 'refused' && verdict.reasons[0]?.code, 'no_abi_export', context);
    assert.equal(run.verdict, 'rejects', context);
  });
});

describe('what Envoy says', { skip: envoy.skipReason }, () => {
  test('of a mistyped import is what we say of it', async () => {
    const bytes = pluginModule({ imports: [importedFunction('env', 'proxy_log', [i32, i64], [i32])] });
    const { verdict, run, context } = await compareBytes(bytes);
    assert.match(
      run.log,
      /env\.proxy_log, want: i32 i64 -> i32, but host exports: i32 i32 i32 -> i32/,
      context,
    );
    const [reason] = verdict.kind === 'refused' ? verdict.reasons : [];
    assert.match(
      reason?.message ?? '',
      /"env"\."proxy_log" as i32 i64 -> i32; Envoy offers i32 i32 i32 -> i32/,
    );
  });

  test('of a mistyped export is what we say of it', async () => {
    const { verdict, run, context } = await compareBytes(
      pluginModule({ functions: [exported('proxy_on_log', [i32, i32], [])] }),
    );
    assert.match(
      run.log,
      /proxy_on_log, want: i32 -> void, but the module exports: i32 i32 -> void/,
      context,
    );
    const [reason] = verdict.kind === 'refused' ? verdict.reasons : [];
    assert.match(reason?.message ?? '', /"proxy_on_log" as i32 i32 -> void; Envoy calls it as i32 -> void/);
  });

  test('of code that traps when it starts is only known by running it', async () => {
    const { verdict, run, context } = await compareBytes(trappingModule());
    assert.equal(verdict.kind, 'accepted', context);
    assert.equal(run.verdict, 'rejects', context);
  });
});
