import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildPlugin, buildPluginWithoutAbi } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

for (const mode of modes) {
  describe(`a plugin that Envoy refuses over ${mode}`, { skip: skipReason }, () => {
    test('is reported to istiod, the one before keeps serving, and a listener update is accepted', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const [good, bad] = await Promise.all([buildPlugin(), buildPluginWithoutAbi()]);
      const { registry, controlPlane } = gateway;
      const image = { repository: 'wasm/a', layout: 'compat' } as const;
      const { url: goodUrl } = await registry.pushImage({ ...image, tag: 'good', wasm: good.path });
      const { url: badUrl } = await registry.pushImage({ ...image, tag: 'bad', wasm: bad.path });

      gateway.apply([wasmPlugin({ name: 'a', url: goodUrl, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);
      const refused = wasmPlugin({ name: 'a', url: badUrl, pluginConfig: basicAuthConfig });
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
      const bad = await buildPluginWithoutAbi();
      const { url } = await gateway.registry.pushImage({
        repository: 'wasm/a',
        tag: 'bad',
        layout: 'compat',
        wasm: bad.path,
      });
      const { version } = gateway.apply([wasmPlugin({ name: 'a', url })]);
      await gateway.controlPlane.waitForNack('ecds', { version });
      await gateway.until('/productpage', 403);
      const update = gateway.changeListener('http.changed');
      await gateway.controlPlane.waitForAck('lds', { version: update.version });
      assert.equal(await gateway.status('/productpage'), 403);
    });
  });
}
