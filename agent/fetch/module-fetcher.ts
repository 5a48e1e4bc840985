import type { UrlAnswer } from './cache-records.ts';
import type { FetchErrand } from './fetch-errand.ts';
import type { FileFetcher } from './file-fetcher.ts';
import type { HttpSource } from './http-source.ts';
import type { ImageFetcher, ImagePlace } from './image-fetcher.ts';
import { unsignable } from './image-signatures.ts';
import type { BlobReceiver } from './module-receiver.ts';
import type { ImageSession } from './oci/image-session.ts';
import { LayoutSession, readLayoutBlob } from './oci/layout.ts';
import { sha256Of } from './oci/reference.ts';
import type { RegistryClient } from './oci/registry.ts';
import type { OciSource } from './oci/source.ts';
import type { FetchClock, FetchLimits } from './retry.ts';
import { climb, type Rung } from './source-ladder.ts';
import type { StoredModule } from './stored-modules.ts';
import { FetchError, type FetchedModule, type FetchTrace, type TraceStep } from './types.ts';
import type { ModuleOrigin } from './wanted-module.ts';

/** A module on disk and where its bytes came from this time. */
export interface SourcedModule extends StoredModule {
  readonly source: FetchedModule['source'];
  readonly trace: FetchTrace | undefined;
  /** What is known of the URL now; undefined when nobody was asked. */
  readonly answered: UrlAnswer | undefined;
}

export interface ModuleFetcherOptions {
  readonly http: HttpSource;
  readonly oci: OciSource;
  readonly registries: RegistryClient;
  readonly images: ImageFetcher;
  readonly files: FileFetcher;
  readonly receiveBlob: BlobReceiver;
  readonly clock: FetchClock;
}

/** What one rung gave. */
interface RungResult extends StoredModule, UrlAnswer {
  readonly source: FetchedModule['source'];
  readonly steps: readonly TraceStep[];
}

/**
 * Fetches one wanted module from the first of its places that has it into the store and the records. Counts second
 * lookups and successes; failures carry how they count.
 */
export class ModuleFetcher {
  readonly #options: ModuleFetcherOptions;

  constructor(options: ModuleFetcherOptions) {
    this.#options = options;
  }

  /** Throws FetchError, or an `AbortError` after `close`. */
  async fetch(errand: FetchErrand): Promise<SourcedModule> {
    const { wanted, flight } = errand;
    const { value, tried } = await climb(
      wanted.rungs,
      async (rung, limits) => this.#fetchFrom(rung, errand, limits),
      flight.limits,
      this.#options.clock,
    );
    const { record, blob, source, resolved, validators, steps } = value;
    return { record, blob, source, trace: { tried, steps }, answered: { resolved, validators } };
  }

  /** Stops all downloads and resolves when they have ended. */
  async close(): Promise<void> {
    await this.#options.images.close();
  }

  async #fetchFrom(rung: Rung, errand: FetchErrand, limits: FetchLimits): Promise<RungResult> {
    switch (rung.kind) {
      case 'unusable':
        throw rung.error;
      case 'layout':
        return this.#fetchLayout(rung, errand, limits);
      case 'mirror':
        return this.#fetchOrigin(rung.name, rung.origin, rung.namespace, errand, limits);
      case 'origin':
        return this.#fetchOrigin(rung.name, rung.origin, undefined, errand, limits);
      default:
        return rung satisfies never;
    }
  }

  async #fetchOrigin(
    name: string,
    origin: ModuleOrigin,
    namespace: string | undefined,
    errand: FetchErrand,
    limits: FetchLimits,
  ): Promise<RungResult> {
    switch (origin.kind) {
      case 'http': {
        // A mirror of an image that must be signed.
        if (errand.wanted.signers !== undefined) throw unsignable(name);
        const isPinned = errand.wanted.pin !== undefined;
        const fetched = await this.#options.files.fetch(errand, {
          name,
          key: sha256Of(origin.url),
          receive: async (known) => this.#options.http.download(origin.url, { isPinned, known, limits }),
        });
        return { ...fetched, source: fetched.isDownloaded ? 'http' : 'cache' };
      }
      case 'oci': {
        const { reference, credential } = origin;
        const open = async (): Promise<ImageSession> =>
          this.#options.registries.open(reference, credential, { limits, namespace });
        const session = await this.#options.oci.open(open);
        const openOrigin = origin === errand.wanted.origin ? undefined : this.#originOpener(errand, limits);
        const place: ImagePlace = { session, reference, name, openOrigin };
        const fetched = await this.#options.images.fetch(errand, place, limits);
        return { ...fetched, source: fetched.isDownloaded ? 'oci' : 'cache' };
      }
      default:
        return origin satisfies never;
    }
  }

  /** For signatures alone: a layout or a mirror may have the image and not what is beside it. */
  #originOpener({ wanted }: FetchErrand, limits: FetchLimits): ImagePlace['openOrigin'] {
    const { origin } = wanted;
    if (origin.kind !== 'oci') return undefined;
    const { reference, credential } = origin;
    return async () => {
      const open = async (): Promise<ImageSession> =>
        this.#options.registries.open(reference, credential, { limits });
      const session = await this.#options.oci.open(open);
      return { session, reference, name: `origin ${reference.registry}` };
    };
  }

  async #fetchLayout(
    rung: Extract<Rung, { kind: 'layout' }>,
    errand: FetchErrand,
    limits: FetchLimits,
  ): Promise<RungResult> {
    const { path } = rung.layout;
    const { origin, pin } = errand.wanted;
    switch (origin.kind) {
      case 'oci': {
        const { reference } = origin;
        const open = async (): Promise<ImageSession> => LayoutSession.open(path, reference, { limits });
        const session = await this.#options.oci.open(open);
        const openOrigin = this.#originOpener(errand, limits);
        const place: ImagePlace = { session, reference, name: rung.name, openOrigin };
        const fetched = await this.#options.images.fetch(errand, place, limits);
        return { ...fetched, source: fetched.isDownloaded ? 'layout' : 'cache' };
      }
      case 'http': {
        // A layout knows no URLs: only what is pinned can be found, by its digest.
        if (pin === undefined) {
          throw new FetchError('not_found', 'an http(s) URL without a sha256 is not looked for in layouts');
        }
        const fetched = await this.#options.files.fetch(errand, {
          name: rung.name,
          key: undefined,
          receive: async () => ({
            received: await this.#options.receiveBlob(readLayoutBlob(path, pin, { limits }), limits),
            validators: undefined,
          }),
        });
        return { ...fetched, source: fetched.isDownloaded ? 'layout' : 'cache' };
      }
      default:
        return origin satisfies never;
    }
  }
}
