import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { componentHeader } from '../agent/fetch/module-bytes.ts';
import { pluginResource } from '../agent/wasm/extension-fixtures.ts';
import type { Resource } from '../support/control-plane/discovery-messages.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildPlugin, buildPluginWithoutAbi } from '../support/plugin-build.ts';
import {
  callLog,
  firstAddedFunction,
  importedLog,
  inner,
  pluginModule,
} from '../support/wasm-fixtures/plugin-module.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

/** Its start section calls a host function, which ends the Envoy process. */
const crashingModule = pluginModule({
  imports: [importedLog],
  functions: [inner([], [], callLog)],
  start: firstAddedFunction(1),
});

async function assertEnvoyNeverSaw(gateway: Gateway): Promise<void> {
  const metrics = await gateway.agent.metrics();
  assert.doesNotMatch(metrics, /ferry_wasm_envoy_rejects_total [1-9]/);
}

for (const mode of modes) {
  describe(`a module that Envoy cannot run over ${mode}`, { skip: skipReason }, () => {
    test('is refused before Envoy sees it, istiod hears why, and the plugin before keeps serving', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { registry, controlPlane, workspace } = gateway;
      const [good, noAbi] = await Promise.all([buildPlugin(), buildPluginWithoutAbi()]);
      const component = await workspace.write(
        'component.wasm',
        Buffer.concat([componentHeader, Buffer.alloc(64)]),
      );
      const crashing = await workspace.write('crashing.wasm', crashingModule);
      const image = { repository: 'wasm/a', layout: 'compat' } as const;
      const { url } = await registry.pushImage({ ...image, tag: 'good', wasm: good.path });
      gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);

      const rows: readonly (readonly [string, string, RegExp])[] = [
        ['no-abi', noAbi.path, /was not given to Envoy.*exports no ABI version.*\(no_abi_export\)/s],
        ['component', component, /WebAssembly component/],
        ['crashing', crashing, /start section calls.*\(crash_class_start_hostcall\)/s],
      ];
      for (const [tag, wasm, reason] of rows) {
        const { url: badUrl } = await registry.pushImage({ ...image, tag, wasm });
        const bad = wasmPlugin({ name: 'a', url: badUrl, pluginConfig: basicAuthConfig });
        const { version } = gateway.apply([bad]);
        const nack = await controlPlane.waitForNack('ecds', { version });
        assert.ok(nack.message.startsWith(`${bad.name}: `), nack.message);
        assert.match(nack.message, reason);
        assert.equal(await gateway.status('/productpage'), 401);
      }
      await assertEnvoyNeverSaw(gateway);
      await gateway.untilMetric(/ferry_wasm_preflight_refusals_total\{code="no_abi_export"\} 1/);
    });

    test('that is a file or stands in the config is refused too, and a sound one serves', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const [good, noAbi] = await Promise.all([buildPlugin(), buildPluginWithoutAbi()]);
      const name = 'local.plugin';
      const extension = (fixture: Parameters<typeof pluginResource>[0]): Resource => {
        const configuration = JSON.stringify(basicAuthConfig);
        const { typeUrl, value } = pluginResource({ name, configuration, ...fixture });
        return { name, typeUrl, value: Buffer.from(value) };
      };
      const push = (fixture: Parameters<typeof pluginResource>[0]): { readonly version: string } =>
        gateway.apply([], [extension(fixture)]);

      const first = push({ code: 'local', path: good.path });
      await gateway.controlPlane.waitForAck('ecds', { version: first.version });
      await gateway.until('/productpage', 401);
      for (const [fixture, reason] of [
        [{ code: 'local', path: noAbi.path }, /local Wasm module .*no_abi_export/s],
        [
          { code: 'local', path: '/nowhere/plugin.wasm' },
          /it is not there; mount it into the proxy container/,
        ],
        [{ code: 'inline', bytes: crashingModule }, /inline Wasm module .*crash_class_start_hostcall/s],
      ] as const) {
        const { version } = push(fixture);
        const nack = await gateway.controlPlane.waitForNack('ecds', { version });
        assert.match(nack.message, reason);
        assert.equal(await gateway.status('/productpage'), 401);
      }
      await assertEnvoyNeverSaw(gateway);

      const inline = push({ code: 'inline', bytes: pluginModule() });
      await gateway.controlPlane.waitForAck('ecds', { version: inline.version });
      await gateway.until('/productpage', 200);
    });

    test('as a first plugin is replaced by its fail strategy, and mended by a new image of the tag', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { registry, controlPlane } = gateway;
      const [good, noAbi] = await Promise.all([buildPlugin(), buildPluginWithoutAbi()]);
      const image = { repository: 'wasm/a', tag: 'moving', layout: 'compat' } as const;
      const { url } = await registry.pushImage({ ...image, wasm: noAbi.path });
      const refused = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await controlPlane.waitForNack('ecds', { version: refused.version });
      await gateway.until('/productpage', 403);

      // By the cache's rules the tag would not be asked for again; a module that was refused is no answer.
      await registry.pushImage({ ...image, wasm: good.path });
      const again = wasmPlugin({ name: 'a', url, pluginConfig: { ...basicAuthConfig, realm: 'again' } });
      const { version } = gateway.apply([again]);
      await controlPlane.waitForAck('ecds', { version });
      await gateway.until('/productpage', 401);
    });
  });
}
