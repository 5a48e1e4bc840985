import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

for (const mode of modes) {
  describe(`a network filter over ${mode}`, { skip: skipReason }, () => {
    test('is fetched and runs in the filter chain', async (t) => {
      const gateway = await Gateway.start(t, { mode, kind: 'tcp' });
      const { path } = await buildPlugin();
      const image = { repository: 'wasm/l4', tag: '1', layout: 'compat-docker', wasm: path } as const;
      const { url } = await gateway.registry.pushImage(image);
      const plugin = wasmPlugin({ name: 'l4', url, kind: 'network', pluginConfig: basicAuthConfig });
      const { version } = gateway.apply([plugin]);
      await gateway.controlPlane.waitForAck('ecds', { version });
      await gateway.until('/', 200);
      const seen = await gateway.plugin(plugin.name);
      assert.equal(seen?.['state'], 'active');
      assert.equal(seen?.['inForce'], 'plugin');
    });

    test('that cannot be had closes connections when it must', async (t) => {
      const gateway = await Gateway.start(t, { mode, kind: 'tcp' });
      const url = `oci://${gateway.registry.host}/wasm/missing:1`;
      const { version } = gateway.apply([
        wasmPlugin({ name: 'l4', url, kind: 'network', failStrategy: 'FAIL_CLOSE' }),
      ]);
      await gateway.controlPlane.waitForNack('ecds', { version });
      await gateway.untilRefused('/');
      const open = gateway.apply([
        wasmPlugin({ name: 'l4', url, kind: 'network', failStrategy: 'FAIL_OPEN' }),
      ]);
      await gateway.controlPlane.waitForNack('ecds', { version: open.version });
      await gateway.until('/', 200);
    });
  });
}
