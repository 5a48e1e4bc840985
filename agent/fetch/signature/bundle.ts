import type { Sha256 } from '../../../cache/types.ts';
import { type Check, type Checker, notSignedByKeys, signatureOf } from './checker.ts';
import { type Finding, failedRead, maxSignatureCount, type SearchPlace } from './finding.ts';
import { isSignedBy, type SignerKey } from './public-key.ts';
import { preAuthEncoding, signPredicateType, statementFault } from './statement.ts';
import { type Fault, printable, type RefusalReason, type SignatureProof } from './verdict.ts';
import { decodeBase64, decodeJson } from './wire-text.ts';

/**
 * The new form of cosign (sigstore/cosign `specs/BUNDLE_SPEC.md`): an artifact that refers to the image, whose layer is
 * a Sigstore bundle with a signed in-toto statement.
 */
export interface BundleSignature {
  readonly where: string;
  /** Parsed JSON, else unchecked. */
  readonly bundle: unknown;
}

/** Artifact and layer type of a bundle. */
export const bundleType = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/** Artifact types in lists; the later ones are guesses. */
const possibleTypes: readonly string[] = [bundleType, 'application/vnd.oci.empty.v1+json', ''];
const predicateKey = 'dev.sigstore.bundle.predicateType';
const lookedFor = 'a signature bundle';
/** A signature's bundle has some kilobytes; only attestations are large. */
const maxBundleBytes = 1024 * 1024;
/** Registries put hundreds of referrers on a page, of at most 4 MiB. */
const maxPageCount = 4;

/** The tag that lists what refers to a digest where the registry cannot (OCI distribution specification, "Referrers Tag Schema"). */
export function referrersTag(digest: Sha256): string {
  return `sha256-${digest}`;
}

/** Finds the signature bundles of a digest. Throws FetchError when the signal is aborted. */
export async function* findBundles(place: SearchPlace): AsyncGenerator<Finding<BundleSignature>> {
  const search = new BundleSearch(place);
  // The API's list, or else the tag's: also where a registry that has learned the API does not list old artifacts.
  yield* search.listed();
  if (!search.isAnyFound) yield* search.tagged();
}

interface Referrer {
  readonly digest: string;
  readonly artifactType?: string | null | undefined;
  readonly annotations?: Readonly<Record<string, string>> | null | undefined;
}

/** One search in one place: it counts what it has looked at. */
class BundleSearch {
  readonly #place: SearchPlace;
  #isAnyFound = false;
  #apiSeen = '';

  constructor(place: SearchPlace) {
    this.#place = place;
  }

  /** True when there was a bundle that can be checked. */
  get isAnyFound(): boolean {
    return this.#isAnyFound;
  }

  async *listed(): AsyncGenerator<Finding<BundleSignature>> {
    const { access, digest, repository, signal } = this.#place;
    const where = `the referrers of ${repository}@sha256:${digest}`;
    const referrers: Referrer[] = [];
    let isComplete = true;
    try {
      const answer = await access.getReferrers(digest, { artifactType: bundleType, maxPageCount, signal });
      if (answer.kind === 'absent') {
        this.#apiSeen = answer.reason;
        return;
      }
      isComplete = answer.isComplete;
      for (const page of answer.pages) {
        const items = await readReferrers(page);
        if (items === undefined) {
          const fault: Fault = {
            code: 'malformed',
            seen: 'the list is no image index',
            advice: 'check that the URL names a registry',
          };
          yield reason(where, fault);
          return;
        }
        referrers.push(...items);
      }
    } catch (error) {
      yield failedRead(error, { lookedFor, where, signal });
      return;
    }
    this.#apiSeen = 'the referrers API lists none';
    yield* this.#read(referrers, where, isComplete);
  }

  async *tagged(): AsyncGenerator<Finding<BundleSignature>> {
    const { access, digest, repository, signal } = this.#place;
    const tag = referrersTag(digest);
    const where = `${repository}:${tag}`;
    const unsigned = (seen: string): Finding<BundleSignature> => {
      const before = this.#apiSeen === '' ? '' : `${this.#apiSeen}, and `;
      return reason(where, {
        code: 'unsigned',
        seen: `${before}${seen}`,
        advice: 'sign the image with cosign',
      });
    };
    try {
      const index = await access.getManifest({ kind: 'tag', tag }, { signal });
      if (index === undefined) {
        yield unsigned('no such tag');
        return;
      }
      const referrers = await readReferrers(index.bytes);
      if (referrers === undefined) {
        const advice = 'delete the tag and sign the image again with cosign';
        yield reason(where, { code: 'malformed', seen: 'what is there is no image index', advice });
        return;
      }
      yield* this.#read(referrers, where, true);
      if (referrers.every((each) => !isSignatureLike(each))) yield unsigned('the tag lists none');
    } catch (error) {
      yield failedRead(error, { lookedFor, where, signal });
    }
  }

  async *#read(
    referrers: readonly Referrer[],
    where: string,
    isComplete: boolean,
  ): AsyncGenerator<Finding<BundleSignature>> {
    const rank = ({ artifactType }: Referrer): number => possibleTypes.indexOf(artifactType ?? '');
    const candidates = referrers.filter(isSignatureLike).sort((one, other) => rank(one) - rank(other));
    for (const referrer of candidates.slice(0, maxSignatureCount)) {
      const finding = await this.#readBundle(referrer);
      if (finding.kind === 'candidate') this.#isAnyFound = true;
      yield finding;
    }
    if (candidates.length <= maxSignatureCount && isComplete) return;
    const count = isComplete ? `${candidates.length}` : `${candidates.length} and more`;
    const seen = `only ${maxSignatureCount} of ${count} bundles were looked at`;
    yield reason(where, { code: 'too_many', seen, advice: 'remove old ones, then sign again' });
  }

  async #readBundle(referrer: Referrer): Promise<Finding<BundleSignature>> {
    const { access, repository, signal } = this.#place;
    const where = `${repository}@${printable(referrer.digest, 80)}`;
    const malformed = (seen: string): Finding<BundleSignature> =>
      reason(where, { code: 'malformed', seen, advice: 'delete it and sign the image again with cosign' });
    const digest = hexOf(referrer.digest);
    if (digest === undefined) return malformed('its digest is not SHA-256');
    try {
      const manifest = await access.getManifest({ kind: 'digest', digest }, { signal });
      if (manifest === undefined) {
        return reason(where, {
          code: 'missing',
          seen: 'it is listed, but not there',
          advice: 'sign the image again with cosign',
        });
      }
      const layer = await readLayer(manifest.bytes);
      if (layer === undefined) {
        const seen = `it has no layer of type ${bundleType}: it is something else`;
        return reason(where, { code: 'other_kind', seen, advice: 'sign the image with cosign' });
      }
      const layerDigest = hexOf(layer.digest);
      if (layerDigest === undefined) return malformed('the digest of its layer is not SHA-256');
      if (layer.size > maxBundleBytes) {
        const seen = `it has ${layer.size} bytes, more than ${maxBundleBytes}`;
        return reason(where, {
          code: 'too_large',
          seen,
          advice: 'a signature is small; sign the image again with cosign',
        });
      }
      const bytes = await access.getBlob({ digest: layerDigest, sizeBytes: layer.size }, { signal });
      const bundle = decodeJson(bytes);
      return bundle === undefined
        ? malformed('it is no JSON')
        : { kind: 'candidate', candidate: { where, bundle } };
    } catch (error) {
      return failedRead(error, { lookedFor, where, signal });
    }
  }
}

/**
 * What may be a signature. Some registries give the config's type for the artifact's, and a list may give none: then it
 * is read to know. Attestations look the same but for a note of what they state.
 */
function isSignatureLike({ artifactType, annotations }: Referrer): boolean {
  if (!possibleTypes.includes(artifactType ?? '')) return false;
  return (annotations?.[predicateKey] ?? signPredicateType) === signPredicateType;
}

async function readReferrers(bytes: Uint8Array): Promise<readonly Referrer[] | undefined> {
  const { referrersSchema } = await import('./wire-schema.ts');
  const parsed = referrersSchema.safeParse(decodeJson(bytes));
  if (!parsed.success || parsed.data.manifests === undefined) return undefined;
  return parsed.data.manifests ?? [];
}

async function readLayer(
  bytes: Uint8Array,
): Promise<{ readonly digest: string; readonly size: number } | undefined> {
  const { signatureManifestSchema } = await import('./wire-schema.ts');
  const parsed = signatureManifestSchema.safeParse(decodeJson(bytes));
  if (!parsed.success) return undefined;
  return parsed.data.layers?.find((layer) => layer.mediaType === bundleType);
}

function hexOf(digest: string): Sha256 | undefined {
  return /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
}

function reason(where: string, fault: Fault): { readonly kind: 'reason'; readonly reason: RefusalReason } {
  return { kind: 'reason', reason: { ...fault, lookedFor, where } };
}

/** Tells whether a bundle is a signature of the signer on the image with this digest. */
export async function checkBundle(found: BundleSignature, digest: Sha256, checker: Checker): Promise<Check> {
  const opened = await openEnvelope(found.bundle, checker);
  const fault =
    opened.kind === 'bad' ? opened.fault : await statementFault(opened.payloadType, opened.payload, digest);
  if (opened.kind === 'good' && fault === undefined) {
    return { kind: 'good', proof: opened.proof, claimedReference: undefined };
  }
  const why = fault ?? noEnvelope;
  return { kind: 'bad', reason: { ...why, lookedFor: signatureOf(checker, lookedFor), where: found.where } };
}

type Opened =
  | {
      readonly kind: 'good';
      readonly proof: SignatureProof;
      readonly payloadType: string;
      readonly payload: Uint8Array;
    }
  | { readonly kind: 'bad'; readonly fault: Fault };

const noEnvelope: Fault = {
  code: 'other_kind',
  seen: 'it is no Sigstore bundle with a DSSE envelope',
  advice: 'sign the image with "cosign sign", not as a blob',
};

/** The signed payload, once its signature is verified: what is read from it is what was signed. */
async function openEnvelope(bundle: unknown, checker: Checker): Promise<Opened> {
  switch (checker.kind) {
    case 'key':
      return openWithKeys(bundle, checker.signer.keys);
    case 'keyless': {
      const { envelopeBundleSchema } = await import('./wire-schema.ts');
      if (!envelopeBundleSchema.safeParse(bundle).success) return { kind: 'bad', fault: noEnvelope };
      const outcome = await checker.verifier.verify(bundle, undefined);
      if (outcome.kind === 'bad') return outcome;
      const { envelope, issuer, subject } = outcome;
      if (envelope === undefined) return { kind: 'bad', fault: noEnvelope };
      return { kind: 'good', proof: { kind: 'keyless', issuer, subject }, ...envelope };
    }
    default:
      return checker satisfies never;
  }
}

async function openWithKeys(bundle: unknown, keys: readonly SignerKey[]): Promise<Opened> {
  const { envelopeBundleSchema } = await import('./wire-schema.ts');
  const parsed = envelopeBundleSchema.safeParse(bundle);
  if (!parsed.success) return { kind: 'bad', fault: noEnvelope };
  const { payload: payloadText, payloadType, signatures } = parsed.data.dsseEnvelope;
  const payload = decodeBase64(payloadText);
  // The bundle specification allows exactly one.
  const signature = signatures.length === 1 ? decodeBase64(signatures[0]?.sig ?? '') : undefined;
  if (payload === undefined || signature === undefined) {
    const seen = 'its envelope has no payload or not exactly one signature in base64';
    return { kind: 'bad', fault: { code: 'malformed', seen, advice: 'sign the image again with cosign' } };
  }
  const signed = preAuthEncoding(payloadType, payload);
  const key = keys.find((each) => isSignedBy(each, signed, signature));
  if (key === undefined) return { kind: 'bad', fault: notSignedByKeys(keys) };
  return { kind: 'good', proof: { kind: 'key', keyId: key.id }, payloadType, payload };
}
