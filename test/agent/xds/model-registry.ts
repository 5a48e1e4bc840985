import { FetchError, type FetchedModule, type ModuleSource } from '../../../agent/fetch/types.ts';
import { modulePath } from './model-plugin.ts';

interface Fetch {
  readonly name: string;
  readonly id: string;
  readonly signal: AbortSignal;
  readonly resolve: (module: FetchedModule) => void;
  readonly reject: (error: unknown) => void;
}

/** Where modules come from: each fetch ends when the test says so, or when nobody waits any more. */
export class ModelRegistry {
  /** By module. */
  readonly badModules = new Set<string>();
  /** Modules that have come. */
  readonly verified = new Set<string>();
  #fetches: Fetch[] = [];

  readonly source: ModuleSource = {
    // Some are in the cache, and need no fetch.
    atHand: ({ url }) => {
      const { id, generation } = moduleOf(url);
      return generation % 3 === 1 ? this.#found(id) : undefined;
    },
    fetch: ({ url }, { signal }) =>
      new Promise((resolve, reject) => {
        const { id, name } = moduleOf(url);
        const fetch: Fetch = { name, id, signal, resolve, reject };
        this.#fetches.push(fetch);
        const drop = (): void => {
          this.#remove(fetch);
          reject(signal.reason);
        };
        if (signal.aborted) drop();
        else signal.addEventListener('abort', drop, { once: true });
      }),
  };

  /** Plugins whose module is being fetched, one for each fetch. */
  get fetching(): readonly string[] {
    return this.#fetches.map(({ name }) => name);
  }

  succeed(pick: number): void {
    const fetch = this.#take(pick);
    fetch?.resolve(this.#found(fetch.id));
  }

  fail(pick: number, code: FetchError['code']): void {
    this.#take(pick)?.reject(new FetchError(code, 'it cannot be had'));
  }

  #found(id: string): FetchedModule {
    this.verified.add(id);
    return {
      path: modulePath('modules', id, this.badModules.has(id)),
      digest: 'a'.repeat(64),
      checksum: 'a'.repeat(64),
      sizeBytes: 8,
      source: 'oci',
      matchedPin: undefined,
    };
  }

  #take(pick: number): Fetch | undefined {
    const fetch = this.#fetches[pick % Math.max(1, this.#fetches.length)];
    if (fetch !== undefined) this.#remove(fetch);
    return fetch;
  }

  #remove(fetch: Fetch): void {
    this.#fetches = this.#fetches.filter((other) => other !== fetch);
  }
}

/** What the URL names: a plugin's module of one generation. */
function moduleOf(url: string): { readonly id: string; readonly name: string; readonly generation: number } {
  const [id = '', name = '', generation = ''] = /(\w)-(\d+)$/.exec(url) ?? [];
  return { id, name, generation: Number(generation) };
}
