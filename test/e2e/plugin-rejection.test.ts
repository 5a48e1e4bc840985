import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

/** The plugin itself refuses it, in `proxy_on_configure`: nothing before Envoy can know. */
const refusedConfig = { basic_auth_rules: [] };

for (const mode of modes) {
  describe(`a plugin that Envoy refuses over ${mode}`, { skip: skipReason }, () => {
    test('is reported to istiod, the one before keeps serving, and a listener update is accepted', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { path } = await buildPlugin();
      const { registry, controlPlane } = gateway;
      const { url } = await registry.pushImage({
        repository: 'wasm/a',
        tag: '1',
        layout: 'compat',
        wasm: path,
      });

      gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);
      const refused = wasmPlugin({ name: 'a', url, pluginConfig: refusedConfig });
      const { version } = gateway.apply([refused]);
      const nack = await controlPlane.waitForNack('ecds', { version });
      assert.ok(nack.message.startsWith(`${refused.name}: `), nack.message);
      assert.match(nack.message, /Unable to create Wasm plugin|Wasm/);
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 1);
      assert.equal(await gateway.status('/productpage'), 401);

      const update = gateway.changeListener('http.changed');
      await controlPlane.waitForAck('lds', { version: update.version });
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'lds'), 0);
      assert.equal(await gateway.status('/productpage'), 401);
      assert.equal(
        controlPlane.counter('pilot_total_xds_rejects', 'ecds'),
        1,
        'the repair is between agent and Envoy',
      );
    });

    test('as a first plugin is replaced by its stand-in, and a listener update is accepted', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { path } = await buildPlugin();
      const { url } = await gateway.registry.pushImage({
        repository: 'wasm/a',
        tag: '1',
        layout: 'compat',
        wasm: path,
      });
      const { version } = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: refusedConfig })]);
      await gateway.controlPlane.waitForNack('ecds', { version });
      await gateway.until('/productpage', 403);
      const update = gateway.changeListener('http.changed');
      await gateway.controlPlane.waitForAck('lds', { version: update.version });
      assert.equal(await gateway.status('/productpage'), 403);
    });
  });
}
