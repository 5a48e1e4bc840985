import { typeUrls } from '../../proto/type-urls.ts';
import { describeError, type Logger } from '../log.ts';
import { areJsonFiltersNeeded, loadJsonFilters } from '../wasm/json-filters.ts';
import type { PluginRollouts } from '../wasm/plugin-rollouts.ts';
import { grpcCode } from './grpc-status.ts';
import type { InterceptedStream, InterceptorFactory, StreamInterceptor } from './interceptor.ts';

/** A message that the session has not taken yet. */
interface Waiting {
  readonly give: (session: StreamInterceptor) => void;
  readonly needsJsonFilters: boolean;
}

/**
 * Takes ECDS over on every stream. The session is loaded with the first message, and what reads filters in JSON form
 * with the first of those: most pods of a mesh never see one, and should not pay for it.
 */
export function ecdsInterceptor(options: {
  readonly loadRollouts: () => Promise<PluginRollouts>;
  readonly log: Logger;
}): InterceptorFactory {
  const { log } = options;
  const unrepaired = new Set<string>();
  return {
    typeUrl: typeUrls.extensionConfig,
    open: (stream) =>
      new LazyInterceptor(stream, async () => {
        const [{ EcdsSession }, rollouts] = await Promise.all([
          import('./ecds-session.ts'),
          options.loadRollouts(),
        ]);
        return () => new EcdsSession({ stream, rollouts, unrepaired, log });
      }),
  };
}

class LazyInterceptor implements StreamInterceptor {
  readonly #stream: InterceptedStream;
  readonly #load: () => Promise<() => StreamInterceptor>;
  #session: StreamInterceptor | undefined;
  /** In wire order, while something is loaded for the first of them. */
  #waiting: Waiting[] = [];
  #isClosed = false;

  constructor(stream: InterceptedStream, load: () => Promise<() => StreamInterceptor>) {
    this.#stream = stream;
    this.#load = load;
  }

  onResponse(message: Uint8Array): void {
    const needsJsonFilters = areJsonFiltersNeeded(message);
    this.#hand({ give: (session) => session.onResponse(message), needsJsonFilters });
  }

  onRequest(message: Uint8Array): void {
    this.#hand({ give: (session) => session.onRequest(message), needsJsonFilters: false });
  }

  onListenerRequest(message: Uint8Array): void {
    // Before the first ECDS message nothing can be wrong with an extension config.
    if (this.#session === undefined) return;
    this.#hand({ give: (session) => session.onListenerRequest?.(message), needsJsonFilters: false });
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting = [];
    this.#session?.close();
  }

  #hand(message: Waiting): void {
    if (this.#isClosed) return;
    const isFirst = this.#waiting.length === 0;
    if (isFirst && this.#session !== undefined && !message.needsJsonFilters) {
      message.give(this.#session);
      return;
    }
    this.#waiting.push(message);
    if (isFirst) void this.#giveWaiting();
  }

  /** A message leaves the queue behind its turn: what comes meanwhile stands after it. */
  async #giveWaiting(): Promise<void> {
    try {
      const create = this.#session === undefined ? await this.#load() : undefined;
      if (this.#isClosed) return;
      this.#session ??= create?.();
      for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
        if (first.needsJsonFilters) await loadJsonFilters();
        if (this.#isClosed || this.#session === undefined) return;
        first.give(this.#session);
        this.#waiting.shift();
      }
    } catch (error) {
      const message = `the agent could not load its ECDS part: ${describeError(error)}`;
      this.#stream.end({ code: grpcCode.internal, message });
    }
  }
}
