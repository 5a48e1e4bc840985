import { ClientGoneError } from './answer.ts';
import type { ScrapeDeadline } from './scrape-deadline.ts';
import { ScrapeError } from './scrape-error.ts';

/** The running deadlines of one scrape. `close` stops the timers, and whoever still fetches for nobody. */
export class ScrapeClock {
  /** For Envoy's part; aborts with ScrapeError `timeout`, or with the reason of `clientGone`. */
  readonly envoy: AbortSignal;
  /** For all other parts, in the same way. */
  readonly total: AbortSignal;
  /** Resolves when the others wait no longer for a part that has not answered. */
  readonly headersOver: Promise<void>;
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #controllers: readonly AbortController[];

  constructor(
    deadline: ScrapeDeadline,
    options: { readonly hasApplication: boolean; readonly clientGone: AbortSignal },
  ) {
    const { clientGone, hasApplication } = options;
    const headersOver = Promise.withResolvers<void>();
    this.headersOver = headersOver.promise;
    const headersTimer = setTimeout(headersOver.resolve, deadline.headersMs);
    clientGone.addEventListener('abort', () => headersOver.resolve(), { once: true });
    const total = abortAfter(deadline.totalMs);
    const envoy = abortAfter(hasApplication ? deadline.envoyMs : deadline.totalMs);
    this.total = AbortSignal.any([total.controller.signal, clientGone]);
    this.envoy = AbortSignal.any([envoy.controller.signal, clientGone]);
    this.#timers = [headersTimer, total.timer, envoy.timer];
    this.#controllers = [total.controller, envoy.controller];
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const controller of this.#controllers) controller.abort(new ClientGoneError());
  }
}

function abortAfter(timeoutMs: number): { controller: AbortController; timer: NodeJS.Timeout } {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort(new ScrapeError('timeout', `the answer was not complete within ${timeoutMs} ms`));
  }, timeoutMs);
  return { controller, timer };
}
