import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  extensionConfig,
  filterTypeUrls,
  rbacFilter,
  wasmPlugin,
} from '../support/control-plane/extension-configs.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

/** An RBAC filter whose bytes are cut: Envoy refuses it. */
function brokenFilter(name: string) {
  return extensionConfig(name, filterTypeUrls.httpRbac, Buffer.from([0x0a, 0x7f]));
}

for (const mode of modes) {
  describe(`repair over ${mode}`, { skip: skipReason }, () => {
    test('a listener update that Envoy refused beside a refused config comes again', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { controlPlane } = gateway;
      const name = 'my.filter';
      const good = gateway.apply([], [rbacFilter({ name, action: 'allow' })]);
      await controlPlane.waitForAck('ecds', { version: good.version });
      const stream = controlPlane.openStreams.at(-1)?.id ?? 0;
      // Both go into one direction back to back: Envoy sees the listener before the repair.
      gateway.apply([], [brokenFilter(name)]);
      const update = gateway.changeListener('http.changed');
      await gateway.untilListenerRoutes('http.changed');
      assert.equal(await gateway.status('/productpage'), 200);
      const refusedCount = controlPlane.counter('pilot_total_xds_rejects', 'lds');
      if (refusedCount > 0) {
        // Envoy refused it once: it was ended and came back on a new stream.
        const next = await controlPlane.waitForStream({ after: stream });
        await controlPlane.waitForAck('lds', { streamId: next.id });
      } else {
        await controlPlane.waitForAck('lds', { version: update.version });
      }
    });

    test('a restart with a new image that cannot be had keeps the last plugin in force', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { path } = await buildPlugin();
      const { url } = await gateway.registry.pushImage({
        repository: 'wasm/basic_auth',
        tag: '1',
        layout: 'compat',
        wasm: path,
      });
      const { version } = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);
      await gateway.controlPlane.waitForAck('ecds', { version });
      await gateway.agent.stop();
      const missing = wasmPlugin({
        name: 'a',
        url: `oci://${gateway.registry.host}/wasm/missing:1`,
        pluginConfig: basicAuthConfig,
      });
      gateway.apply([missing]);
      await gateway.restartAgent('stop');
      await gateway.until('/productpage', 401);
      assert.equal(await gateway.status('/other'), 200);
      const seen = await gateway.plugin(missing.name);
      assert.equal(seen?.['inForce'], 'last-known-good');
      assert.equal(seen?.['state'], 'failed');
    });

    test('an update that cannot be had interrupts no request', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      const { path } = await buildPlugin();
      const image = { repository: 'wasm/basic_auth', layout: 'compat', wasm: path } as const;
      const { url } = await gateway.registry.pushImage({ ...image, tag: '1' });
      gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);
      const stop = new AbortController();
      const seen = new Map<number, number>();
      const traffic = (async () => {
        while (!stop.signal.aborted) {
          const status = await gateway.status('/productpage');
          seen.set(status, (seen.get(status) ?? 0) + 1);
        }
      })();
      const missing = `oci://${gateway.registry.host}/wasm/missing:1`;
      const failed = gateway.apply([wasmPlugin({ name: 'a', url: missing, pluginConfig: basicAuthConfig })]);
      await gateway.controlPlane.waitForNack('ecds', { version: failed.version });
      const healed = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await gateway.controlPlane.waitForAck('ecds', { version: healed.version });
      stop.abort();
      await traffic;
      assert.deepEqual([...seen.keys()], [401]);
    });
  });
}
