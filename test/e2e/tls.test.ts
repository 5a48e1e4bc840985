import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

for (const mode of modes) {
  describe(`a sidecar with istiod over TLS, ${mode}`, { skip: skipReason }, () => {
    test('shows token, cluster and certificate, verifies istiod, and runs a plugin', async (t) => {
      const gateway = await Gateway.start(t, { mode, tls: true, agent: { role: 'sidecar' } });
      const stream = await gateway.controlPlane.waitForStream();
      assert.deepEqual(stream.metadata['authorization'], ['Bearer the-token']);
      assert.deepEqual(stream.metadata['clusterid'], ['Kubernetes']);
      assert.equal(stream.authority, 'istiod.istio-system.svc');
      assert.equal(stream.clientCertificateNames, 'DNS:gateway.default');
      const { path } = await buildPlugin();
      const image = { repository: 'wasm/basic_auth', tag: '1', layout: 'compat', wasm: path } as const;
      const { url } = await gateway.registry.pushImage(image);
      gateway.apply([wasmPlugin({ name: 'basic-auth', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);
    });
  });
}
