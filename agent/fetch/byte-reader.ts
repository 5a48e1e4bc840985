import type { ByteStream } from './byte-stream.ts';

const nothing = new Uint8Array(0);

/**
 * Reads a stream in pieces of wanted sizes, for formats made of headers and contents. What is passed on are views of
 * the stream's chunks; only small pieces are copied together.
 */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = nothing;

  constructor(source: ByteStream) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The next bytes, at least one and at most `maxBytes`; undefined at the end. */
  async some(maxBytes: number): Promise<Uint8Array | undefined> {
    while (this.#rest.byteLength === 0) {
      const { done, value } = await this.#source.next();
      if (done === true) return undefined;
      this.#rest = value;
    }
    const taken = this.#rest.subarray(0, maxBytes);
    this.#rest = this.#rest.subarray(taken.byteLength);
    return taken;
  }

  /** The next `sizeBytes` bytes in one piece, fewer at the end. For small sizes: they are held in memory. */
  async upTo(sizeBytes: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let missingBytes = sizeBytes;
    while (missingBytes > 0) {
      const piece = await this.some(missingBytes);
      if (piece === undefined) break;
      if (piece.byteLength === sizeBytes) return piece;
      pieces.push(piece);
      missingBytes -= piece.byteLength;
    }
    return Buffer.concat(pieces);
  }

  /** Drops bytes; false when there are fewer. */
  async skip(sizeBytes: number): Promise<boolean> {
    let missingBytes = sizeBytes;
    while (missingBytes > 0) {
      const piece = await this.some(missingBytes);
      if (piece === undefined) return false;
      missingBytes -= piece.byteLength;
    }
    return true;
  }
}
