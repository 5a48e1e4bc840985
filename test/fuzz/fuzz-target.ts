import type * as fc from 'fast-check';

/** One parser that reads what strangers wrote, and what must hold of it for any input. */
export interface FuzzTarget {
  /** One word, for the command line. */
  readonly name: string;
  /** Throws where a promise does not hold. Keeps nothing from one run to the next. */
  readonly property: fc.IAsyncProperty<readonly unknown[]>;
  /** Runs in the tests, where one run is many inputs; undefined: as many as of any other. */
  readonly testRunCount?: number;
}

/** True for an error of the module fetcher with one of these codes; any other is a fault. */
export function hasCode(error: unknown, codes: readonly string[]): boolean {
  return error instanceof Error && error.name === 'FetchError' && 'code' in error
    ? codes.includes(String(error.code))
    : false;
}
