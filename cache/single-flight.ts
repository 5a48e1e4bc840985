/** One run and those who wait for it. It leaves the map when it settles or when its last caller has left. */
interface Flight<Result> {
  readonly callers: Set<PromiseWithResolvers<Result>>;
  readonly stop: AbortController;
}

/**
 * Lets callers that want the same thing share one run of the work. The key must hold everything that makes two
 * callers' work equal, credentials included: whoever joins gets the same result.
 */
export class SingleFlight<Result> {
  readonly #flights = new Map<string, Flight<Result>>();
  /** Every run that has not ended, also those that nobody waits for any more. */
  readonly #runs = new Set<Promise<void>>();
  #isClosed = false;

  /**
   * Joins the run of `key`, or starts one. A failure of the run reaches every caller. A caller whose signal aborts
   * leaves at once, rejected with its signal's reason; the run goes on for the others, and the signal given to
   * `start` is aborted only when the last one has left. Then the key is free at once: a later caller starts anew and
   * never joins a run that is being stopped.
   */
  join(
    key: string,
    start: (signal: AbortSignal) => Promise<Result>,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Result> {
    const { signal } = options;
    if (signal?.aborted === true) return rejection(signal.reason);
    if (this.#isClosed) return rejection(closedReason());

    const caller = Promise.withResolvers<Result>();
    const running = this.#flights.get(key);
    const flight: Flight<Result> = running ?? { callers: new Set(), stop: new AbortController() };
    flight.callers.add(caller);
    if (running === undefined) {
      this.#flights.set(key, flight);
      this.#start(key, flight, start);
    }
    if (signal === undefined) return caller.promise;

    const leave = (): void => {
      caller.reject(signal.reason);
      this.#leave(key, flight, caller, signal.reason);
    };
    // `start` has run: it may have aborted this very signal.
    if (signal.aborted) leave();
    else signal.addEventListener('abort', leave, { once: true });
    return caller.promise.finally(() => signal.removeEventListener('abort', leave));
  }

  /** How many keys are being worked on. */
  get flightCount(): number {
    return this.#flights.size;
  }

  /** Stops every run, rejects its callers with an `AbortError`, and resolves when all work has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const [key, flight] of this.#flights) {
      const reason = closedReason();
      for (const caller of flight.callers) {
        caller.reject(reason);
        this.#leave(key, flight, caller, reason);
      }
    }
    while (this.#runs.size > 0) await Promise.all(this.#runs);
  }

  #start(key: string, flight: Flight<Result>, start: (signal: AbortSignal) => Promise<Result>): void {
    const work = async (): Promise<void> => {
      try {
        const result = await start(flight.stop.signal);
        this.#free(key, flight);
        for (const caller of flight.callers) caller.resolve(result);
      } catch (error) {
        this.#free(key, flight);
        for (const caller of flight.callers) caller.reject(error);
      }
      flight.callers.clear();
    };
    const run = work().finally(() => this.#runs.delete(run));
    this.#runs.add(run);
  }

  #leave(key: string, flight: Flight<Result>, caller: PromiseWithResolvers<Result>, reason: unknown): void {
    flight.callers.delete(caller);
    if (flight.callers.size > 0) return;
    this.#free(key, flight);
    flight.stop.abort(reason);
  }

  #free(key: string, flight: Flight<Result>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}

function closedReason(): DOMException {
  return new DOMException('the work was stopped: its owner is closing', 'AbortError');
}

async function rejection(reason: unknown): Promise<never> {
  // A signal's reason is the caller's own value and reaches it as it is, whatever its type.
  // oxlint-disable-next-line typescript/only-throw-error
  throw reason;
}
