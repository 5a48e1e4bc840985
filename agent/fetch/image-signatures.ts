import type { Sha256 } from '../../cache/types.ts';
import type { ModuleRecord } from './cache-records.ts';
import type { ImageSession } from './oci/image-session.ts';
import { type OciReference, referenceText } from './oci/reference.ts';
import type { RecordedSignature } from './recorded-signature.ts';
import type { FetchLimits } from './retry.ts';
import { describeReasons, type RefusalCode, type RefusalReason } from './signature/verdict.ts';
import type { ImageChain } from './signature/verify-image.ts';
import { FetchError } from './types.ts';
import type { WantedModule, WantedSigners } from './wanted-module.ts';

/** Where signatures of an image are looked for. */
export interface SignaturePlace {
  readonly session: ImageSession;
  readonly reference: OciReference;
  /** For people. */
  readonly name: string;
}

/** No signature that the operator asks for. `refusal` is the most telling of the reasons. */
export class UnsignedFailure extends FetchError {
  readonly refusal: RefusalCode;

  constructor(message: string, refusal: RefusalCode) {
    super('unsigned', message, { result: 'manifest_failure' });
    this.refusal = refusal;
  }
}

/** A file that came over http(s), under a rule that asks for a signature. */
export function unsignable(display: string): UnsignedFailure {
  return new UnsignedFailure(
    `${display}: the policy asks for a signature, and files from http(s) URLs have none; push the module to a registry and sign the image, or list its sha256 in the policy`,
    'unsigned',
  );
}

/** The refusal that a failure comes from, for a metric; undefined when it is none. */
export function refusalOf(error: unknown): RefusalCode | undefined {
  if (error instanceof UnsignedFailure) return error.refusal;
  return error instanceof Error && error.cause !== undefined ? refusalOf(error.cause) : undefined;
}

/** The kept signature that counts for these signers. */
export function recordedFor(record: ModuleRecord, signers: WantedSigners): RecordedSignature | undefined {
  return record.signatures?.find(({ signerSet }) => signerSet === signers.setId);
}

/** True when a cached module may be given out as far as signatures go. */
export function isVerifiedFor(record: ModuleRecord, { signers }: Pick<WantedModule, 'signers'>): boolean {
  return signers === undefined || recordedFor(record, signers) !== undefined;
}

/** What a place had. */
interface Refused {
  /** Of the place. */
  readonly name: string;
  readonly reasons: readonly RefusalReason[];
}

type Outcome =
  | { readonly kind: 'verified'; readonly signature: RecordedSignature }
  | ({ readonly kind: 'refused' } & Refused)
  /** The place could not be asked. */
  | { readonly kind: 'trouble'; readonly error: FetchError };

/**
 * Proves that an image is signed by one of the signers that are wanted; undefined when none are. What is kept of the
 * same manifest and signers counts. Else signatures are looked for at the place that has served the manifest and then
 * at the image's origin, which has the last word: `openOrigin` is undefined when the place is the origin.
 *
 * Throws UnsignedFailure; the FetchError of the origin when it could not be asked, so that it is tried again; and
 * `aborted` or `timeout`. All have the result `manifest_failure`.
 */
export async function proveSignature(options: {
  readonly wanted: WantedModule;
  readonly chain: ImageChain;
  readonly known: ModuleRecord | undefined;
  readonly place: SignaturePlace;
  readonly openOrigin: (() => Promise<SignaturePlace>) | undefined;
  readonly limits: FetchLimits;
}): Promise<RecordedSignature | undefined> {
  const { wanted, chain, known, place, openOrigin, limits } = options;
  const { signers } = wanted;
  if (signers === undefined) return undefined;
  const recorded = known === undefined ? undefined : recordedFor(known, signers);
  if (recorded !== undefined) return recorded;
  const first = await ask(signers, chain, place, limits);
  if (first.kind === 'verified') return first.signature;
  const last =
    openOrigin === undefined || limits.signal.aborted
      ? first
      : await askOrigin(openOrigin, (origin) => ask(signers, chain, origin, limits));
  switch (last.kind) {
    case 'verified':
      return last.signature;
    case 'trouble':
      throw inContext(last.error, chain.manifestDigest, first);
    case 'refused': {
      const refused = [...(first.kind === 'refused' && first !== last ? [first] : []), last];
      throw unsigned(place.reference, chain.manifestDigest, refused);
    }
    default:
      return last satisfies never;
  }
}

async function askOrigin(
  openOrigin: () => Promise<SignaturePlace>,
  asked: (origin: SignaturePlace) => Promise<Outcome>,
): Promise<Outcome> {
  try {
    return await asked(await openOrigin());
  } catch (error) {
    return trouble(error);
  }
}

async function ask(
  { signers, setId }: WantedSigners,
  chain: ImageChain,
  place: SignaturePlace,
  limits: FetchLimits,
): Promise<Outcome> {
  // Most agents verify nothing.
  const [{ verifyImage }, { sessionAccess }] = await Promise.all([
    import('./signature/verify-image.ts'),
    import('./signature/registry-access.ts'),
  ]);
  const { session, reference, name } = place;
  const access = sessionAccess(
    {
      manifest: async (target, each) => session.manifest(target, each),
      blob: (digest, each) => session.blob(digest, each),
      referrers: (digest, each) => session.listReferrers(digest, each),
    },
    limits,
  );
  try {
    const verdict = await verifyImage({ access, reference, chain, signers, signal: limits.signal });
    if (verdict.kind === 'refused') return { kind: 'refused', name, reasons: verdict.reasons };
    const { signer, proof, signed, signedDigest } = verdict;
    return { kind: 'verified', signature: { signerSet: setId, signer, proof, signed, signedDigest } };
  } catch (error) {
    return trouble(error);
  }
}

function trouble(error: unknown): Outcome {
  if (!(error instanceof FetchError)) throw error;
  return { kind: 'trouble', error };
}

function inContext(error: FetchError, manifestDigest: Sha256, first: Outcome): FetchError {
  const before = first.kind === 'refused' ? `${describeRefused(first)}. And ` : '';
  const message = `could not verify the signature of manifest sha256:${manifestDigest}: ${before}${error.message}`;
  return new FetchError(error.code, message, {
    cause: error,
    result: 'manifest_failure',
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
  });
}

function unsigned(
  reference: OciReference,
  manifestDigest: Sha256,
  refused: readonly Refused[],
): UnsignedFailure {
  const told = refused.map(describeRefused);
  const [first] = tellingFirst(refused.flatMap(({ reasons }) => reasons));
  const image = `the image ${referenceText(reference)} (manifest sha256:${manifestDigest})`;
  return new UnsignedFailure(
    `${image} has no signature of a signer that the policy asks for. ${told.join('. ')}`,
    first?.code ?? 'unsigned',
  );
}

function describeRefused({ name, reasons }: Refused): string {
  return `${name}: ${describeReasons(tellingFirst(reasons))}`;
}

/** That there is nothing says less than what is wrong with what there is. */
function tellingFirst(reasons: readonly RefusalReason[]): readonly RefusalReason[] {
  const isPlain = ({ code }: RefusalReason): number => (code === 'unsigned' ? 1 : 0);
  return reasons.toSorted((one, other) => isPlain(one) - isPlain(other));
}
