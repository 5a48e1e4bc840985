/** Bytes that several users may hold together, so that many small bounds do not add up to an unbounded one. */
export class MemoryBudget {
  readonly #maxBytes: number;
  #usedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** False when there is not so much left; nothing is taken then. What is taken must be given back. */
  take(sizeBytes: number): boolean {
    if (this.#usedBytes + sizeBytes > this.#maxBytes) return false;
    this.#usedBytes += sizeBytes;
    return true;
  }

  giveBack(sizeBytes: number): void {
    this.#usedBytes -= sizeBytes;
  }
}
