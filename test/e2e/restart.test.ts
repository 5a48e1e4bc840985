import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

async function guarded(gateway: Gateway): Promise<void> {
  const { path } = await buildPlugin();
  const { url } = await gateway.registry.pushImage({
    repository: 'wasm/basic_auth',
    tag: '1.12.0',
    layout: 'oci-artifact',
    wasm: path,
  });
  const { version } = gateway.apply([wasmPlugin({ name: 'basic-auth', url, pluginConfig: basicAuthConfig })]);
  await gateway.until('/productpage', 401);
  await gateway.controlPlane.waitForAck('ecds', { version });
}

for (const mode of modes) {
  describe(`restarts over ${mode}`, { skip: skipReason }, () => {
    test('traffic stays guarded while the control plane is away, and it comes back in sync', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      await guarded(gateway);
      const { controlPlane } = gateway;
      const last = controlPlane.openStreams.at(-1)?.id ?? 0;
      await controlPlane.stop();
      assert.equal(await gateway.status('/productpage'), 401);
      await controlPlane.start();
      const stream = await controlPlane.waitForStream({ after: last, timeoutMs: 40_000 });
      await controlPlane.waitForAck('ecds', { streamId: stream.id });
      assert.equal(await gateway.status('/productpage'), 401);
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 0);
      await gateway.untilMetric(/^istio_agent_wasm_remote_fetch_count\{result="success"\} 1$/);
    });

    for (const how of ['stop', 'kill'] as const) {
      test(`the same volumes serve the plugin after a ${how}, with the registry down`, async (t) => {
        const gateway = await Gateway.start(t, { mode });
        await guarded(gateway);
        await gateway.registry.close();
        await gateway.restartAgent(how);
        await gateway.until('/productpage', 401);
        assert.equal(await gateway.status('/other'), 200);
      });
    }

    test('the agent ends when its Envoy ends, and leaves nothing running', async (t) => {
      const gateway = await Gateway.start(t, { mode });
      await gateway.agent.admin.post('/quitquitquit');
      const exit = await gateway.agent.exited;
      assert.equal(exit.code, 0);
    });
  });
}
