/** What a response of istiod says by the names that it has. */
export interface ResponseReading {
  /** Names that are no more. */
  readonly withdrawn: readonly string[];
  /** State of the world: istiod may not have taken the names that it was told last, and must be told again. */
  readonly areNamesLost: boolean;
}
