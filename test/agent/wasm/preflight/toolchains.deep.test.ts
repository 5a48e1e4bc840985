import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inspectModule } from '../../../../agent/wasm/preflight/preflight.ts';
import { envoyBinary } from '../../../support/envoy.ts';
import { runInEnvoy } from '../../../support/wasm-fixtures/envoy-validation.ts';
import { toolchains } from '../../../support/wasm-fixtures/toolchains.ts';
import { createWorkspace } from '../../../support/workspace.ts';

const { signal } = new AbortController();
const envoy = envoyBinary();

describe('a plugin is accepted, by us and by Envoy,', () => {
  for (const toolchain of toolchains) {
    test(`that is built from ${toolchain.name}`, async (t) => {
      const reason = await toolchain.skipReason();
      if (reason !== undefined) {
        t.skip(reason);
        return;
      }
      await using workspace = await createWorkspace();
      const modulePath = workspace.path('plugin.wasm');
      await toolchain.build(modulePath);
      const { summary, verdict } = await inspectModule(modulePath, { signal });
      assert.equal(verdict.kind, 'accepted', JSON.stringify(verdict));
      t.diagnostic(
        `${summary?.sizeBytes} bytes, ${summary?.imports.length} imports: ${JSON.stringify(verdict)}`,
      );
      if (envoy.path === undefined) {
        t.diagnostic(`not given to Envoy: ${envoy.skipReason}`);
        return;
      }
      const { verdict: seen, log } = await runInEnvoy(envoy.path, workspace, { modulePath });
      assert.equal(seen, 'accepts', log);
    });
  }
});
