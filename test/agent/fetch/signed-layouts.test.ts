import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { referrersTag } from '../../../agent/fetch/signature/bundle.ts';
import { signatureTag } from '../../../agent/fetch/signature/simple-signing.ts';
import { FetchError } from '../../../agent/fetch/types.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, type StoredManifest } from './image-registry.ts';
import { ImageSigner } from './image-signer.ts';
import { type LayoutImage, writeLayout } from './layout-folder.ts';
import { pluginLayer, wasmModule } from './module-bytes.ts';

const release = new ImageSigner('release');
const stranger = new ImageSigner('stranger');
const module = wasmModule('in a layout');
const layer = await pluginLayer(module);
/** Nobody listens there. */
const absent = '127.0.0.1:9';
const name = `${absent}/team/plugin:v1`;
const repository = `${absent}/team/plugin`;

interface Saved {
  /** Beside the image itself. */
  readonly images: readonly LayoutImage[];
  readonly blobs: readonly Uint8Array[];
  /** Default: the whole name. */
  readonly imageName?: string;
  /** Below the folder that is configured. */
  readonly place?: string;
}

/** An image alone, which is to be signed. */
function made(): { readonly registry: ImageRegistry; readonly image: StoredManifest } {
  const registry = new ImageRegistry();
  return { registry, image: registry.image([{ mediaType: ociTarGzip, bytes: layer }]) };
}

function classic(
  signer: ImageSigner,
  registry: ImageRegistry,
  { digest }: StoredManifest,
  entry: (digest: string) => Omit<LayoutImage, 'image'>,
): Pick<Saved, 'images' | 'blobs'> {
  return {
    images: [{ image: signer.sign(registry, digest), ...entry(digest) }],
    blobs: [signer.classic(digest).payload],
  };
}

type Save = (registry: ImageRegistry, image: StoredManifest, signer: ImageSigner) => Saved;

/** How signatures come to be in a folder. */
const ways: Readonly<Record<string, Save>> = {
  'a signature by its whole name': (registry, image, signer) =>
    classic(signer, registry, image, (digest) => ({ name: `${repository}:${signatureTag(digest)}` })),
  'a signature by its tag alone': (registry, image, signer) =>
    classic(signer, registry, image, (digest) => ({ name: signatureTag(digest) })),
  'a signature in the folder of its repository': (registry, image, signer) => ({
    ...classic(signer, registry, image, (digest) => ({ name: signatureTag(digest) })),
    imageName: 'v1',
    place: join(absent, 'team/plugin'),
  }),
  'a signature that "cosign save" has put there, under the name of the image': (registry, image, signer) =>
    classic(signer, registry, image, () => ({
      name,
      annotations: { kind: 'dev.cosignproject.cosign/sigs' },
    })),
  'a bundle that refers to the image, in no list': (registry, image, signer) => {
    const { artifact, bundle } = signer.signBundle(registry, image);
    return { images: [{ image: artifact }], blobs: [bundle] };
  },
  'a bundle in a list under the referrers tag': (registry, image, signer) => {
    const { artifact, list, bundle } = signer.signBundle(registry, image);
    return {
      images: [{ image: list, name: referrersTag(image.digest) }],
      blobs: [artifact.bytes, bundle],
    };
  },
};

describe('an image of a layout folder that must be signed, while no registry is there', () => {
  /** Fetches the image from a folder with what is saved there. */
  async function fetchFrom(save: Save, signer: ImageSigner) {
    const folder = await mkdtemp(join(tmpdir(), 'ferry-layout-'));
    const { registry, image } = made();
    const { images, blobs, imageName = name, place = '' } = save(registry, image, signer);
    await writeLayout(join(folder, place), [{ image, name: imageName }, ...images], [layer, ...blobs]);
    const signers = await release.signers();
    const layouts = [{ path: folder, timeoutMs: 5_000 }];
    try {
      await using fixture = await FetchFixture.open({
        settings: { module: () => ({ layouts, mirrors: [] }), signersFor: () => ({ signers }) },
      });
      const fetched = await fixture.fetch(`oci://${name}`);
      return { fetched, bytes: await readFile(fetched.path) };
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  for (const [way, save] of Object.entries(ways)) {
    it(`is served with ${way}`, async () => {
      const { fetched, bytes } = await fetchFrom(save, release);
      assert.deepEqual(bytes, module);
      assert.deepEqual([fetched.source, fetched.signature?.signer], ['layout', 'release']);
    });

    it(`is not served with ${way} of somebody else`, async () => {
      await assert.rejects(fetchFrom(save, stranger), (error) => error instanceof FetchError);
    });
  }

  it('is not served without a signature, and it is told where one was looked for', async () => {
    await assert.rejects(
      fetchFrom(() => ({ images: [], blobs: [] }), release),
      (error: FetchError) => {
        // The origin has the last word, and cannot be asked.
        assert.equal(error.code, 'network');
        assert.match(
          error.message,
          /tried before: layout \S+: could not verify the signature of manifest sha256:[0-9a-f]{64}: layout \S+: looked for a cosign signature at .*no such tag.*And /s,
        );
        return true;
      },
    );
  });

  it('is served although another manifest of the folder is gone', async () => {
    const withGap: Save = (registry, image, signer) => {
      const bundled = ways['a bundle that refers to the image, in no list'] ?? assert.fail();
      const { images, blobs } = bundled(registry, image, signer);
      const gone = registry.image([{ mediaType: ociTarGzip, bytes: Buffer.from('gone') }]);
      return { images: [{ image: { ...gone, digest: 'f'.repeat(64) } }, ...images], blobs };
    };
    assert.equal((await fetchFrom(withGap, release)).fetched.signature?.signer, 'release');
  });
});
