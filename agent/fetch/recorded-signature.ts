import type { Sha256 } from '../../cache/types.ts';
import { isSha256 } from './pin.ts';
import { printable, type SignatureProof } from './signature/verdict.ts';

/** A good signature on an image, as it is kept: it holds as long as the same signers are asked for. Holds no secret. */
export interface RecordedSignature {
  /** Name of the set of signers that were asked for: `signerSetId`. */
  readonly signerSet: Sha256;
  /** Name of the signer in the policy. */
  readonly signer: string;
  readonly proof: SignatureProof;
  /** What was signed: the image's manifest, or an index above it. */
  readonly signed: 'index' | 'manifest';
  readonly signedDigest: Sha256;
}

/** Signer sets of one image that are remembered: policies change seldom, and two rules may share a repository. */
const maxSignatureCount = 8;

/** Both lists, one signature for each set of signers, the newest last. */
export function joinSignatures(
  older: readonly RecordedSignature[] | undefined,
  newer: readonly RecordedSignature[] | undefined,
): readonly RecordedSignature[] {
  const bySet = new Map<Sha256, RecordedSignature>();
  for (const each of [...(older ?? []), ...(newer ?? [])]) {
    bySet.delete(each.signerSet);
    bySet.set(each.signerSet, each);
  }
  return [...bySet.values()].slice(-maxSignatureCount);
}

/** The signature for people: whose, by which key or certificate, and on what. */
export function describeSignature({ signer, proof, signed }: RecordedSignature): {
  readonly signer: string;
  readonly proof: string;
} {
  return { signer, proof: `${describeProof(proof)}, on the ${signed}` };
}

function describeProof(proof: SignatureProof): string {
  switch (proof.kind) {
    case 'key':
      return `key ${proof.keyId.slice(0, 12)}`;
    case 'keyless':
      return `certificate for ${printable(proof.subject)} by ${printable(proof.issuer)}`;
    default:
      return proof satisfies never;
  }
}

/** True for a signature as this or another version of the agent has stored it. */
export function isRecordedSignature(value: unknown): value is RecordedSignature {
  const record = fieldsOf(value);
  const signed = record.get('signed');
  return (
    isDigest(record.get('signerSet')) &&
    typeof record.get('signer') === 'string' &&
    isProof(fieldsOf(record.get('proof'))) &&
    (signed === 'index' || signed === 'manifest') &&
    isDigest(record.get('signedDigest'))
  );
}

function isProof(proof: ReadonlyMap<string, unknown>): boolean {
  switch (proof.get('kind')) {
    case 'key':
      return typeof proof.get('keyId') === 'string';
    case 'keyless':
      return typeof proof.get('issuer') === 'string' && typeof proof.get('subject') === 'string';
    default:
      return false;
  }
}

function fieldsOf(value: unknown): ReadonlyMap<string, unknown> {
  return new Map(typeof value === 'object' && value !== null ? Object.entries(value) : []);
}

function isDigest(value: unknown): value is Sha256 {
  return typeof value === 'string' && isSha256(value);
}
