import type { Flight } from './module-flights.ts';
import type { StoredModule } from './stored-modules.ts';
import type { WantedModule } from './wanted-module.ts';

/** One fetch, whatever places it goes to. */
export interface FetchErrand {
  readonly wanted: WantedModule;
  /** A module that would do, but nobody with this credential has read it yet, or it is not known to be signed. */
  readonly unproven: StoredModule | undefined;
  readonly flight: Flight;
  /** Counts the lookup after somebody was asked: once, as the stock agent does, however many places there are. */
  readonly countSecondLookup: (isHit: boolean) => void;
}
