import type { Blob, BlobStore } from '../../cache/types.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { CacheRecords, ModuleRecord } from './cache-records.ts';
import { inStore } from './module-receiver.ts';

/** A module that is on disk. */
export interface StoredModule {
  readonly record: ModuleRecord;
  readonly blob: Blob;
}

/** What is on disk, and what is known of it. */
export class StoredModules {
  readonly #store: BlobStore;
  readonly #records: CacheRecords;
  readonly #metrics: WasmMetrics;

  constructor(options: {
    readonly store: BlobStore;
    readonly records: CacheRecords;
    readonly metrics: WasmMetrics;
  }) {
    this.#store = options.store;
    this.#records = options.records;
    this.#metrics = options.metrics;
  }

  /** The file of a record, where it can be had in this very turn. */
  atHand(record: ModuleRecord): StoredModule | undefined {
    const blob = this.#store.atHand(record.digests.module);
    return blob === undefined ? undefined : { record, blob };
  }

  /** The file of a record; a record without a good file is dropped. Throws FetchError `store`. */
  async find(name: string, record: ModuleRecord | undefined): Promise<StoredModule | undefined> {
    if (record === undefined) return undefined;
    const atHand = this.atHand(record);
    if (atHand !== undefined) return atHand;
    const blob = await inStore(async () => this.#store.get(record.digests.module));
    if (blob !== undefined) return { record, blob };
    this.#records.deleteModule(name, record.checksum);
    return undefined;
  }

  /** See `CacheRecords.learnModule`; keeps the metric of entries. */
  learn(name: string, learned: Parameters<CacheRecords['learnModule']>[1], reader: string): ModuleRecord {
    const record = this.#records.learnModule(name, learned, reader);
    this.#metrics.cacheEntries(this.#records.moduleCount);
    return record;
  }
}
