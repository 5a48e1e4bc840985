import type { Sha256 } from '../../cache/types.ts';
import type { ModuleSubject } from '../policy/policy.ts';

/** What a policy is asked about one module that was given to Envoy. Holds no secret. */
export interface JudgedModule {
  /** A remote URL is without user info and query. */
  readonly subject: ModuleSubject;
  /** Of its whole chain, as far as it is known: index, manifest, layer, archive and module. */
  readonly digests: readonly Sha256[];
  /** Marks of the signers whose signature was proven (see `signerMark`). */
  readonly signedBy: readonly string[];
}
