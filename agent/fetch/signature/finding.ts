import type { Sha256 } from '../../../cache/types.ts';
import { describeError } from '../../log.ts';
import { abortFailure } from '../network-failure.ts';
import { FetchError, type FetchErrorCode } from '../types.ts';
import type { RegistryAccess } from './registry-access.ts';
import type { RefusalCode, RefusalReason } from './verdict.ts';

/** Where signatures of one image are looked for. */
export interface SearchPlace {
  readonly access: RegistryAccess;
  /** `oci://registry/repository`, for messages. */
  readonly repository: string;
  /** Of the index or manifest whose signatures are wanted. */
  readonly digest: Sha256;
  readonly signal: AbortSignal;
}

/** What a search comes upon. */
export type Finding<Candidate> =
  | { readonly kind: 'candidate'; readonly candidate: Candidate }
  /** Something that is no usable signature; trying again does not help. */
  | { readonly kind: 'reason'; readonly reason: RefusalReason }
  /** The registry could not be asked; trying again may help. */
  | { readonly kind: 'trouble'; readonly error: FetchError };

/** The most signatures of one form that are looked at for one digest. Each costs a request or two. */
export const maxSignatureCount = 32;

/** Failures that are about what the registry holds: they stay when it is asked again. */
const contentCodes: Partial<Record<FetchErrorCode, RefusalCode>> = {
  not_found: 'missing',
  digest_mismatch: 'altered',
  too_large: 'too_large',
};

/** A failed read as a finding. Throws what is no FetchError, and all failures once the signal is aborted. */
export function failedRead(
  error: unknown,
  place: { readonly lookedFor: string; readonly where: string; readonly signal: AbortSignal },
): Extract<Finding<never>, { kind: 'reason' | 'trouble' }> {
  if (!(error instanceof FetchError)) throw error;
  const { lookedFor, where, signal } = place;
  if (signal.aborted) throw abortFailure(signal, `looking for ${lookedFor} at ${where}`);
  const code = contentCodes[error.code];
  if (code === undefined) {
    const options = {
      cause: error,
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    };
    const message = `could not look for ${lookedFor} at ${where}: ${describeError(error)}`;
    return { kind: 'trouble', error: new FetchError(error.code, message, options) };
  }
  const advice = 'delete it and sign the image again';
  return { kind: 'reason', reason: { code, lookedFor, where, seen: error.message, advice } };
}
