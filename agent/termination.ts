/** What asks the agent to end. */
export const endSignals = ['SIGTERM', 'SIGINT'] as const;
export type EndSignal = (typeof endSignals)[number];

/**
 * Signals that a Go program does not end by (`runtime/sigtab_linux_generic.go`), though others do. Node would even
 * open a debugger port on SIGUSR1, to whoever may signal the process.
 */
const ignoredSignals = ['SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGIO', 'SIGPWR'] as const;

/**
 * Listens for the signals that end the agent, from the first moment: as process 1 of a container the kernel drops a
 * signal that nobody listens for, and the pod would then wait for its whole grace period. The first signal counts;
 * later ones are swallowed, since they must not cut a drain short.
 */
export class Termination implements Disposable {
  /** Aborts with the first signal. */
  readonly signal: AbortSignal;
  #received: EndSignal | undefined;
  readonly #detach: () => void;

  constructor() {
    const ending = new AbortController();
    this.signal = ending.signal;
    const listeners = endSignals.map((name) => {
      const onSignal = () => {
        this.#received ??= name;
        ending.abort();
      };
      process.on(name, onSignal);
      return [name, onSignal] as const;
    });
    const ignore = () => {};
    for (const name of ignoredSignals) process.on(name, ignore);
    this.#detach = () => {
      for (const [name, onSignal] of listeners) process.off(name, onSignal);
      for (const name of ignoredSignals) process.off(name, ignore);
    };
  }

  /** The first signal; undefined while none has come. */
  get received(): EndSignal | undefined {
    return this.#received;
  }

  /** Gives the signals back. */
  [Symbol.dispose](): void {
    this.#detach();
  }
}
