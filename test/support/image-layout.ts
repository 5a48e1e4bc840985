import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Content } from './scripted-server.ts';

/**
 * How a module is put into an image. `compat` and `compat-docker` are images with a tar+gzip layer that holds
 * plugin.wasm, `oci-artifact` is the two-layer artifact (all three: solo-io/wasm, spec/README.md and
 * spec/spec-compat.md), `cncf` is the CNCF TAG Runtime artifact, `wasm-to-oci` is what that tool pushes.
 */
export type ImageLayout = 'compat' | 'compat-docker' | 'oci-artifact' | 'cncf' | 'wasm-to-oci';

/** One blob of an image before it has a digest. */
export interface ImagePart {
  readonly mediaType: string;
  readonly content: Content;
}

/** The parts of an image; the module is in the last layer. */
export interface ImageParts {
  readonly manifestMediaType: string;
  readonly indexMediaType: string;
  readonly config: ImagePart;
  readonly layers: readonly ImagePart[];
}

export const ociManifestType = 'application/vnd.oci.image.manifest.v1+json';
export const ociIndexType = 'application/vnd.oci.image.index.v1+json';
export const dockerManifestType = 'application/vnd.docker.distribution.manifest.v2+json';
export const dockerListType = 'application/vnd.docker.distribution.manifest.list.v2+json';

/** A fixed time makes the same module the same layer. */
const entryTime = new Date(0);

/** Makes the parts of an image. A packed layer is written to `layerPath`, which is the caller's to remove. */
export async function buildImageParts(
  layout: ImageLayout,
  module: Content,
  layerPath: string,
): Promise<ImageParts> {
  const oci = { manifestMediaType: ociManifestType, indexMediaType: ociIndexType };
  const runnable = {
    architecture: 'amd64',
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: [] },
  };
  switch (layout) {
    case 'compat':
      return {
        ...oci,
        config: jsonPart('application/vnd.oci.image.config.v1+json', runnable),
        layers: [
          {
            mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
            content: await packLayer(module, layerPath),
          },
        ],
      };
    case 'compat-docker':
      return {
        manifestMediaType: dockerManifestType,
        indexMediaType: dockerListType,
        config: jsonPart('application/vnd.docker.container.image.v1+json', runnable),
        layers: [
          {
            mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
            content: await packLayer(module, layerPath),
          },
        ],
      };
    case 'oci-artifact':
      return {
        ...oci,
        config: jsonPart('application/vnd.unknown.config.v1+json', {}),
        layers: [
          jsonPart('application/vnd.module.wasm.config.v1+json', {
            type: 'envoy_proxy',
            abiVersions: ['0.2.1'],
          }),
          { mediaType: 'application/vnd.module.wasm.content.layer.v1+wasm', content: module },
        ],
      };
    case 'cncf':
      return {
        ...oci,
        config: jsonPart('application/vnd.wasm.config.v0+json', { architecture: 'wasm', os: 'wasip1' }),
        layers: [{ mediaType: 'application/wasm', content: module }],
      };
    case 'wasm-to-oci':
      return {
        ...oci,
        config: jsonPart('application/vnd.wasm.config.v1+json', {}),
        layers: [{ mediaType: 'application/vnd.wasm.content.layer.v1+wasm', content: module }],
      };
    default:
      return layout satisfies never;
  }
}

function jsonPart(mediaType: string, document: unknown): ImagePart {
  return { mediaType, content: { kind: 'bytes', bytes: Buffer.from(JSON.stringify(document)) } };
}

/** Writes a tar+gzip layer with plugin.wasm as its only entry, as a stream. */
async function packLayer(module: Content, path: string): Promise<Content> {
  const tar = pack();
  const sizeBytes = module.kind === 'bytes' ? module.bytes.byteLength : module.sizeBytes;
  const output = createWriteStream(path);
  const written = pipeline(tar, createGzip(), output);
  const entry = tar.entry({ name: 'plugin.wasm', size: sizeBytes, mtime: entryTime, mode: 0o644 });
  const source = module.kind === 'bytes' ? [module.bytes] : createReadStream(module.path);
  await pipeline(source, entry);
  tar.finalize();
  await written;
  return { kind: 'file', path, sizeBytes: output.bytesWritten };
}
