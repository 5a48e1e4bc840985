import { typeUrls } from '../../proto/type-urls.ts';
import { describeError, type Logger } from '../log.ts';
import type { PluginRollouts } from '../wasm/plugin-rollouts.ts';
import { grpcCode } from './grpc-status.ts';
import type { InterceptedStream, InterceptorFactory, StreamInterceptor } from './interceptor.ts';

/** A message that came before the session was there. */
type Waiting = (session: StreamInterceptor) => void;

/**
 * Takes ECDS over on every stream. The session and the protobuf runtime are loaded with the first message: most
 * pods of a mesh never see one, and should not pay for it.
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
  #state:
    | { kind: 'unused' }
    | { kind: 'loading'; waiting: Waiting[] }
    | { kind: 'open'; session: StreamInterceptor }
    | { kind: 'closed' } = { kind: 'unused' };

  constructor(stream: InterceptedStream, load: () => Promise<() => StreamInterceptor>) {
    this.#stream = stream;
    this.#load = load;
  }

  onResponse(message: Uint8Array): void {
    this.#hand((session) => session.onResponse(message));
  }

  onRequest(message: Uint8Array): void {
    this.#hand((session) => session.onRequest(message));
  }

  onListenerRequest(message: Uint8Array): void {
    // Before the first ECDS message nothing can be wrong with an extension config.
    if (this.#state.kind === 'open') this.#state.session.onListenerRequest?.(message);
  }

  close(): void {
    if (this.#state.kind === 'open') this.#state.session.close();
    this.#state = { kind: 'closed' };
  }

  #hand(message: Waiting): void {
    const state = this.#state;
    switch (state.kind) {
      case 'unused':
        this.#state = { kind: 'loading', waiting: [message] };
        void this.#open();
        return;
      case 'loading':
        state.waiting.push(message);
        return;
      case 'open':
        message(state.session);
        return;
      case 'closed':
        return;
      default:
        state satisfies never;
    }
  }

  async #open(): Promise<void> {
    try {
      const create = await this.#load();
      if (this.#state.kind !== 'loading') return;
      const { waiting } = this.#state;
      const session = create();
      this.#state = { kind: 'open', session };
      for (const message of waiting) message(session);
    } catch (error) {
      const message = `the agent could not load its ECDS part: ${describeError(error)}`;
      this.#stream.end({ code: grpcCode.internal, message });
    }
  }
}
