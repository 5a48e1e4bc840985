import type { Sha256 } from '../../../cache/types.ts';
import { type Fault, printable } from './verdict.ts';
import { decodeJson } from './wire-text.ts';

/** What cosign calls a statement that an image is signed (sigstore/cosign `pkg/types/predicate.go`). */
export const signPredicateType = 'https://sigstore.dev/cosign/sign/v1';

const statementPayloadType = 'application/vnd.in-toto+json';
const statementTypes: readonly string[] = [
  'https://in-toto.io/Statement/v1',
  'https://in-toto.io/Statement/v0.1',
];

/** The bytes a DSSE signature is over (secure-systems-lab/dsse `protocol.md`, PAE). */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Buffer {
  const typeBytes = Buffer.byteLength(payloadType);
  return Buffer.concat([Buffer.from(`DSSEv1 ${typeBytes} ${payloadType} ${payload.byteLength} `), payload]);
}

/** Why a verified payload does not say that the image with this digest is signed; undefined when it does. */
export async function statementFault(
  payloadType: string,
  payload: Uint8Array,
  digest: Sha256,
): Promise<Fault | undefined> {
  const { statementSchema } = await import('./wire-schema.ts');
  if (payloadType !== statementPayloadType) {
    return otherKind(`its payload is of type ${printable(payloadType)}, not ${statementPayloadType}`);
  }
  const parsed = statementSchema.safeParse(decodeJson(payload));
  if (!parsed.success) {
    return {
      code: 'malformed',
      seen: 'its payload is no in-toto statement',
      advice: 'sign the image again with cosign',
    };
  }
  const { _type, predicateType, subject } = parsed.data;
  if (!statementTypes.includes(_type)) return otherKind(`its statement is of type ${printable(_type)}`);
  if (predicateType !== signPredicateType) {
    return otherKind(`it states ${printable(predicateType)}, not ${signPredicateType}`);
  }
  if (subject.some((each) => each.digest?.['sha256'] === digest)) return undefined;
  const named = subject
    .map((each) => printable(`sha256:${each.digest?.['sha256'] ?? '(none)'}`, 80))
    .slice(0, 3);
  return otherDigest(named.join(', ') || 'nothing', digest);
}

function otherKind(seen: string): Fault {
  return {
    code: 'other_kind',
    seen,
    advice: 'an attestation is no signature; sign the image with "cosign sign"',
  };
}

/** The fault of a good signature over `named` where one over `digest` was wanted. */
export function otherDigest(named: string, digest: Sha256): Fault {
  return {
    code: 'other_digest',
    seen: `it signs ${named}, not sha256:${digest}`,
    advice: 'it was made for another image and put here; sign this image, and find out who moved it',
  };
}
