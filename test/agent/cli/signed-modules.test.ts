import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { ociTarGzip, type StoredManifest } from '../fetch/image-registry.ts';
import { ImageSigner } from '../fetch/image-signer.ts';
import { writeLayout } from '../fetch/layout-folder.ts';
import { pluginLayer } from '../fetch/module-bytes.ts';
import { FetchCommands, goodModule } from './wasm-fetch-fixture.ts';

const release = new ImageSigner('release');
const stranger = new ImageSigner('stranger');
const layer = await pluginLayer(goodModule());

/** An image behind a policy that asks for the signature of `release`. */
async function scene(
  t: TestContext,
): Promise<{ commands: FetchCommands; image: StoredManifest; policy: string }> {
  const commands = await FetchCommands.start(t);
  const image = commands.registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
  await writeFile(join(commands.folder, 'release.pub'), release.key.publicKeyPem);
  const path = join(commands.folder, 'policy.yaml');
  const { host } = commands.server;
  await writeFile(
    path,
    `version: 1
defaultAction: deny
modules:
  - registry: ${host}
    action: allow
    signers: [release]
signers:
  release:
    key: { publicKeyFiles: [release.pub] }
registries:
  "${host}":
    plainHttp: true
`,
  );
  return { commands, image, policy: `--policy=${path}` };
}

describe('a module that a policy wants signed', () => {
  test('is inspected and pulled with the signature, and who signed it is told', async (t) => {
    const { commands, image, policy } = await scene(t);
    release.sign(commands.registry, image.digest);
    const { code, document } = await commands.inspect(commands.url('v1'), policy);
    assert.equal(code, 0, JSON.stringify(document));
    assert.equal(document.signature.kind, 'verified');
    assert.equal(document.signature.signer, 'release');
    const text = await commands.run(['inspect', commands.url('v1'), policy]);
    assert.match(text.stdout, /^signature {2}verified: release, key [0-9a-f]{12}, on the manifest$/m);
    const pulled = await commands.pull(commands.url('v1'), policy);
    assert.equal(pulled.code, 0, pulled.stderr);
  });

  test('is refused without it, by inspect with all the rest that is known of it', async (t) => {
    const { commands, image, policy } = await scene(t);
    for (const sign of [() => undefined, () => stranger.sign(commands.registry, image.digest)]) {
      sign();
      const { code, document } = await commands.inspect(commands.url('v1'), policy);
      assert.equal(code, 1);
      assert.equal(document.signature.kind, 'refused', JSON.stringify(document.signature));
      assert.equal(document.fetch.kind, 'fetched');
      assert.equal(document.module?.preflight.kind, 'accepted');
      const pulled = await commands.pull(commands.url('v1'), policy);
      assert.equal(pulled.code, 1);
      assert.match(pulled.stderr, /nothing was pulled: .*signature/);
    }
  });

  test('of which the signature cannot be asked for is not called unsigned', async (t) => {
    const { commands, policy } = await scene(t);
    commands.registry.fail('GET /v2/acme/plugin/manifests/sha256-', (_, response) => {
      response.writeHead(403).end();
      return true;
    });
    const { code, document } = await commands.inspect(commands.url('v1'), policy);
    assert.equal(code, 1);
    assert.equal(document.signature.kind, 'unknown', JSON.stringify(document.signature));
  });

  test('is found signed in a layout folder too, by the name it has there', async (t) => {
    const { commands, image, policy } = await scene(t);
    const signature = release.sign(commands.registry, image.digest);
    const folder = join(commands.folder, 'layout');
    const name = `${commands.server.host}/acme/plugin`;
    await writeLayout(
      folder,
      [
        { image, name: `${name}:v1` },
        { image: signature, name: `${name}:sha256-${image.digest}.sig` },
      ],
      [layer, release.classic(image.digest).payload],
    );
    const words = [folder, `--image=${name}:v1`, policy];
    const { code, document } = await commands.inspect(...words);
    assert.equal(code, 0, JSON.stringify(document));
    assert.equal(document.signature.signer, 'release');
    assert.equal(document.policy.kind, 'allowed');
  });
});
