import type { Sha256 } from '../../../cache/types.ts';
import { type Check, type Checker, notSignedByKeys, signatureOf } from './checker.ts';
import { classicBundle } from './classic-bundle.ts';
import { type Finding, failedRead, maxSignatureCount, type SearchPlace } from './finding.ts';
import { isSignedBy } from './public-key.ts';
import { otherDigest } from './statement.ts';
import { type Fault, printable, type RefusalReason } from './verdict.ts';
import { decodeBase64, decodeJson } from './wire-text.ts';

/**
 * The classic form of cosign (sigstore/cosign `specs/SIGNATURE_SPEC.md`): an image under a tag made from the digest,
 * each layer of it a signed payload with the signature in an annotation.
 */
export interface ClassicSignature {
  readonly where: string;
  /** What is signed, byte for byte. */
  readonly payload: Buffer;
  readonly signature: Buffer;
  /** Of the layer: certificate and proofs of a keyless signature. */
  readonly annotations: Readonly<Record<string, string>>;
}

const layerType = 'application/vnd.dev.cosign.simplesigning.v1+json';
const signatureKey = 'dev.cosignproject.cosign/signature';
const payloadType = 'cosign container image signature';
const lookedFor = 'a cosign signature';

/** A payload is some 250 bytes, plus what the signer adds. */
const maxPayloadBytes = 64 * 1024;

/** The tag under which the signatures of a manifest or index are. */
export function signatureTag(digest: Sha256): string {
  return `sha256-${digest}.sig`;
}

/** Finds the classic signatures of a digest, the newest first. Throws FetchError when the signal is aborted. */
export async function* findClassic(place: SearchPlace): AsyncGenerator<Finding<ClassicSignature>> {
  const { access, digest, signal } = place;
  const tag = signatureTag(digest);
  const where = `${place.repository}:${tag}`;
  let layers: readonly SignatureLayer[];
  try {
    const manifest = await access.getManifest({ kind: 'tag', tag }, { signal });
    if (manifest === undefined) {
      yield reason(where, { code: 'unsigned', seen: 'no such tag', advice: 'sign the image with cosign' });
      return;
    }
    const read = await readLayers(manifest.bytes);
    if (!Array.isArray(read)) {
      yield reason(where, read);
      return;
    }
    layers = read;
  } catch (error) {
    yield failedRead(error, { lookedFor, where, signal });
    return;
  }
  // cosign adds new ones at the end.
  const newest = layers.slice(-maxSignatureCount).toReversed();
  for (const layer of newest) yield await readSignature(layer, place, where);
  if (newest.length < layers.length) {
    const seen = `only the newest ${newest.length} of ${layers.length} signatures were looked at`;
    yield reason(where, {
      code: 'too_many',
      seen,
      advice: 'remove old ones ("cosign clean"), then sign again',
    });
  }
}

interface SignatureLayer {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>> | null | undefined;
}

async function readLayers(bytes: Uint8Array): Promise<SignatureLayer[] | Fault> {
  const { signatureManifestSchema } = await import('./wire-schema.ts');
  const parsed = signatureManifestSchema.safeParse(decodeJson(bytes));
  const advice = 'delete the tag and sign the image again with cosign';
  if (!parsed.success) return { code: 'malformed', seen: 'what is there is no image manifest', advice };
  const layers = (parsed.data.layers ?? []).filter((layer) => layer.mediaType === layerType);
  if (layers.length === 0) return { code: 'malformed', seen: `it has no layer of type ${layerType}`, advice };
  return layers;
}

async function readSignature(
  layer: SignatureLayer,
  place: SearchPlace,
  tagName: string,
): Promise<Finding<ClassicSignature>> {
  const where = `${tagName}, layer ${printable(layer.digest, 80)}`;
  const advice = 'delete the signature and sign the image again with cosign';
  const [, digest] = /^sha256:([0-9a-f]{64})$/.exec(layer.digest) ?? [];
  if (digest === undefined)
    return reason(where, { code: 'malformed', seen: 'its digest is not SHA-256', advice });
  if (layer.size > maxPayloadBytes) {
    const seen = `its payload has ${layer.size} bytes, more than ${maxPayloadBytes}`;
    return reason(where, { code: 'too_large', seen, advice });
  }
  const annotations = layer.annotations ?? {};
  const signature = decodeBase64(annotations[signatureKey] ?? '');
  if (signature === undefined) {
    const seen = `its annotation ${signatureKey} is absent or no base64`;
    return reason(where, { code: 'malformed', seen, advice });
  }
  try {
    const blob = { digest, sizeBytes: layer.size };
    const payload = Buffer.from(await place.access.getBlob(blob, { signal: place.signal }));
    return { kind: 'candidate', candidate: { where, payload, signature, annotations } };
  } catch (error) {
    return failedRead(error, { lookedFor, where, signal: place.signal });
  }
}

function reason(where: string, fault: Fault): { readonly kind: 'reason'; readonly reason: RefusalReason } {
  return { kind: 'reason', reason: { ...fault, lookedFor, where } };
}

/** Tells whether a classic signature is one of the signer over the image with this digest. */
export async function checkClassic(
  found: ClassicSignature,
  digest: Sha256,
  checker: Checker,
): Promise<Check> {
  const signed = await checkSignature(found, checker);
  if (signed.kind === 'bad') return signed;
  const content = await checkPayload(found.payload, digest);
  if (content.kind === 'claims') return { ...signed, claimedReference: content.reference };
  return refuse(found, checker, content.fault);
}

async function checkSignature(found: ClassicSignature, checker: Checker): Promise<Check> {
  switch (checker.kind) {
    case 'key': {
      const { keys } = checker.signer;
      const key = keys.find((each) => isSignedBy(each, found.payload, found.signature));
      if (key === undefined) return refuse(found, checker, notSignedByKeys(keys));
      return { kind: 'good', proof: { kind: 'key', keyId: key.id }, claimedReference: undefined };
    }
    case 'keyless': {
      const bundle = await classicBundle(found);
      if (bundle.kind === 'fault') return refuse(found, checker, bundle.fault);
      const outcome = await checker.verifier.verify(bundle.json, found.payload);
      if (outcome.kind === 'bad') return refuse(found, checker, outcome.fault);
      const { issuer, subject } = outcome;
      return { kind: 'good', proof: { kind: 'keyless', issuer, subject }, claimedReference: undefined };
    }
    default:
      return checker satisfies never;
  }
}

function refuse(found: ClassicSignature, checker: Checker, fault: Fault): Check {
  return {
    kind: 'bad',
    reason: { ...fault, lookedFor: signatureOf(checker, lookedFor), where: found.where },
  };
}

type PayloadCheck =
  | { readonly kind: 'claims'; readonly reference: string | undefined }
  | { readonly kind: 'fault'; readonly fault: Fault };

async function checkPayload(payload: Uint8Array, digest: Sha256): Promise<PayloadCheck> {
  const { simpleSigningSchema } = await import('./wire-schema.ts');
  const parsed = simpleSigningSchema.safeParse(decodeJson(payload));
  if (!parsed.success) {
    const seen = 'its payload is no simple signing document';
    return { kind: 'fault', fault: { code: 'malformed', seen, advice: 'sign the image again with cosign' } };
  }
  const { type, image, identity } = parsed.data.critical;
  if (type !== payloadType) {
    const seen = `its payload is of type ${printable(type)}, not ${payloadType}`;
    return {
      kind: 'fault',
      fault: { code: 'other_kind', seen, advice: 'sign the image with "cosign sign"' },
    };
  }
  const named = image['docker-manifest-digest'];
  if (named !== `sha256:${digest}`)
    return { kind: 'fault', fault: otherDigest(printable(named, 80), digest) };
  const reference = identity?.['docker-reference'] ?? undefined;
  return { kind: 'claims', reference: reference === undefined ? undefined : printable(reference) };
}
