import type { Sha256 } from '../../../cache/types.ts';
import type { Descriptor } from './manifest.ts';

/** Value of the annotation `kind` of what cosign saves into a layout (sigstore/cosign `pkg/oci/layout/index.go`). */
const cosignKinds = {
  signatures: 'dev.cosignproject.cosign/sigs',
  attestations: 'dev.cosignproject.cosign/atts',
} as const;

/** A tag made of a digest: it says by itself whose it is, in whatever folder. */
const digestTag = /^sha256-[0-9a-f]{64}(?:\.sig|\.att|\.sbom)?$/;

/** True for a tag under which signatures and the like of one digest are (cosign; distribution spec, "Referrers Tag Schema"). */
export function isDigestTag(tag: string): boolean {
  return digestTag.test(tag);
}

/** True for the tag of classic signatures. */
export function isSignatureTag(tag: string): boolean {
  return digestTag.test(tag) && tag.endsWith('.sig');
}

/** True for what `cosign save` puts beside an image, under the image's own name. */
export function isBesideImage({ annotations }: Descriptor): boolean {
  return Object.values<string | undefined>(cosignKinds).includes(annotations['kind']);
}

/** True for the signatures among it. */
export function isSavedSignatures({ annotations }: Descriptor): boolean {
  return annotations['kind'] === cosignKinds.signatures;
}

/**
 * The entry of a list of referrers for a manifest that refers to `digest`; undefined when it does not, or is no
 * manifest. Loads its schema library with the first call.
 */
export async function asReferrer(
  descriptor: Descriptor,
  manifest: Uint8Array,
  digest: Sha256,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const { referrerSchema } = await import('./manifest-schema.ts');
  const parsed = referrerSchema.safeParse(jsonOf(manifest));
  if (!parsed.success || parsed.data.subject?.digest !== `sha256:${digest}`) return undefined;
  const { artifactType, config, annotations } = parsed.data;
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: descriptor.sizeBytes,
    artifactType: artifactType || config?.mediaType,
    annotations: annotations ?? {},
  };
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}
