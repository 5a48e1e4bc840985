import type { KeptConfig } from '../../../agent/wasm/last-known-good.ts';
import type { RecordIndex } from '../../../cache/types.ts';

/** The records of last known good configs: they outlive the agent. */
export class MemoryIndex implements RecordIndex<KeptConfig> {
  readonly #records = new Map<string, KeptConfig>();

  get(key: string): KeptConfig | undefined {
    return this.#records.get(key);
  }

  set(key: string, entry: KeptConfig): void {
    this.#records.set(key, entry);
  }

  delete(key: string): void {
    this.#records.delete(key);
  }

  entries(): Iterable<readonly [string, KeptConfig]> {
    return this.#records;
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }
}
