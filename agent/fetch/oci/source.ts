import type { BlobStore, Sha256 } from '../../../cache/types.ts';
import type { RemoteFetchResult } from '../../../metrics/wasm-metrics.ts';
import { type ReceivedModule, receiveModule, type ServedWatch, servedTooLarge } from '../module-receiver.ts';
import type { FetchLimits } from '../retry.ts';
import { FetchError } from '../types.ts';
import {
  chooseChild,
  chooseLayers,
  describeRefusals,
  type LayerChoice,
  type LayerDecision,
  type Refusal,
} from './image-choice.ts';
import type { ImageSession, ManifestAnswer, ManifestTarget } from './image-session.ts';
import { type Descriptor, descriptorSha256, type Manifest, parseManifest } from './manifest.ts';
import type { OciReference } from './reference.ts';

/** One step from a reference to a manifest, for people. */
export interface ResolutionStep {
  readonly kind: 'index' | 'image';
  readonly digest: Sha256;
  readonly mediaType: string;
  /** Why the next one was taken; undefined for the last. */
  readonly reason: string | undefined;
  readonly refusals: readonly Refusal[];
}

/** What a reference names right now, and which layers may hold the module. Nothing of those is read yet. */
export interface ResolvedImage {
  /** Every index on the way, outermost first. */
  readonly indexDigests: readonly Sha256[];
  /** The image manifest's: what the stock agent calls the checksum. */
  readonly manifestDigest: Sha256;
  readonly layers: LayerDecision;
  readonly steps: readonly ResolutionStep[];
  readonly session: ImageSession;
}

/** A module received from a layer, not kept yet. */
export interface ReceivedLayer {
  readonly module: ReceivedModule;
  readonly layer: LayerChoice;
  readonly layerDigest: Sha256;
  /** Layers that were read before and have none. */
  readonly failures: readonly Refusal[];
}

/** An index in an index is as deep as anybody nests. */
const maxIndexDepth = 2;

/** Finds and reads modules in images, wherever those are (istio/istio `pkg/wasm/imagefetcher.go`). */
export class OciSource {
  readonly #store: BlobStore;
  readonly #maxModuleBytes: () => number;
  readonly #watch: ((origin: ImageSession['origin']) => ServedWatch) | undefined;

  constructor(options: {
    readonly store: BlobStore;
    readonly maxModuleBytes: () => number;
    readonly watch?: (origin: ImageSession['origin']) => ServedWatch;
  }) {
    this.#store = options.store;
    this.#maxModuleBytes = options.maxModuleBytes;
    this.#watch = options.watch;
  }

  /** Opens a session. Throws FetchError with the result `manifest_failure`. */
  async open(opening: () => Promise<ImageSession>): Promise<ImageSession> {
    return asManifestStep(opening);
  }

  /** From a reference to the manifest that holds the module. Throws FetchError with the result `manifest_failure`. */
  async resolve(
    session: ImageSession,
    reference: OciReference,
    options: { readonly limits: FetchLimits },
  ): Promise<ResolvedImage> {
    return asManifestStep(async () => this.#resolve(session, reference, options.limits));
  }

  /**
   * True when the place of a session says that a tag still has the digest it had. False says nothing: it must be
   * resolved. Throws FetchError with the result `manifest_failure`.
   */
  async isUnchanged(
    session: ImageSession,
    tag: string,
    options: { readonly knownDigest: Sha256; readonly limits: FetchLimits },
  ): Promise<boolean> {
    return asManifestStep(async () => (await session.claimedDigest?.(tag, options)) === options.knownDigest);
  }

  /**
   * True when a session may read a manifest that is known by its digest; false when its place does not have it.
   * Throws FetchError with the result `manifest_failure`.
   */
  async canRead(
    session: ImageSession,
    manifestDigest: Sha256,
    options: { readonly limits: FetchLimits },
  ): Promise<boolean> {
    return asManifestStep(async () => {
      try {
        await session.manifest({ kind: 'digest', digest: manifestDigest }, options);
        return true;
      } catch (error) {
        if (!(error instanceof FetchError) || error.code !== 'not_found') throw error;
        return false;
      }
    });
  }

  /**
   * Receives the module of the first layer that has one. Throws FetchError with the result `download_failure`, or
   * `fetch_failure` when the bytes are no Wasm module.
   */
  async download(image: ResolvedImage, options: { readonly limits: FetchLimits }): Promise<ReceivedLayer> {
    const { layers } = image;
    if (layers.kind === 'refused') {
      const refusals = layers.refusals.length === 0 ? '' : `: ${describeRefusals(layers.refusals)}`;
      throw new FetchError(
        'bad_manifest',
        `could not fetch Wasm binary: the given image is in invalid format as an OCI image: ${layers.reason}${refusals}`,
        { result: 'download_failure' },
      );
    }
    const failures: FetchError[] = [];
    const refused: Refusal[] = [];
    for (const layer of layers.choices) {
      const outcome = await this.#receive(image.session, layer, options.limits);
      if (!(outcome instanceof FetchError)) return { ...outcome, failures: refused };
      failures.push(outcome);
      refused.push({ candidate: layer.descriptor.digest, reason: outcome.message });
    }
    const [first] = failures;
    if (first === undefined) throw new RangeError('an image was chosen without a layer');
    if (failures.length === 1) throw first;
    const message = failures.map((failure) => failure.message).join('; and ');
    throw new FetchError(first.code, message, {
      cause: first,
      ...(first.result === undefined ? {} : { result: first.result }),
    });
  }

  async #resolve(
    session: ImageSession,
    reference: OciReference,
    limits: FetchLimits,
  ): Promise<ResolvedImage> {
    const steps: ResolutionStep[] = [];
    const { digest, tag } = reference;
    let target: ManifestTarget = digest === undefined ? { kind: 'tag', tag } : { kind: 'digest', digest };
    for (;;) {
      const answer: ManifestAnswer = await session.manifest(target, { limits });
      const manifest: Manifest = await parseManifest(answer.bytes, answer.mediaType);
      const indexDigests = steps.map((step) => step.digest);
      const { mediaType } = manifest;
      if (manifest.kind === 'image') {
        const layers = chooseLayers(manifest);
        steps.push({
          kind: 'image',
          digest: answer.digest,
          mediaType,
          reason: undefined,
          refusals: layers.refusals,
        });
        return { indexDigests, manifestDigest: answer.digest, layers, steps, session };
      }
      if (steps.length >= maxIndexDepth) {
        throw new FetchError(
          'bad_manifest',
          `indexes are nested deeper than ${maxIndexDepth}; push a flat one`,
        );
      }
      const child = chooseChild(manifest);
      if (child.kind === 'refused') {
        const refusals = child.refusals.length === 0 ? '' : `: ${describeRefusals(child.refusals)}`;
        throw new FetchError('bad_manifest', `${child.reason}${refusals}`);
      }
      steps.push({
        kind: 'index',
        digest: answer.digest,
        mediaType,
        reason: child.reason,
        refusals: child.refusals,
      });
      target = childTarget(child.descriptor);
    }
  }

  /** The module, or why this layer has none (the next may). Throws FetchError for what no other layer can mend. */
  async #receive(
    session: ImageSession,
    layer: LayerChoice,
    limits: FetchLimits,
  ): Promise<Omit<ReceivedLayer, 'failures'> | FetchError> {
    const digest = descriptorSha256(layer.descriptor) ?? '';
    const { sizeBytes } = layer.descriptor;
    const name = `layer sha256:${digest}`;
    try {
      const maxSizeBytes = this.#maxModuleBytes();
      if (sizeBytes > maxSizeBytes) throw servedTooLarge(maxSizeBytes);
      const received = await receiveModule(session.blob(digest, { limits }), {
        store: this.#store,
        tarRule: 'plugin-wasm',
        maxSizeBytes,
        signal: limits.signal,
        expected: { digest, sizeBytes },
        watch: this.#watch?.(session.origin),
      });
      if (received.kind === 'module') return { module: received, layer, layerDigest: digest };
      const where = `${name} (${layer.reason})`;
      return received.error.code === 'not_wasm'
        ? inContext(received.error, where, 'fetch_failure')
        : inContext(received.error, `could not fetch Wasm binary: ${where}`, 'download_failure');
    } catch (error) {
      throw inContext(error, `could not fetch Wasm binary: ${name}`, 'download_failure');
    }
  }
}

function childTarget(descriptor: Descriptor): ManifestTarget {
  const digest = descriptorSha256(descriptor);
  if (digest === undefined)
    throw new FetchError('bad_manifest', 'the chosen image of the index has no SHA-256 digest');
  return { kind: 'digest', digest };
}

async function asManifestStep<Value>(work: () => Promise<Value>): Promise<Value> {
  try {
    return await work();
  } catch (error) {
    throw inContext(error, 'could not fetch Wasm OCI image: could not fetch manifest', 'manifest_failure');
  }
}

/** The same failure, told with what was being done and how it counts. Others than FetchError are faults of the agent. */
function inContext(error: unknown, doing: string, result: RemoteFetchResult): FetchError {
  if (!(error instanceof FetchError)) throw error;
  return new FetchError(error.code, `${doing}: ${error.message}`, {
    cause: error,
    result,
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
  });
}
