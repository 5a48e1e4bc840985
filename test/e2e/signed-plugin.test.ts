import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { signatureTag } from '../../agent/fetch/signature/simple-signing.ts';
import { ImageSigner, simpleSigningType } from '../agent/fetch/image-signer.ts';
import type { ClassicLayer } from '../agent/fetch/signature/cosign-signer.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { ociManifestType } from '../support/image-layout.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { poll } from '../support/polling.ts';
import type { Registry } from '../support/registry.ts';
import { createWorkspace } from '../support/workspace.ts';
import { basicAuthConfig, Gateway, modes, skipReason } from './gateway.ts';

const release = new ImageSigner('release');
const stranger = new ImageSigner('stranger');

/** Puts signatures on a digest, in place of those before. */
async function putSignatures(
  registry: Registry,
  digest: string,
  ...layers: readonly ClassicLayer[]
): Promise<void> {
  const repository = 'wasm/a';
  const put = async (mediaType: string, bytes: Uint8Array) =>
    registry.putBlob(repository, { mediaType, content: { kind: 'bytes', bytes } });
  const config = await put('application/vnd.oci.image.config.v1+json', Buffer.from('{}'));
  const stored = await Promise.all(
    layers.map(async ({ payload, annotations }) => ({
      ...(await put(simpleSigningType, payload)),
      annotations,
    })),
  );
  const manifest = { schemaVersion: 2, mediaType: ociManifestType, config, layers: stored };
  const { digest: made } = registry.putManifest(repository, ociManifestType, manifest);
  registry.setTag(repository, signatureTag(digest), made);
}

const permissive = 'version: 1\ndefaultAction: allow\n';

function policyOf(host: string, signer: string, onTightened: 'keep' | 'failStrategy'): string {
  return `version: 1
defaultAction: allow
modules:
  - url: oci://${host}/wasm/
    action: allow
    signers: [${signer}]
    onTightened: ${onTightened}
signers:
  release: { key: { publicKeyFiles: [release.pub] } }
  stranger: { key: { publicKeyFiles: [stranger.pub] } }
`;
}

async function start(t: TestContext, mode: (typeof modes)[number]) {
  const files = await createWorkspace();
  t.after(() => files.close());
  await files.write('policy/release.pub', release.key.publicKeyPem);
  await files.write('policy/stranger.pub', stranger.key.publicKeyPem);
  const path = await files.write('policy/policy.yaml', permissive);
  const gateway = await Gateway.start(t, { mode, agent: { env: { WASM_POLICY_FILE: path } } });
  const inForce = (): number =>
    gateway.agent.logLines.filter((line) => line.includes('Wasm policy is in force')).length;
  const setPolicy = async (text: string): Promise<void> => {
    const before = inForce();
    await files.write('policy/policy.yaml', text);
    await poll(
      async () =>
        inForce() > before ? { done: true, value: undefined } : { done: false, seen: `${before} policies` },
      { what: 'A new policy in force', deadlineMs: 20_000 },
    );
  };
  return { gateway, setPolicy };
}

for (const mode of modes) {
  describe(`a plugin whose image must be signed over ${mode}`, { skip: skipReason }, () => {
    test('is refused without the right signature, and served with it', async (t) => {
      const { gateway, setPolicy } = await start(t, mode);
      const { registry, controlPlane } = gateway;
      const { path: wasm } = await buildPlugin();
      const image = { repository: 'wasm/a', tag: '1', layout: 'compat', wasm } as const;
      const { url, digest, layerDigest } = await registry.pushImage(image);
      await setPolicy(policyOf(registry.host, 'release', 'keep'));

      const push = (realm: string): { readonly version: string } =>
        gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: { ...basicAuthConfig, realm } })]);
      const unsigned = await controlPlane.waitForNack('ecds', push('unsigned'));
      assert.match(unsigned.message, /has no signature of a signer that the policy asks for.*no such tag/s);
      await gateway.until('/productpage', 403);

      await putSignatures(registry, digest, stranger.classic(digest));
      const wrong = await controlPlane.waitForNack('ecds', push('wrong'));
      assert.match(wrong.message, /no key of the signer made it/);
      await putSignatures(registry, digest, release.classic('d'.repeat(64)));
      const replayed = await controlPlane.waitForNack('ecds', push('replayed'));
      assert.match(replayed.message, /d{64}/);
      const blob = `/v2/wasm/a/blobs/sha256:${layerDigest}`;
      assert.equal(registry.http.requests.filter((each) => each.path === blob).length, 0);

      await putSignatures(registry, digest, release.classic(digest));
      await controlPlane.waitForAck('ecds', push('signed'));
      await gateway.until('/productpage', 401);
      const [{ name }] = [wasmPlugin({ name: 'a', url })];
      const shown = await gateway.plugin(name);
      assert.equal((shown?.['signature'] as { signer: string } | undefined)?.signer, 'release');
    });

    test('keeps serving or gives way when other signers are asked for, and comes back when they have signed', async (t) => {
      const { gateway, setPolicy } = await start(t, mode);
      const { registry, controlPlane } = gateway;
      const { path: wasm } = await buildPlugin();
      const image = { repository: 'wasm/a', tag: '1', layout: 'compat', wasm } as const;
      const { url, digest } = await registry.pushImage(image);
      await putSignatures(registry, digest, release.classic(digest));
      await setPolicy(policyOf(registry.host, 'release', 'keep'));
      const plugin = wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig });
      const { version } = gateway.apply([plugin]);
      await controlPlane.waitForAck('ecds', { version });
      await gateway.until('/productpage', 401);

      await setPolicy(policyOf(registry.host, 'stranger', 'failStrategy'));
      await gateway.until('/productpage', 403);
      await putSignatures(registry, digest, release.classic(digest), stranger.classic(digest));
      const again = { ...basicAuthConfig, realm: 'again' };
      const healed = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: again })]);
      await controlPlane.waitForAck('ecds', { version: healed.version });
      await gateway.until('/productpage', 401);
    });
  });
}
