import type { Sha256 } from '../../../cache/types.ts';
import { abortFailure } from '../network-failure.ts';
import { type OciReference, referenceText, repositoryName } from '../oci/reference.ts';
import type { FetchError } from '../types.ts';
import { type BundleSignature, checkBundle, findBundles } from './bundle.ts';
import { type Check, type Checker, signerName } from './checker.ts';
import type { Finding, SearchPlace } from './finding.ts';
import { KeylessVerifier } from './keyless.ts';
import type { RegistryAccess } from './registry-access.ts';
import type { Signer } from './signer.ts';
import { type ClassicSignature, checkClassic, findClassic } from './simple-signing.ts';
import type { RefusalReason, SignatureForm, SignatureVerdict } from './verdict.ts';

/** What a reference was resolved to, every digest verified against its bytes on the way (`oci/source.ts` ResolvedImage). */
export interface ImageChain {
  /** Every index on the way, outermost first; empty when the reference named a manifest. */
  readonly indexDigests: readonly Sha256[];
  readonly manifestDigest: Sha256;
}

export interface VerifyImageOptions {
  readonly access: RegistryAccess;
  /** For messages. */
  readonly reference: OciReference;
  readonly chain: ImageChain;
  /** Any one of them suffices. */
  readonly signers: readonly Signer[];
  readonly signal: AbortSignal;
}

/** A refusal that tells more is not read. */
const maxReasonCount = 24;

/**
 * Looks for a signature of one of the signers on the image: on its manifest, or on an index above it, whose signature
 * covers the child that was chosen from it. Both forms of cosign are known. Only the registry is asked.
 *
 * The verdict is about what the registry holds. When it could not be asked, and nothing else gave a good signature,
 * this throws FetchError with the code of that failure, so that it is tried again and not taken for a refusal.
 */
export async function verifyImage(options: VerifyImageOptions): Promise<SignatureVerdict> {
  const { access, reference, chain, signers, signal } = options;
  if (signers.length === 0) return { kind: 'refused', reasons: [noSigner(reference)] };
  const checkers = signers.map(toChecker);
  const outcome = new SearchOutcome();
  for (const { digest, signed } of signedDigests(chain)) {
    const place: SearchPlace = { access, repository: repositoryName(reference), digest, signal };
    for (const form of forms) {
      for await (const finding of form.find(place)) {
        if (signal.aborted)
          throw abortFailure(signal, `verifying the signature of ${referenceText(reference)}`);
        if (finding.kind !== 'candidate') {
          outcome.note(finding);
          continue;
        }
        for (const checker of checkers) {
          const check = await finding.candidate.check(checker);
          if (check.kind === 'good') {
            const { proof, claimedReference } = check;
            const signer = signerName(checker);
            return {
              kind: 'verified',
              signer,
              proof,
              form: form.name,
              signed,
              signedDigest: digest,
              claimedReference,
            };
          }
          outcome.note({ kind: 'reason', reason: check.reason });
        }
      }
    }
  }
  return outcome.verdict();
}

interface SignedDigest {
  readonly digest: Sha256;
  readonly signed: 'index' | 'manifest';
}

/** Outermost first: what a tag names is what people sign. */
function signedDigests(chain: ImageChain): readonly SignedDigest[] {
  const indexes = chain.indexDigests.map((digest) => ({ digest, signed: 'index' }) as const);
  return [...indexes, { digest: chain.manifestDigest, signed: 'manifest' }];
}

/** A signature that was found, of either form. */
interface Candidate {
  check(checker: Checker): Promise<Check>;
}

interface Form {
  readonly name: SignatureForm;
  find(place: SearchPlace): AsyncGenerator<Finding<Candidate>>;
}

/** The classic one first: it costs one request where there is none. */
const forms: readonly Form[] = [
  {
    name: 'classic',
    find: (place) =>
      withCheck(findClassic(place), (found: ClassicSignature, checker) =>
        checkClassic(found, place.digest, checker),
      ),
  },
  {
    name: 'bundle',
    find: (place) =>
      withCheck(findBundles(place), (found: BundleSignature, checker) =>
        checkBundle(found, place.digest, checker),
      ),
  },
];

async function* withCheck<Found>(
  findings: AsyncIterable<Finding<Found>>,
  check: (found: Found, checker: Checker) => Promise<Check>,
): AsyncGenerator<Finding<Candidate>> {
  for await (const finding of findings) {
    if (finding.kind !== 'candidate') yield finding;
    else {
      const { candidate } = finding;
      yield { kind: 'candidate', candidate: { check: (checker) => check(candidate, checker) } };
    }
  }
}

function toChecker(signer: Signer): Checker {
  switch (signer.kind) {
    case 'key':
      return { kind: 'key', signer };
    case 'keyless':
      return { kind: 'keyless', verifier: new KeylessVerifier(signer) };
    default:
      return signer satisfies never;
  }
}

function noSigner(reference: OciReference): RefusalReason {
  return {
    code: 'no_signer',
    lookedFor: 'a signer',
    where: 'the policy',
    seen: `it wants ${referenceText(reference)} signed, but names nobody who may sign it`,
    advice: 'add a signer to the policy',
  };
}

/** Gathers what was seen until a good signature is found, if one is. */
class SearchOutcome {
  readonly #reasons: RefusalReason[] = [];
  #leftOutCount = 0;
  #trouble: FetchError | undefined;

  note(finding: Exclude<Finding<never>, { kind: 'candidate' }>): void {
    if (finding.kind === 'trouble') this.#trouble ??= finding.error;
    else if (this.#reasons.length < maxReasonCount) this.#reasons.push(finding.reason);
    else this.#leftOutCount += 1;
  }

  /** The refusal; throws FetchError when a place could not be looked at. */
  verdict(): SignatureVerdict {
    if (this.#trouble !== undefined) throw this.#trouble;
    if (this.#leftOutCount === 0) return { kind: 'refused', reasons: this.#reasons };
    const rest: RefusalReason = {
      code: 'too_many',
      lookedFor: 'a signature',
      where: 'the same places',
      seen: `${this.#leftOutCount} more did not help`,
      advice: 'remove old signatures',
    };
    return { kind: 'refused', reasons: [...this.#reasons, rest] };
  }
}
