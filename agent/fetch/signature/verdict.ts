import type { Sha256 } from '../../../cache/types.ts';

/** Which of the two ways of keeping signatures in a registry. */
export type SignatureForm = 'classic' | 'bundle';

/** Who made a good signature, as far as it is proven. */
export type SignatureProof =
  /** SHA-256 of the key's SubjectPublicKeyInfo, hex. */
  | { readonly kind: 'key'; readonly keyId: string }
  /** What the certificate says, verified up to the trusted root. */
  | { readonly kind: 'keyless'; readonly issuer: string; readonly subject: string };

export type RefusalCode =
  /** The policy names no signer: nobody can sign. */
  | 'no_signer'
  /** There is no signature at a place. */
  | 'unsigned'
  /** The signature was not made with a key of the signer over these bytes. */
  | 'wrong_signature'
  /** The certificate, its log entry or its timestamp does not hold under the trusted root. */
  | 'wrong_certificate'
  /** The certificate was not valid when the signature was made. */
  | 'expired'
  /** Nothing in the signature proves when it was made, so its certificate may have been expired. */
  | 'unproven_time'
  /** The certificate is good, but of somebody else. */
  | 'wrong_identity'
  /** A good signature of the signer, but over another image. */
  | 'other_digest'
  /** Signed by the signer, but no statement that an image is signed. */
  | 'other_kind'
  /** The bytes of the registry do not have the digest that names them. */
  | 'altered'
  | 'malformed'
  | 'too_large'
  /** More signatures than are looked at. */
  | 'too_many'
  /** It is listed, but the registry does not have it. */
  | 'missing';

/** Why a signature does not count; where it is and what it was, the caller adds. */
export interface Fault {
  readonly code: RefusalCode;
  readonly seen: string;
  readonly advice: string;
}

/** One thing that was looked at and did not help. All texts are for people, safe to print and short. */
export interface RefusalReason extends Fault {
  readonly lookedFor: string;
  readonly where: string;
}

/** What verification of an image came to. A verified one stays verified for the same digests and signers. */
export type SignatureVerdict =
  | {
      readonly kind: 'verified';
      /** Name of the signer. */
      readonly signer: string;
      readonly proof: SignatureProof;
      readonly form: SignatureForm;
      readonly signed: 'index' | 'manifest';
      readonly signedDigest: Sha256;
      /** The image name in a classic signature. Only what the signer wrote: nothing is decided by it. */
      readonly claimedReference: string | undefined;
    }
  | { readonly kind: 'refused'; readonly reasons: readonly RefusalReason[] };

/** Texts of others are printed cut and quoted: anybody can write them. */
const maxPrintedLength = 200;

/** Text of unknown origin made safe for a message: one line, of bounded length. */
export function printable(text: string, maxLength = maxPrintedLength): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}...` : text;
  return JSON.stringify(cut).slice(1, -1);
}

/** An error message goes to istiod and into logs: more does not help there. */
const maxShownReasons = 6;

/** The reasons of a refusal as one line for an error message; a long list is cut. */
export function describeReasons(reasons: readonly RefusalReason[]): string {
  const shown = reasons
    .slice(0, maxShownReasons)
    .map(({ lookedFor, where, seen, advice }) => `looked for ${lookedFor} at ${where}: ${seen}; ${advice}`);
  const rest = reasons.length - shown.length;
  return [...shown, ...(rest > 0 ? [`And ${rest} more`] : [])].join('. ');
}
