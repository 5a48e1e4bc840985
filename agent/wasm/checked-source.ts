import { displayUrl } from '../fetch/module-url.ts';
import { FetchError, type FetchedModule, type ModuleRequest, type ModuleSource } from '../fetch/types.ts';
import type { ModulePreflight } from './module-preflight.ts';

/** A source that can forget what a URL meant. */
export interface ForgettingSource extends ModuleSource {
  /** The next request for this URL asks its origin. */
  forgetUrl(url: string): void;
}

/** Gives out the modules of another source that pass the preflight. */
export class CheckedSource implements ModuleSource {
  readonly #source: ForgettingSource;
  readonly #preflight: ModulePreflight;

  constructor(options: { readonly source: ForgettingSource; readonly preflight: ModulePreflight }) {
    this.#source = options.source;
    this.#preflight = options.preflight;
  }

  /** Throws FetchError: what the source throws, `preflight_refused`, `store`. */
  async fetch(request: ModuleRequest, options: { readonly signal: AbortSignal }): Promise<FetchedModule> {
    const module = await this.#source.fetch(request, options);
    try {
      const what = `Wasm module ${displayUrl(request.url)} (sha256:${module.digest})`;
      await this.#preflight.passStored(module, what);
      return module;
    } catch (error) {
      // Only another module helps: the cache must not answer the next try with this one.
      if (error instanceof FetchError && error.code === 'preflight_refused')
        this.#source.forgetUrl(request.url);
      throw error;
    }
  }
}
