import { SingleFlight } from '../../cache/single-flight.ts';
import type { FetchLimits } from './retry.ts';

/** How far a flight is: what a timeout of one who waits for it counts as. */
export type FlightPhase = 'manifest' | 'download';

/** What all who wait for one fetch share. */
export interface Flight {
  readonly limits: FetchLimits;
  /** Notes that the next phase begins. */
  readonly enter: (phase: FlightPhase) => void;
}

interface OpenFlight {
  readonly key: string;
  /** The latest deadline of those who wait. */
  deadlineAtMs: number;
  phase: FlightPhase;
  callerCount: number;
  /** Versions it is being fetched for, by resource name. */
  readonly versions: Map<string, string>;
}

/**
 * Joins requests for the same content with the same credential into one fetch. A request for another version of a
 * resource that a running fetch already serves starts a fetch of its own: the running one may be too old for it.
 */
export class ModuleFlights<Result> {
  readonly #runs = new SingleFlight<Result>();
  readonly #open = new Map<string, OpenFlight>();
  #startedCount = 0;

  /**
   * Rejects with what `start` throws, or with the signal's reason. `onLeave` is called when the caller gives up, with
   * the phase the flight was in.
   */
  async join(
    content: string,
    caller: {
      readonly resourceName: string;
      readonly resourceVersion: string;
      readonly deadlineAtMs: number;
      readonly firstPhase: FlightPhase;
      readonly onLeave: (phase: FlightPhase) => void;
    },
    start: (flight: Flight) => Promise<Result>,
    options: { readonly signal: AbortSignal },
  ): Promise<Result> {
    const flight = this.#flightFor(content, caller);
    flight.deadlineAtMs = Math.max(flight.deadlineAtMs, caller.deadlineAtMs);
    flight.versions.set(caller.resourceName, caller.resourceVersion);
    flight.callerCount += 1;
    try {
      const run = async (signal: AbortSignal): Promise<Result> => {
        const limits: FetchLimits = { signal, deadlineAtMs: () => flight.deadlineAtMs };
        const enter = (phase: FlightPhase): void => {
          flight.phase = phase;
        };
        return start({ limits, enter });
      };
      return await this.#runs.join(flight.key, run, options);
    } catch (error) {
      if (options.signal.aborted) caller.onLeave(flight.phase);
      throw error;
    } finally {
      flight.callerCount -= 1;
      if (flight.callerCount === 0 && this.#open.get(content) === flight) this.#open.delete(content);
    }
  }

  /** Stops all fetches and resolves when they have ended. */
  async close(): Promise<void> {
    await this.#runs.close();
  }

  #flightFor(
    content: string,
    caller: {
      readonly resourceName: string;
      readonly resourceVersion: string;
      readonly firstPhase: FlightPhase;
    },
  ): OpenFlight {
    const running = this.#open.get(content);
    const servedVersion = running?.versions.get(caller.resourceName);
    if (running !== undefined && (servedVersion === undefined || servedVersion === caller.resourceVersion))
      return running;
    this.#startedCount += 1;
    const made: OpenFlight = {
      key: `${this.#startedCount}`,
      deadlineAtMs: 0,
      phase: caller.firstPhase,
      callerCount: 0,
      versions: new Map(),
    };
    this.#open.set(content, made);
    return made;
  }
}
