/** Chunks of bytes in order. A chunk belongs to the reader. */
export type ByteStream = AsyncIterable<Uint8Array>;

/**
 * A stream that can be left and taken up again: leaving a loop over `rest` does not end the source.
 * `head` gives its first bytes without taking them.
 */
export class PeekableStream {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #ahead: Uint8Array[] = [];

  constructor(source: ByteStream) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The first `sizeBytes` bytes, or all when there are fewer. */
  async head(sizeBytes: number): Promise<Uint8Array> {
    let aheadBytes = this.#ahead.reduce((sum, chunk) => sum + chunk.byteLength, 0);
    while (aheadBytes < sizeBytes) {
      const { done, value } = await this.#source.next();
      if (done === true) break;
      this.#ahead.push(value);
      aheadBytes += value.byteLength;
    }
    return Buffer.concat(this.#ahead).subarray(0, sizeBytes);
  }

  /** What has not been taken yet. */
  get rest(): ByteStream {
    return {
      [Symbol.asyncIterator]: () => ({
        next: async () => {
          const value = this.#ahead.shift();
          return value === undefined ? this.#source.next() : { done: false, value };
        },
      }),
    };
  }

  /** Takes what is left and drops it. */
  async drain(): Promise<void> {
    for await (const chunk of this.rest) void chunk;
  }

  /** Ends the source. Never throws: the stream has been given up. */
  async close(): Promise<void> {
    try {
      await this.#source.return?.();
    } catch {
      // Why it broke off is known to whoever read it.
    }
  }
}
