import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Authority } from '../support/certificate-authority/authority.ts';
import type { Resource } from '../support/control-plane/discovery-messages.ts';
import { ProtoWriter } from '../support/control-plane/proto-writer.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { poll } from '../support/polling.ts';
import { modes, skipReason } from './gateway.ts';
import { MeshSidecar } from './mesh-sidecar.ts';

/** ProxyConfig of the mesh, as istiod sends it with several roots (`ca_certificates_pem`, field 34). */
function proxyConfig(...certificates: readonly string[]): Resource {
  const writer = new ProtoWriter();
  for (const certificate of certificates) writer.text(34, certificate);
  return { name: '', typeUrl: typeUrls.pcds, value: writer.finish() };
}

for (const mode of modes) {
  describe(`the trust bundle of the mesh over ${mode}`, { skip: skipReason }, () => {
    test('a workload of another root is served once istiod has sent that root, and until it takes it away', async (t) => {
      const sidecar = await MeshSidecar.start(t, { mode, env: { PROXY_CONFIG_XDS_AGENT: 'true' } });
      const { controlPlane, authorities } = sidecar;
      const stranger = Authority.createRoot('another root of the mesh');
      // The stranger trusts the sidecar; whether the sidecar trusts it is what changes.
      const ask = async () => sidecar.exchange(stranger);
      await assert.rejects(ask(), /alert|closed/);

      const serve = (...certificates: readonly string[]) =>
        controlPlane.applyWorld(controlPlane.world.with(proxyConfig(...certificates)));
      const both = [authorities.workloads.certificate, stranger.certificate];
      await controlPlane.waitForAck('pcds', { version: serve(...both).version });
      const { statusLine } = await poll(async () => ({ done: true, value: await ask() }) as const, {
        what: 'Service to a workload of the other root',
        deadlineMs: 20_000,
      });
      assert.equal(statusLine, 'HTTP/1.1 200 OK');
      assert.equal((await sidecar.exchange()).statusLine, 'HTTP/1.1 200 OK');

      const broken = serve(authorities.workloads.certificate, 'no certificate');
      const nack = await controlPlane.waitForNack('pcds', { version: broken.version });
      assert.match(nack.message, /text 2 of the trust bundle is no PEM certificate/);
      assert.equal((await ask()).statusLine, 'HTTP/1.1 200 OK');

      await controlPlane.waitForAck('pcds', { version: serve(authorities.workloads.certificate).version });
      await poll(
        async () => {
          const answer = await ask().catch(() => undefined);
          return answer === undefined
            ? { done: true, value: undefined }
            : { done: false, seen: answer.statusLine };
        },
        { what: 'The end of service to a workload of the other root', deadlineMs: 20_000 },
      );
      assert.equal((await sidecar.exchange()).statusLine, 'HTTP/1.1 200 OK');
    });
  });
}
