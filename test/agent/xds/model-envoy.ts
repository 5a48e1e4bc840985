import type { Offered } from './model-plugin.ts';

/** A response on its way to the model Envoy. `bytes` tell one config from another. */
export type Response =
  | { readonly kind: 'listener' }
  | { readonly kind: 'notice'; readonly nonce: string }
  | {
      readonly kind: 'config';
      readonly nonce: string;
      readonly name: string;
      readonly offered: Offered;
      readonly bytes: string;
    };

/** What Envoy says to a response; `failure` undefined is an ACK. */
export type EnvoyAnswer =
  | { readonly kind: 'listener'; readonly failure: string | undefined }
  | { readonly kind: 'config'; readonly nonce: string; readonly failure: string | undefined };

/** One name in the model Envoy. */
interface Filter {
  /** The bytes it was given last, refused ones too: the same again are acknowledged unseen. */
  remembered: string;
  isRefused: boolean;
  running: Offered | undefined;
}

/** Envoy's side of ECDS, as the real one was seen to behave. */
export class ModelEnvoy {
  /** Names that its listeners have. */
  readonly wanted = new Set<string>();
  readonly filters = new Map<string, Filter>();
  /** The module that each name ran last: it may come again after a newer one. */
  readonly ranLast = new Map<string, string>();
  isListenerRefused = false;
  /** Of the response that Envoy has answered last: state of the world repeats it with other names. */
  answeredNonce = '';
  #queue: Response[] = [];

  /** Another stream; istiod sends the listeners first, and the one that was refused comes with them. */
  connect(): void {
    this.#queue = [{ kind: 'listener' }];
    this.isListenerRefused = false;
    this.answeredNonce = '';
  }

  /** It starts anew, with its listeners. */
  restart(): void {
    this.filters.clear();
  }

  /** A listener that names the filter comes or goes. True: it has come. */
  toggle(name: string): boolean {
    if (this.wanted.delete(name)) {
      this.filters.delete(name);
      return false;
    }
    this.wanted.add(name);
    return true;
  }

  get isIdle(): boolean {
    return this.#queue.length === 0;
  }

  take(response: Response): void {
    this.#queue.push(response);
  }

  /** Envoy takes the oldest response. `isGone`: names whose listener istiod has taken away. */
  answer(isGone: (name: string) => boolean): EnvoyAnswer | undefined {
    const response = this.#queue.shift();
    switch (response?.kind) {
      case undefined:
        return undefined;
      case 'listener': {
        // A listener is refused while Envoy remembers a refused config for one of its filters.
        const isRefused = this.isAnyRefused(isGone);
        if (isRefused) this.isListenerRefused = true;
        return { kind: 'listener', failure: isRefused ? 'Error adding/updating listener(s)' : undefined };
      }
      case 'notice':
        this.answeredNonce = response.nonce;
        return { kind: 'config', nonce: response.nonce, failure: undefined };
      case 'config':
        this.answeredNonce = response.nonce;
        return { kind: 'config', nonce: response.nonce, failure: this.#run(response) };
      default:
        return response satisfies never;
    }
  }

  isAnyRefused(isGone: (name: string) => boolean): boolean {
    return [...this.filters].some(([name, { isRefused }]) => isRefused && !isGone(name));
  }

  /** Why Envoy refuses a config; undefined when it runs it, or says so. */
  #run({ name, offered, bytes }: Extract<Response, { kind: 'config' }>): string | undefined {
    if (!this.wanted.has(name)) return undefined;
    const filter = this.filters.get(name) ?? { remembered: '', isRefused: false, running: undefined };
    this.filters.set(name, filter);
    if (filter.remembered === bytes) return undefined;
    filter.remembered = bytes;
    filter.isRefused = offered.kind === 'module' && offered.isBad;
    if (filter.isRefused) return `Unable to create Wasm plugin ${name}`;
    filter.running = offered;
    if (offered.kind === 'module') this.ranLast.set(name, `${name}-${offered.generation}`);
    return undefined;
  }
}
