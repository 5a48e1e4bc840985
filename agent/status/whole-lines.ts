import { ByteSink } from './byte-sink.ts';
import { ScrapeError } from './scrape-error.ts';

/** No sample is as long; a peer that sends no line end must not fill the memory. */
const maxLineBytes = 1024 * 1024;

const newline = 10;

/**
 * Cuts a stream of chunks at line ends: a copy that breaks in the middle then leaves no half line in front of the
 * next part.
 */
export class WholeLines {
  #whole = new ByteSink();
  #partial = new ByteSink();

  /** The lines that are complete, valid until the next call. Throws ScrapeError `protocol` for an endless line. */
  push(chunk: Buffer): Buffer {
    const end = chunk.lastIndexOf(newline) + 1;
    if (end === 0) {
      this.#partial.append(chunk);
      if (this.#partial.sizeBytes > maxLineBytes) {
        throw new ScrapeError('protocol', `a line is longer than ${maxLineBytes} bytes`);
      }
      return chunk.subarray(0, 0);
    }
    this.#whole.append(this.#partial.take());
    this.#whole.append(chunk.subarray(0, end));
    this.#partial.append(chunk.subarray(end));
    return this.#whole.take();
  }

  /** The last line when the stream has ended well, its line end added; not to be called after a break. */
  end(): Buffer {
    if (this.#partial.sizeBytes > 0) this.#partial.append(Buffer.from([newline]));
    return this.#partial.take();
  }
}
