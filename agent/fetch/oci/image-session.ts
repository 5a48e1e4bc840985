import type { Sha256 } from '../../../cache/types.ts';
import type { ByteStream } from '../byte-stream.ts';
import type { FetchLimits } from '../retry.ts';

/** A manifest as it was served. */
export interface ManifestAnswer {
  readonly bytes: Uint8Array;
  /** Computed over the bytes; what the server claims is not looked at. */
  readonly digest: Sha256;
  readonly mediaType: string | undefined;
}

/** Which manifest of the repository. */
export type ManifestTarget =
  | { readonly kind: 'tag'; readonly tag: string }
  | { readonly kind: 'digest'; readonly digest: Sha256 };

/** One repository at one place, for one credential: a registry, or a folder. */
export interface ImageSession {
  /** Where the bytes come from, as they are counted. */
  readonly origin: 'layout' | 'oci';
  /** True when a credential was asked for and taken: what was read is then for its holders only. */
  readonly isCredentialUsed: boolean;
  /** Reads a manifest whole and verifies the digest that was asked for. Throws FetchError. */
  manifest(target: ManifestTarget, options: { readonly limits: FetchLimits }): Promise<ManifestAnswer>;
  /** The bytes of a blob; not verified, the reader does that. Throws FetchError. */
  blob(digest: Sha256, options: { readonly limits: FetchLimits }): ByteStream;
  /**
   * The list of what refers to a manifest, a page at a time, each an index that is not verified. Throws FetchError, a
   * StatusFailure where a registry has no such list.
   */
  listReferrers(
    digest: Sha256,
    options: { readonly artifactType: string; readonly limits: FetchLimits },
  ): AsyncIterable<Uint8Array>;
  /** The digest that a tag has, by the place's own word; undefined when it gives none. Throws FetchError. */
  claimedDigest?(
    tag: string,
    options: { readonly knownDigest: Sha256; readonly limits: FetchLimits },
  ): Promise<Sha256 | undefined>;
}
