import { SingleFlight } from '../../cache/single-flight.ts';
import type { Sha256 } from '../../cache/types.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { CacheRecords, ModuleRecord, UrlRecord } from './cache-records.ts';
import { anonymousReader } from './credentials.ts';
import type { FetchErrand } from './fetch-errand.ts';
import { checksumMismatch, invalidModule } from './fetch-failure.ts';
import { proveSignature, type SignaturePlace, UnsignedFailure } from './image-signatures.ts';
import { inStore } from './module-receiver.ts';
import type { OciSource, ReceivedLayer, ResolvedImage } from './oci/source.ts';
import { matchPin } from './pin.ts';
import type { RecordedSignature } from './recorded-signature.ts';
import type { FetchLimits } from './retry.ts';
import type { ImageChain } from './signature/verify-image.ts';
import type { StoredModule, StoredModules } from './stored-modules.ts';
import { FetchError, type TraceStep } from './types.ts';

/** An image that was found, and its module on disk. */
export interface FetchedImage extends StoredModule {
  /** False: it was on disk already. */
  readonly isDownloaded: boolean;
  /** What the reference names now; undefined when that was not asked. */
  readonly resolved: Sha256 | undefined;
  readonly steps: readonly TraceStep[];
}

/** A module that was downloaded by this or another errand. */
interface Download extends StoredModule {
  readonly steps: readonly TraceStep[];
}

/** Where an image is asked for. */
export interface ImagePlace extends SignaturePlace {
  /** `layout <folder>`, `mirror <URL>`, `origin <host>`. */
  readonly name: string;
  /** The image's origin, for signatures that the place does not have; undefined: it is the origin. */
  readonly openOrigin: (() => Promise<SignaturePlace>) | undefined;
}

/**
 * Fetches a module from an image at one place. What turns out to be there already is not downloaded again. Where a
 * signature is asked for, it is verified before any layer is read.
 */
export class ImageFetcher {
  readonly #oci: OciSource;
  readonly #modules: StoredModules;
  readonly #records: CacheRecords;
  readonly #metrics: WasmMetrics;
  /** Several URLs may lead to one manifest. */
  readonly #downloads = new SingleFlight<Download>();

  constructor(options: {
    readonly oci: OciSource;
    readonly modules: StoredModules;
    readonly records: CacheRecords;
    readonly metrics: WasmMetrics;
  }) {
    this.#oci = options.oci;
    this.#modules = options.modules;
    this.#records = options.records;
    this.#metrics = options.metrics;
  }

  /** Throws FetchError, or an `AbortError` after `close`. */
  async fetch(errand: FetchErrand, place: ImagePlace, limits: FetchLimits): Promise<FetchedImage> {
    const { wanted } = errand;
    const { pin, name } = wanted;
    const known =
      (await this.#proven(errand, place, limits)) ?? (await this.#unchanged(errand, place, limits));
    if (known !== undefined) return known;

    const image = await this.#oci.resolve(place.session, place.reference, { limits });
    const reader = place.session.isCredentialUsed ? wanted.reader : anonymousReader;
    const resolved = image.indexDigests[0] ?? image.manifestDigest;
    const stored = await this.#modules.find(name, this.#records.module(name, image.manifestDigest));
    if (pin === undefined) errand.countSecondLookup(stored !== undefined);
    const signature = await prove(errand, place, image, stored, limits);
    if (stored !== undefined) {
      const steps = image.steps.map(manifestStep);
      const pinned = this.#pinned(errand, image, stored, reader, signature);
      return { ...pinned, isDownloaded: false, resolved, steps };
    }
    if (pin !== undefined) refuseHopelessPin(wanted.display, pin, image);

    errand.flight.enter('download');
    const downloaded = await this.#downloads.join(
      JSON.stringify([name, image.manifestDigest, reader]),
      async (signal) => this.#download(errand, place, image, reader, { ...limits, signal }),
      { signal: limits.signal },
    );
    const steps = [...image.steps.slice(0, -1).map(manifestStep), ...downloaded.steps];
    const pinned = this.#pinned(errand, image, downloaded, reader, signature);
    return { ...pinned, isDownloaded: true, resolved, steps };
  }

  /** Stops all downloads and resolves when they have ended. */
  async close(): Promise<void> {
    await this.#downloads.close();
  }

  /**
   * The module that would do but for who asks and who has signed it: the place is asked whether this credential may
   * read its manifest, and for signatures. A tag may name a signed image by now.
   */
  async #proven(
    errand: FetchErrand,
    place: ImagePlace,
    limits: FetchLimits,
  ): Promise<FetchedImage | undefined> {
    const { wanted, unproven } = errand;
    if (unproven === undefined) return undefined;
    const { record, blob } = unproven;
    if (!(await this.#oci.canRead(place.session, record.checksum, { limits }))) return undefined;
    const signature = await prove(errand, place, chainOf(record), unproven, limits).catch(
      (error: unknown) => {
        if (error instanceof UnsignedFailure && wanted.pin === undefined) return 'refused' as const;
        throw error;
      },
    );
    if (signature === 'refused') return undefined;
    errand.countSecondLookup(true);
    const reader = place.session.isCredentialUsed ? wanted.reader : anonymousReader;
    const proven = this.#modules.learn(wanted.name, signedBy(record, signature), reader);
    return { record: proven, blob, isDownloaded: false, resolved: undefined, steps: [] };
  }

  /** The module that the tag named last time, when the place says that it still does. */
  async #unchanged(
    errand: FetchErrand,
    place: ImagePlace,
    limits: FetchLimits,
  ): Promise<FetchedImage | undefined> {
    const { wanted } = errand;
    const { reference, session } = place;
    if (wanted.pin !== undefined || reference.digest !== undefined) return undefined;
    const known: UrlRecord | undefined = this.#records.url(wanted.request.url);
    const resolved = known?.resolved;
    if (known === undefined || resolved === undefined || session.claimedDigest === undefined)
      return undefined;
    const stored = await this.#modules.find(wanted.name, this.#records.module(wanted.name, known.checksum));
    if (stored === undefined) return undefined;
    const condition = { knownDigest: resolved, limits };
    if (!(await this.#oci.isUnchanged(session, reference.tag, condition))) return undefined;
    const signature = await prove(errand, place, chainOf(stored.record), stored, limits);
    errand.countSecondLookup(true);
    const reader = session.isCredentialUsed ? wanted.reader : anonymousReader;
    const record = this.#modules.learn(wanted.name, signedBy(stored.record, signature), reader);
    return { record, blob: stored.blob, isDownloaded: false, resolved, steps: [] };
  }

  /** Notes by which indexes, for whom and by whom signed the module was reached, and holds it against the pin. */
  #pinned(
    errand: FetchErrand,
    image: ResolvedImage,
    stored: StoredModule,
    reader: string,
    signature: RecordedSignature | undefined,
  ): StoredModule {
    const { name, pin, display } = errand.wanted;
    const digests = { ...stored.record.digests, index: image.indexDigests };
    const learned = signedBy({ ...stored.record, digests }, signature);
    const record = this.#modules.learn(name, learned, reader);
    if (pin !== undefined && matchPin(pin, record.digests) === undefined) {
      throw checksumMismatch(display, image.manifestDigest, pin, record.digests);
    }
    return { record, blob: stored.blob };
  }

  async #download(
    errand: FetchErrand,
    place: ImagePlace,
    image: ResolvedImage,
    reader: string,
    limits: FetchLimits,
  ): Promise<Download> {
    const { name, display } = errand.wanted;
    const received = await this.#oci.download(image, { limits }).catch((error: unknown) => {
      throw error instanceof FetchError && error.result === 'fetch_failure'
        ? invalidModule(display, error)
        : error;
    });
    const { module, layerDigest } = received;
    try {
      this.#metrics.remoteFetch('success');
      const blob = await module.keep();
      const { indexDigests: index, manifestDigest: manifest } = image;
      const digests = { index, manifest, layer: layerDigest, module: module.digest };
      const learned = {
        label: name,
        checksum: manifest,
        digests,
        sizeBytes: module.sizeBytes,
        sourceName: place.name,
      };
      const record = this.#modules.learn(name, learned, reader);
      return { record, blob, steps: layerSteps(image, received) };
    } finally {
      await inStore(async () => module.drop(), limits.signal);
    }
  }
}

async function prove(
  { wanted }: FetchErrand,
  place: ImagePlace,
  chain: ImageChain,
  known: StoredModule | undefined,
  limits: FetchLimits,
): Promise<RecordedSignature | undefined> {
  const { openOrigin } = place;
  return proveSignature({ wanted, chain, known: known?.record, place, openOrigin, limits });
}

/** By which a module was reached before; each index was verified on the way. */
function chainOf({ digests, checksum }: ModuleRecord): ImageChain {
  return { indexDigests: digests.index, manifestDigest: checksum };
}

function signedBy(record: ModuleRecord, signature: RecordedSignature | undefined): ModuleRecord {
  return signature === undefined ? record : { ...record, signatures: [signature] };
}

function manifestStep(step: ResolvedImage['steps'][number]): TraceStep {
  return {
    kind: step.kind === 'index' ? 'index' : 'manifest',
    taken: `sha256:${step.digest} (${printable(step.mediaType)})`,
    reason: step.reason ?? 'it is the image',
    refused: step.refusals,
  };
}

/** The manifest, and what was taken from it. */
function layerSteps(image: ResolvedImage, received: ReceivedLayer): readonly TraceStep[] {
  const { layer, layerDigest, module, failures } = received;
  const [last] = image.steps.slice(-1);
  const manifest = last === undefined ? [] : [{ ...manifestStep(last), refused: [] }];
  const { steps, fileName } = module.unpacked;
  const found =
    steps.length === 0 ? 'the layer is the module itself' : `the module was in ${steps.join(' > ')}`;
  return [
    ...manifest,
    {
      kind: 'layer',
      taken: `sha256:${layerDigest} (${printable(layer.descriptor.mediaType)})`,
      reason: layer.reason,
      refused: [...(last?.refusals ?? []), ...failures],
    },
    {
      kind: 'file',
      taken: fileName === undefined ? `sha256:${module.digest}` : printable(fileName),
      reason: found,
      refused: [],
    },
  ];
}

/** Texts of an image are printed cut and quoted: anybody can write them. */
function printable(text: string): string {
  return JSON.stringify(text.slice(0, 100)).slice(1, -1);
}

/** Spares a download whose outcome is known: raw layers are the module, so their digests are all there is. */
function refuseHopelessPin(display: string, pin: Sha256, image: ResolvedImage): void {
  if (image.layers.kind === 'refused') return;
  const { choices } = image.layers;
  const layers = choices.map((choice) => choice.descriptor.digest.slice('sha256:'.length));
  const digests = { index: image.indexDigests, manifest: image.manifestDigest };
  if (layers.includes(pin) || matchPin(pin, digests) !== undefined) return;
  // Bytes decide, but a layer that is the module by its type and not by its bytes is nothing to be guessed at.
  if (choices.some((choice) => choice.content !== 'raw')) return;
  throw checksumMismatch(display, image.manifestDigest, pin, { ...digests, layer: layers[0] });
}
