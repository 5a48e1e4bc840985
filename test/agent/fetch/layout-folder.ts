import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ociIndex, type StoredManifest } from './image-registry.ts';
import { sha256 } from './module-bytes.ts';

/** One image as a layout names it. */
export interface LayoutImage {
  readonly image: StoredManifest;
  /** Annotation `org.opencontainers.image.ref.name`. */
  readonly name?: string;
  /** Others of its annotations. */
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Writes an OCI layout folder with these blobs and manifests; the named ones are in its index. */
export async function writeLayout(
  folder: string,
  images: readonly LayoutImage[],
  blobs: readonly Uint8Array[],
): Promise<void> {
  const blobFolder = join(folder, 'blobs', 'sha256');
  await mkdir(blobFolder, { recursive: true });
  for (const bytes of [...blobs, ...images.map(({ image }) => image.bytes)]) {
    await writeFile(join(blobFolder, sha256(bytes)), bytes);
  }
  const manifests = images.map(({ image, name, annotations }) => ({
    mediaType: image.mediaType,
    digest: `sha256:${image.digest}`,
    size: image.bytes.byteLength,
    annotations: {
      ...annotations,
      ...(name === undefined ? {} : { 'org.opencontainers.image.ref.name': name }),
    },
  }));
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const index = { schemaVersion: 2, mediaType: ociIndex, manifests };
  await writeFile(join(folder, 'index.json'), JSON.stringify(index));
}
