import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, goodCredentials, modes, skipReason } from './gateway.ts';

for (const mode of modes) {
  describe(`a plugin on a gateway over ${mode}`, { skip: skipReason }, () => {
    test('guards a path from the moment it is applied to the moment it is deleted', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { path } = await buildPlugin();
      const { url } = await gateway.registry.pushImage({
        repository: 'wasm/basic_auth',
        tag: '1.12.0',
        layout: 'compat',
        wasm: path,
      });

      const { version } = gateway.apply([
        wasmPlugin({ name: 'basic-auth', url, pluginConfig: basicAuthConfig }),
      ]);
      await gateway.until('/productpage', 401);
      assert.equal(await gateway.status('/productpage', { authorization: goodCredentials }), 200);
      assert.equal(await gateway.status('/other'), 200);
      await gateway.controlPlane.waitForAck('ecds', { version });

      const changed = {
        basic_auth_rules: [
          { prefix: '/other', request_methods: ['GET'], credentials: ['YWRtaW4zOmFkbWluMw=='] },
        ],
      };
      gateway.apply([wasmPlugin({ name: 'basic-auth', url, pluginConfig: changed })]);
      await gateway.until('/other', 401);
      assert.equal(await gateway.status('/productpage'), 200);

      gateway.apply([]);
      await gateway.until('/other', 200);
      assert.equal(gateway.controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 0);

      await gateway.untilMetric(/^istio_agent_wasm_config_conversion_count\{result="success"\} 2$/);
      await gateway.untilMetric(/^istio_agent_wasm_remote_fetch_count\{result="success"\} 1$/);
      await gateway.untilMetric(/^istio_agent_wasm_cache_entries 1$/);
      await gateway.untilMetric(/^istio_agent_wasm_cache_lookup_count\{hit="true"\} [1-9]/);
    });

    for (const [failStrategy, status] of [
      ['FAIL_CLOSE', 403],
      ['FAIL_OPEN', 200],
    ] as const) {
      test(`a missing image with ${failStrategy} answers ${status} and istiod hears of it`, async (t) => {
        const gateway = await Gateway.start(t, { mode });
        const url = `oci://${gateway.registry.host}/wasm/missing:1.0.0`;
        const plugin = wasmPlugin({ name: 'missing', url, failStrategy });
        const { version } = gateway.apply([plugin]);
        const nack = await gateway.controlPlane.waitForNack('ecds', { version });
        assert.ok(nack.message.includes(plugin.name), nack.message);
        assert.ok(nack.message.includes('wasm/missing'), nack.message);
        assert.equal(gateway.controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 1);
        await gateway.until('/productpage', status);
        const seen = await gateway.untilInForce(plugin.name, 'fallback');
        assert.equal(seen['state'], 'failed');
        assert.ok(String(seen['lastError']).includes('wasm/missing'));
      });
    }

    test('a filter in JSON form, as an EnvoyFilter may give it, guards as one in binary form', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { path } = await buildPlugin();
      const image = { repository: 'wasm/basic_auth', tag: 'json', layout: 'compat', wasm: path } as const;
      const { url } = await gateway.registry.pushImage(image);
      for (const typedStruct of ['udpa', 'xds'] as const) {
        const plugin = wasmPlugin({ name: typedStruct, url, pluginConfig: basicAuthConfig, typedStruct });
        const { version } = gateway.apply([plugin]);
        await gateway.until('/productpage', 401);
        assert.equal(await gateway.status('/productpage', { authorization: goodCredentials }), 200);
        await gateway.controlPlane.waitForAck('ecds', { version });
        gateway.apply([]);
        await gateway.until('/productpage', 200);
      }
      assert.equal(gateway.controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 0);
    });

    test('a plugin comes to life when its image appears, with no change at istiod', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { path } = await buildPlugin();
      const url = `oci://${gateway.registry.host}/wasm/late:1.0.0`;
      const { version } = gateway.apply([wasmPlugin({ name: 'late', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/other', 403);
      await gateway.registry.pushImage({
        repository: 'wasm/late',
        tag: '1.0.0',
        layout: 'oci-artifact',
        wasm: path,
      });
      await gateway.until('/other', 200);
      assert.equal(await gateway.status('/productpage'), 401);
      await gateway.controlPlane.waitForAck('ecds', { version });
    });
  });
}
