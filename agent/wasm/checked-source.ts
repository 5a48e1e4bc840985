import type { Sha256 } from '../../cache/types.ts';
import { displayUrl } from '../fetch/module-url.ts';
import { FetchError, type FetchedModule, type ModuleRequest, type ModuleSource } from '../fetch/types.ts';
import type { ModulePreflight } from './module-preflight.ts';

/** A source whose modules are still to be checked. */
export interface UncheckedSource extends Pick<ModuleSource, 'fetch'> {
  /** See `ModuleSource`; `isGood` is asked before the module counts as given out. */
  atHand(
    request: ModuleRequest,
    isGood: (module: { readonly digest: Sha256 }) => boolean,
  ): FetchedModule | undefined;
  /** The next request for this URL asks its origin. */
  forgetUrl(url: string): void;
}

/** Gives out the modules of another source that pass the preflight. */
export class CheckedSource implements ModuleSource {
  readonly #source: UncheckedSource;
  readonly #preflight: ModulePreflight;

  constructor(options: { readonly source: UncheckedSource; readonly preflight: ModulePreflight }) {
    this.#source = options.source;
    this.#preflight = options.preflight;
  }

  /** A module whose verdict has to be worked out, or told, is not at hand. */
  atHand(request: ModuleRequest): FetchedModule | undefined {
    return this.#source.atHand(request, (module) => this.#preflight.isKnownGood(module));
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
