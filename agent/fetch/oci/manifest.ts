import type { Sha256 } from '../../../cache/types.ts';
import { describeError } from '../../log.ts';
import { FetchError } from '../types.ts';

/** What a manifest or index says about one thing it holds. Nothing of it is verified yet. */
export interface Descriptor {
  readonly mediaType: string;
  /** With its algorithm, as written. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly platform: Platform | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
}

/** A manifest that was read. */
export type Manifest =
  | { readonly kind: 'index'; readonly mediaType: string; readonly manifests: readonly Descriptor[] }
  | {
      readonly kind: 'image';
      readonly mediaType: string;
      /** What the image says it is: its own word (OCI 1.1), else the type of its config. */
      readonly artifactType: string | undefined;
      readonly config: Descriptor | undefined;
      readonly layers: readonly Descriptor[];
    };

export const ociIndexType = 'application/vnd.oci.image.index.v1+json';
export const ociManifestType = 'application/vnd.oci.image.manifest.v1+json';
export const dockerListType = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const dockerManifestType = 'application/vnd.docker.distribution.manifest.v2+json';

/** Value of `accept` for manifests: all kinds that registries hold, also the old one, so that it can be explained. */
export const manifestAccept = [
  ociIndexType,
  dockerListType,
  ociManifestType,
  dockerManifestType,
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
  'application/vnd.docker.distribution.manifest.v1+json',
].join(', ');

/** Largest manifest that is read: what the distribution specification asks registries to take. */
export const maxManifestBytes = 4 * 1024 * 1024;

/** Loads the schema library before it is needed. Never throws: the first manifest tells what is wrong. */
export async function warmManifestParser(): Promise<void> {
  await import('./manifest-schema.ts').catch(() => undefined);
}

/**
 * Reads a manifest or index of the OCI or Docker (schema 2) kind. `mediaType` is what the server called it; the
 * document's own word and shape decide. Loads its schema library with the first call. Throws FetchError `bad_manifest`.
 */
export async function parseManifest(bytes: Uint8Array, mediaType: string | undefined): Promise<Manifest> {
  const { manifestSchema } = await import('./manifest-schema.ts');
  const refuse = (reason: string): FetchError => new FetchError('bad_manifest', `the manifest ${reason}`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const served = mediaType === undefined ? 'no content type' : `content type ${mediaType.slice(0, 80)}`;
    throw new FetchError(
      'bad_manifest',
      `the answer is no manifest: it is not JSON (${served}); check that the URL names a registry`,
      { cause: error },
    );
  }
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refuse(
      `is malformed at ${issue?.path.join('.') || 'its top'}: ${issue?.message ?? describeError(parsed.error)}`,
    );
  }
  const document = parsed.data;
  // A null is an absent field, as Go writes and reads it.
  const layers = document.layers ?? undefined;
  const manifests = document.manifests ?? undefined;
  if (document.schemaVersion === 1 || document.fsLayers !== undefined) {
    throw refuse(
      'is of Docker schema 1, which is not supported; push the image with a client of this decade',
    );
  }
  if (layers !== undefined && manifests !== undefined) {
    throw refuse('has both "layers" and "manifests", so its meaning is not sure; push the image again');
  }
  const declared = document.mediaType ?? mediaType ?? '';
  if (manifests !== undefined) {
    if (document.mediaType === ociManifestType || document.mediaType === dockerManifestType) {
      throw refuse(`calls itself ${document.mediaType} but is an index; push the image again`);
    }
    return { kind: 'index', mediaType: declared, manifests: manifests.map(toDescriptor) };
  }
  if (layers !== undefined) {
    if (document.mediaType === ociIndexType || document.mediaType === dockerListType) {
      throw refuse(`calls itself ${document.mediaType} but is an image; push the image again`);
    }
    const config = document.config ? toDescriptor(document.config) : undefined;
    const artifactType = document.artifactType || config?.mediaType;
    return { kind: 'image', mediaType: declared, artifactType, config, layers: layers.map(toDescriptor) };
  }
  throw refuse('has neither "layers" nor "manifests"; it is no image');
}

interface RawDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: Platform | null | undefined;
  readonly annotations?: Readonly<Record<string, string>> | null | undefined;
}

function toDescriptor(raw: RawDescriptor): Descriptor {
  return {
    mediaType: raw.mediaType,
    digest: raw.digest,
    sizeBytes: raw.size,
    platform: raw.platform ?? undefined,
    annotations: raw.annotations ?? {},
  };
}

/** The hex digest of a descriptor; undefined for algorithms other than SHA-256 and for malformed ones. */
export function descriptorSha256(descriptor: Descriptor): Sha256 | undefined {
  return /^sha256:([0-9a-f]{64})$/.exec(descriptor.digest)?.[1];
}
