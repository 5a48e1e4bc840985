import { bundleType, referrersTag } from '../../../agent/fetch/signature/bundle.ts';
import type { Signer } from '../../../agent/fetch/signature/signer.ts';
import { signatureTag } from '../../../agent/fetch/signature/simple-signing.ts';
import { type ImageRegistry, ociIndex, type StoredManifest } from './image-registry.ts';
import {
  type ClassicLayer,
  classicPayload,
  keyBundle,
  makeKey,
  type SigningKey,
  signClassic,
  signStatement,
} from './signature/cosign-signer.ts';
import { signersOf } from './signature/signed-registry.ts';

export const simpleSigningType = 'application/vnd.dev.cosign.simplesigning.v1+json';

/** Somebody with a key of their own who signs images as cosign does. */
export class ImageSigner {
  readonly key: SigningKey = makeKey('P-256');
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** As a policy names who signs. */
  async signers(): Promise<readonly Signer[]> {
    return signersOf([{ kind: 'key', name: this.name, publicKeys: [this.key.publicKeyPem] }]);
  }

  classic(digest: string): ClassicLayer {
    return signClassic(this.key, classicPayload(digest));
  }

  /** Puts a classic signature on `digest` under the tag of `place`, which is the same digest unless it is replayed. */
  sign(registry: ImageRegistry, digest: string, place = digest): StoredManifest {
    return putClassic(registry, place, this.classic(digest));
  }

  bundle(digest: string): Buffer {
    return Buffer.from(JSON.stringify(keyBundle(this.key, signStatement(digest))));
  }

  /** Puts a bundle beside the image and lists it under the referrers tag. */
  signBundle(
    registry: ImageRegistry,
    image: StoredManifest,
  ): { readonly artifact: StoredManifest; readonly list: StoredManifest; readonly bundle: Buffer } {
    const bytes = this.bundle(image.digest);
    const subject = {
      mediaType: image.mediaType,
      digest: `sha256:${image.digest}`,
      size: image.bytes.byteLength,
    };
    const artifact = registry.image([{ mediaType: bundleType, bytes }], {
      artifactType: bundleType,
      subject,
    });
    const { mediaType, digest } = artifact;
    const manifests = [
      { mediaType, digest: `sha256:${digest}`, size: artifact.bytes.byteLength, artifactType: bundleType },
    ];
    const document = { schemaVersion: 2, mediaType: ociIndex, manifests };
    const list = registry.manifest(document, ociIndex, [referrersTag(image.digest)]);
    return { artifact, list, bundle: bytes };
  }
}

/** Puts classic signatures under the tag of a digest, in place of those before. */
export function putClassic(
  registry: ImageRegistry,
  digest: string,
  ...layers: readonly ClassicLayer[]
): StoredManifest {
  const stored = layers.map(({ payload, annotations }) => ({
    mediaType: simpleSigningType,
    bytes: payload,
    annotations,
  }));
  return registry.image(stored, { tags: [signatureTag(digest)] });
}
