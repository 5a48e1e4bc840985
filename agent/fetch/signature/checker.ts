import type { KeylessVerifier } from './keyless.ts';
import type { SignerKey } from './public-key.ts';
import type { KeySigner } from './signer.ts';
import type { Fault, RefusalReason, SignatureProof } from './verdict.ts';

/** A signer, with what has to be made once for all its checks. */
export type Checker =
  | { readonly kind: 'key'; readonly signer: KeySigner }
  | { readonly kind: 'keyless'; readonly verifier: KeylessVerifier };

/** What one signature is worth for one signer. */
export type Check =
  | { readonly kind: 'good'; readonly proof: SignatureProof; readonly claimedReference: string | undefined }
  | { readonly kind: 'bad'; readonly reason: RefusalReason };

/** `what` with the name of the signer whose it should be. */
export function signatureOf(checker: Checker, what: string): string {
  return `${what} of the signer ${JSON.stringify(signerName(checker))}`;
}

/** The name that the policy gives the signer. */
export function signerName(checker: Checker): string {
  return checker.kind === 'key' ? checker.signer.name : checker.verifier.signer.name;
}

/** The fault of a signature that no key of a signer made. */
export function notSignedByKeys(keys: readonly SignerKey[]): Fault {
  const shown = keys.slice(0, 3).map(({ id, algorithms }) => `${id.slice(0, 12)} (${algorithms.join(', ')})`);
  const rest = keys.length > shown.length ? ` and ${keys.length - shown.length} more` : '';
  const isEdwards = keys.some(({ algorithms }) => algorithms.includes('ed25519'));
  const hint = isEdwards
    ? '; Ed25519ph, which cosign makes with Ed25519 keys by default, cannot be verified: use an ECDSA P-256 key'
    : '';
  return {
    code: 'wrong_signature',
    seen: `no key of the signer made it over these bytes; the keys are ${shown.join(', ')}${rest}`,
    advice: `sign the image with a key of the signer, or name the key that was used${hint}`,
  };
}
