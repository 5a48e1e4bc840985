import type { Sha256 } from '../../../cache/types.ts';
import { readBounded } from '../bounded-body.ts';
import { sha256Of } from '../oci/reference.ts';
import type { ManifestAnswer, ManifestTarget } from '../oci/registry.ts';
import { type FetchLimits, StatusFailure } from '../retry.ts';
import { FetchError } from '../types.ts';

/** What names a blob to be read whole. */
export interface BlobName {
  readonly digest: Sha256;
  readonly sizeBytes: number;
}

export type ReferrersAnswer =
  /** Pages of the list, as they come; each is an index. */
  | { readonly kind: 'listed'; readonly pages: readonly Uint8Array[]; readonly isComplete: boolean }
  /** The registry does not have that API; the list is under a tag then. */
  | { readonly kind: 'absent'; readonly reason: string };

/** What verification needs of a registry, for one repository and one credential. */
export interface RegistryAccess {
  /** Undefined when the registry says that there is none. Throws FetchError. */
  getManifest(
    target: ManifestTarget,
    options: { readonly signal: AbortSignal },
  ): Promise<ManifestAnswer | undefined>;
  /** The blob whole, its size and digest verified. Throws FetchError, `not_found` when there is none. */
  getBlob(blob: BlobName, options: { readonly signal: AbortSignal }): Promise<Uint8Array>;
  /** What refers to a manifest, of one artifact type where the registry can tell. Throws FetchError. */
  getReferrers(
    digest: Sha256,
    options: { readonly artifactType: string; readonly maxPageCount: number; readonly signal: AbortSignal },
  ): Promise<ReferrersAnswer>;
}

/** What is asked of a registry session (`oci/registry.ts`). */
export interface SignatureSession {
  manifest(target: ManifestTarget, options: { readonly limits: FetchLimits }): Promise<ManifestAnswer>;
  blob(digest: Sha256, options: { readonly limits: FetchLimits }): AsyncIterable<Uint8Array>;
  /**
   * `GET /v2/<repository>/referrers/sha256:<digest>?artifactType=<type>`, a page at a time. Throws FetchError.
   * A session without it finds bundles by the fallback tag only.
   */
  referrers?(
    digest: Sha256,
    options: { readonly artifactType: string; readonly limits: FetchLimits },
  ): AsyncIterable<Uint8Array>;
}

/** Statuses of registries without the referrers API (google/go-containerregistry `pkg/v1/remote/referrers.go`, and 405, 501). */
const absentStatuses: readonly number[] = [400, 404, 405, 406, 501];

/** The registry as verification sees it, by a session that is open. `deadlineAtMs` bounds the retries. */
export function sessionAccess(
  session: SignatureSession,
  options: { readonly deadlineAtMs: FetchLimits['deadlineAtMs'] },
): RegistryAccess {
  const limitsOf = (signal: AbortSignal): FetchLimits => ({ signal, deadlineAtMs: options.deadlineAtMs });
  return {
    async getManifest(target, { signal }) {
      try {
        return await session.manifest(target, { limits: limitsOf(signal) });
      } catch (error) {
        if (error instanceof FetchError && error.code === 'not_found') return undefined;
        throw error;
      }
    },
    async getBlob({ digest, sizeBytes }, { signal }) {
      const body = session.blob(digest, { limits: limitsOf(signal) });
      const bytes = await readBounded(body, { maxSizeBytes: sizeBytes, what: `blob sha256:${digest}` });
      const actual = sha256Of(bytes);
      if (actual !== digest || bytes.byteLength !== sizeBytes) {
        throw new FetchError(
          'digest_mismatch',
          `the registry answered for blob sha256:${digest} (${sizeBytes} bytes) with ${bytes.byteLength} bytes of sha256:${actual}`,
        );
      }
      return bytes;
    },
    async getReferrers(digest, { artifactType, maxPageCount, signal }) {
      if (session.referrers === undefined) {
        return { kind: 'absent', reason: 'this agent does not ask the referrers API of this kind of source' };
      }
      const pages: Uint8Array[] = [];
      try {
        for await (const page of session.referrers(digest, { artifactType, limits: limitsOf(signal) })) {
          if (pages.length >= maxPageCount) return { kind: 'listed', pages, isComplete: false };
          pages.push(page);
        }
      } catch (error) {
        if (!(error instanceof StatusFailure) || !absentStatuses.includes(error.status)) throw error;
        return { kind: 'absent', reason: `the registry has no referrers API (status ${error.status})` };
      }
      return { kind: 'listed', pages, isComplete: true };
    },
  };
}
