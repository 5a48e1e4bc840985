import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { CacheRecords } from './cache-records.ts';
import { anonymousReader } from './credentials.ts';
import type { FetchErrand } from './fetch-errand.ts';
import { checksumMismatch, invalidModule } from './fetch-failure.ts';
import { inStore, type ReceivedModule, type RejectedBytes } from './module-receiver.ts';
import { matchPin } from './pin.ts';
import type { StoredModule, StoredModules } from './stored-modules.ts';
import type { TraceStep } from './types.ts';

/** A file that was found, and its module on disk. */
export interface FetchedFile extends StoredModule {
  /** False: it was on disk already. */
  readonly isDownloaded: boolean;
  readonly steps: readonly TraceStep[];
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

  /** Judges what `receive` gives, and keeps it when it is what was wanted. Throws FetchError. */
  async fetch(
    errand: FetchErrand,
    placeName: string,
    receive: () => Promise<ReceivedModule | RejectedBytes>,
  ): Promise<FetchedFile> {
    const { pin, name, display } = errand.wanted;
    const { signal } = errand.flight.limits;
    const received = await receive();
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
        if (stored !== undefined) return { ...stored, isDownloaded: false, steps };
      } else if (matchPin(pin, digests) === undefined) {
        throw checksumMismatch(display, digest, pin, digests);
      }
      this.#metrics.remoteFetch('success');
      const blob = await received.keep();
      const learned = { label: display, checksum: digest, digests, sizeBytes, sourceName: placeName };
      const record = this.#modules.learn(name, learned, anonymousReader);
      return { record, blob, isDownloaded: true, steps };
    } finally {
      await inStore(async () => received.drop(), signal);
    }
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
