import { SingleFlight } from '../../cache/single-flight.ts';
import type { Blob, BlobStore, Sha256 } from '../../cache/types.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { CacheRecords, ModuleRecord } from './cache-records.ts';
import { anonymousReader } from './credentials.ts';
import type { HttpSource } from './http-source.ts';
import type { Flight } from './module-flights.ts';
import { inStore } from './module-receiver.ts';
import type { OciSource, ResolvedImage } from './oci/source.ts';
import { describeDigests, type ModuleDigests, matchPin } from './pin.ts';
import type { FetchLimits } from './retry.ts';
import { FetchError, type FetchedModule } from './types.ts';
import type { ModuleOrigin, WantedModule } from './wanted-module.ts';

/** A module that is on disk. */
export interface StoredModule {
  readonly record: ModuleRecord;
  readonly blob: Blob;
}

/** A module on disk and where its bytes came from this time. */
export interface SourcedModule extends StoredModule {
  readonly source: FetchedModule['source'];
}

export interface ModuleFetcherOptions {
  readonly http: HttpSource;
  readonly oci: OciSource;
  readonly store: BlobStore;
  readonly records: CacheRecords;
  readonly metrics: WasmMetrics;
}

/**
 * Fetches one wanted module from its origin into the store and the records. What turns out to be there already is
 * not downloaded again. Counts second lookups and successes; failures carry how they count.
 */
export class ModuleFetcher {
  readonly #http: HttpSource;
  readonly #oci: OciSource;
  readonly #store: BlobStore;
  readonly #records: CacheRecords;
  readonly #metrics: WasmMetrics;
  /** Several URLs may lead to one manifest. */
  readonly #downloads = new SingleFlight<StoredModule>();

  constructor(options: ModuleFetcherOptions) {
    this.#http = options.http;
    this.#oci = options.oci;
    this.#store = options.store;
    this.#records = options.records;
    this.#metrics = options.metrics;
  }

  /**
   * `unproven` is a module that would do but that nobody with this credential has read yet. Throws FetchError, or an
   * `AbortError` after `close`.
   */
  async fetch(
    wanted: WantedModule,
    unproven: StoredModule | undefined,
    flight: Flight,
  ): Promise<SourcedModule> {
    switch (wanted.origin.kind) {
      case 'http':
        return this.#fetchHttp(wanted, wanted.origin.url, flight);
      case 'oci':
        return this.#fetchOci(wanted, wanted.origin, unproven, flight);
      default:
        return wanted.origin satisfies never;
    }
  }

  /** The file of a record; a record without a good file is dropped. Throws FetchError `store`. */
  async stored(name: string, record: ModuleRecord): Promise<StoredModule | undefined> {
    const blob = await inStore(async () => this.#store.get(record.digests.module));
    if (blob !== undefined) return { record, blob };
    this.#records.deleteModule(name, record.checksum);
    return undefined;
  }

  /** Stops all downloads and resolves when they have ended. */
  async close(): Promise<void> {
    await this.#downloads.close();
  }

  async #fetchHttp(wanted: WantedModule, url: string, flight: Flight): Promise<SourcedModule> {
    const { pin, name, display } = wanted;
    const { signal } = flight.limits;
    const received = await this.#http.download(url, { isPinned: pin !== undefined, limits: flight.limits });
    if (received.kind === 'rejected') {
      const { error, servedDigest } = received;
      if (pin !== undefined && pin !== servedDigest) {
        throw mismatch(display, servedDigest, pin, { index: [], archive: servedDigest }, error.message);
      }
      throw notWasm(display, error);
    }
    try {
      const { digest, servedDigest, sizeBytes } = received;
      const archive = received.steps.length === 0 ? undefined : servedDigest;
      const digests = { index: [], module: digest, ...(archive === undefined ? {} : { archive }) };
      if (pin === undefined) {
        const known = this.#records.module(name, digest);
        const stored = known === undefined ? undefined : await this.stored(name, known);
        this.#metrics.cacheLookup(stored !== undefined);
        if (stored !== undefined) return { ...stored, source: 'cache' };
      } else if (matchPin(pin, digests) === undefined) {
        throw mismatch(display, digest, pin, digests);
      }
      this.#metrics.remoteFetch('success');
      const blob = await received.keep();
      const record = this.#learn(
        name,
        { label: display, checksum: digest, digests, sizeBytes },
        anonymousReader,
      );
      return { record, blob, source: 'http' };
    } finally {
      await inStore(async () => received.drop(), signal);
    }
  }

  async #fetchOci(
    wanted: WantedModule,
    origin: Extract<ModuleOrigin, { kind: 'oci' }>,
    unproven: StoredModule | undefined,
    flight: Flight,
  ): Promise<SourcedModule> {
    const { pin, name, display, reader } = wanted;
    const { reference, credential } = origin;
    const { limits } = flight;
    if (unproven !== undefined) {
      const { record, blob } = unproven;
      const proof = await this.#oci.canRead(reference, record.checksum, credential, { limits });
      if (proof.isReadable) {
        this.#metrics.cacheLookup(true);
        const proven = this.#learn(name, record, proof.isCredentialUsed ? reader : anonymousReader);
        return { record: proven, blob, source: 'cache' };
      }
    }
    const image = await this.#oci.resolve(reference, credential, { limits });
    const provenReader = image.session.isCredentialUsed ? reader : anonymousReader;
    const known = this.#records.module(name, image.manifestDigest);
    const stored = known === undefined ? undefined : await this.stored(name, known);
    if (pin === undefined) this.#metrics.cacheLookup(stored !== undefined);
    if (stored !== undefined) {
      return { ...this.#pinned(wanted, image, stored, provenReader), source: 'cache' };
    }
    if (pin !== undefined) refuseHopelessPin(display, pin, image);

    flight.enter('download');
    const downloaded = await this.#downloads.join(
      JSON.stringify([name, image.manifestDigest, provenReader]),
      async (signal) => this.#download(wanted, image, provenReader, { ...limits, signal }),
      { signal: limits.signal },
    );
    return { ...this.#pinned(wanted, image, downloaded, provenReader), source: 'oci' };
  }

  /** Notes by which indexes and for whom the module was reached this time, and holds it against the pin. */
  #pinned(wanted: WantedModule, image: ResolvedImage, stored: StoredModule, reader: string): StoredModule {
    const { name, pin, display } = wanted;
    const digests = { ...stored.record.digests, index: image.indexDigests };
    const record = this.#learn(name, { ...stored.record, digests }, reader);
    if (pin !== undefined && matchPin(pin, record.digests) === undefined) {
      throw mismatch(display, image.manifestDigest, pin, record.digests);
    }
    return { record, blob: stored.blob };
  }

  async #download(
    wanted: WantedModule,
    image: ResolvedImage,
    reader: string,
    limits: FetchLimits,
  ): Promise<StoredModule> {
    const { name, display } = wanted;
    const received = await this.#oci.download(image, { limits }).catch((error: unknown) => {
      throw error instanceof FetchError && error.result === 'fetch_failure' ? notWasm(display, error) : error;
    });
    const { module, layerDigest } = received;
    try {
      this.#metrics.remoteFetch('success');
      const blob = await module.keep();
      const { indexDigests: index, manifestDigest: manifest } = image;
      const digests = { index, manifest, layer: layerDigest, module: module.digest };
      const learned = { label: name, checksum: manifest, digests, sizeBytes: module.sizeBytes };
      return { record: this.#learn(name, learned, reader), blob };
    } finally {
      await inStore(async () => module.drop(), limits.signal);
    }
  }

  #learn(name: string, learned: Parameters<CacheRecords['learnModule']>[1], reader: string): ModuleRecord {
    const record = this.#records.learnModule(name, learned, reader);
    this.#metrics.cacheEntries(this.#records.moduleCount);
    return record;
  }
}

/** Spares a download whose outcome is known: raw layers are the module, so their digests are all there is. */
function refuseHopelessPin(display: string, pin: Sha256, image: ResolvedImage): void {
  if (image.layers.kind === 'refused') return;
  const { choices } = image.layers;
  const layers = choices.map((choice) => choice.descriptor.digest.slice('sha256:'.length));
  const digests = { index: image.indexDigests, manifest: image.manifestDigest };
  if (layers.includes(pin) || matchPin(pin, digests) !== undefined) return;
  if (choices.some((choice) => choice.content !== 'raw')) return;
  throw mismatch(display, image.manifestDigest, pin, { ...digests, layer: layers[0] });
}

function mismatch(
  display: string,
  got: Sha256,
  want: Sha256,
  digests: ModuleDigests,
  more?: string,
): FetchError {
  const why = more === undefined ? '' : `; what was served is no module: ${more}`;
  return new FetchError(
    'checksum_mismatched',
    `module downloaded from ${display} has checksum ${got}, which does not match: ${want} (digests that would match: ${describeDigests(digests)})${why}`,
    { result: 'checksum_mismatched' },
  );
}

function notWasm(display: string, error: FetchError): FetchError {
  return new FetchError(error.code, `fetched Wasm binary from ${display} is invalid: ${error.message}`, {
    cause: error,
    result: 'fetch_failure',
  });
}
