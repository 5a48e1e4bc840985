import type { Sha256 } from '../../cache/types.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { CacheRecords, PlaceValidators } from './cache-records.ts';
import { anonymousReader } from './credentials.ts';
import type { FetchErrand } from './fetch-errand.ts';
import { checksumMismatch, invalidModule } from './fetch-failure.ts';
import type { HttpDownload } from './http-source.ts';
import type { HttpValidators } from './http-validators.ts';
import { inStore, type ReceivedModule } from './module-receiver.ts';
import { matchPin } from './pin.ts';
import type { StoredModule, StoredModules } from './stored-modules.ts';
import type { TraceStep } from './types.ts';

/** A file that was found, and its module on disk. */
export interface FetchedFile extends StoredModule {
  /** False: it was on disk already. */
  readonly isDownloaded: boolean;
  readonly steps: readonly TraceStep[];
  /** By which its place will know whether it has changed. */
  readonly validators: PlaceValidators | undefined;
}

/** Where a file is asked for. */
export interface FilePlace {
  /** `layout <folder>`, `mirror <URL>`, `origin <host>`. */
  readonly name: string;
  /** Hash that names it where it knows validators. */
  readonly key: Sha256 | undefined;
  /** Asks it; `known` are validators of a module that is on disk, and that need not be sent again. */
  readonly receive: (known: HttpValidators | undefined) => Promise<HttpDownload>;
}

/** Keeps modules that came as one file: from a URL, or by its digest from a folder. */
export class FileFetcher {
  readonly #modules: StoredModules;
  readonly #records: CacheRecords;
  readonly #metrics: WasmMetrics;

  constructor(options: {
    readonly modules: StoredModules;
    readonly records: CacheRecords;
    readonly metrics: WasmMetrics;
  }) {
    this.#modules = options.modules;
    this.#records = options.records;
    this.#metrics = options.metrics;
  }

  /** Judges what the place gives, and keeps it when it is what was wanted. Throws FetchError. */
  async fetch(errand: FetchErrand, place: FilePlace): Promise<FetchedFile> {
    const { pin, name, display } = errand.wanted;
    const { signal } = errand.flight.limits;
    const known = await this.#known(errand, place);
    const { received, validators: given } = await place.receive(known?.validators);
    const validators =
      given === undefined || place.key === undefined ? undefined : { ...given, place: place.key };
    if (received.kind === 'unchanged') {
      if (known === undefined) throw new RangeError('a file is unchanged that nobody knew');
      errand.countSecondLookup(true);
      return { ...known.stored, isDownloaded: false, steps: [], validators };
    }
    if (received.kind === 'rejected') {
      const { error, servedDigest } = received;
      if (pin !== undefined && pin !== servedDigest) {
        const digests = { index: [], archive: servedDigest };
        throw checksumMismatch(display, servedDigest, pin, digests, error.message);
      }
      throw invalidModule(display, error);
    }
    try {
      const { digest, servedDigest, sizeBytes, unpacked } = received;
      const archive = unpacked.steps.length === 0 ? undefined : servedDigest;
      const digests = { index: [], module: digest, ...(archive === undefined ? {} : { archive }) };
      const steps = [fileStep(received)];
      if (pin === undefined) {
        const stored = await this.#modules.find(name, this.#records.module(name, digest));
        errand.countSecondLookup(stored !== undefined);
        if (stored !== undefined) return { ...stored, isDownloaded: false, steps, validators };
      } else if (matchPin(pin, digests) === undefined) {
        throw checksumMismatch(display, digest, pin, digests);
      }
      this.#metrics.remoteFetch('success');
      const blob = await received.keep();
      const learned = { label: display, checksum: digest, digests, sizeBytes, sourceName: place.name };
      const record = this.#modules.learn(name, learned, anonymousReader);
      return { record, blob, isDownloaded: true, steps, validators };
    } finally {
      await inStore(async () => received.drop(), signal);
    }
  }

  /** The module that the URL named last time, when it is on disk and this place can say whether it still does. */
  async #known(
    errand: FetchErrand,
    place: FilePlace,
  ): Promise<{ readonly stored: StoredModule; readonly validators: HttpValidators } | undefined> {
    const { pin, name, request } = errand.wanted;
    if (pin !== undefined || place.key === undefined) return undefined;
    const url = this.#records.url(request.url);
    if (url?.validators?.place !== place.key) return undefined;
    const stored = await this.#modules.find(name, this.#records.module(name, url.checksum));
    return stored === undefined ? undefined : { stored, validators: url.validators };
  }
}

function fileStep(received: ReceivedModule): TraceStep {
  const { steps, fileName } = received.unpacked;
  return {
    kind: 'file',
    taken: fileName === undefined ? `sha256:${received.digest}` : JSON.stringify(fileName.slice(0, 100)),
    reason: steps.length === 0 ? 'the file is the module itself' : `the module was in ${steps.join(' > ')}`,
    refused: [],
  };
}
