/** Up to so many parts are kept as they came; a normal message has fewer before its type is known. */
const referencedPartCount = 16;
/** Later parts below this size are copied together, so that a peer sending single bytes cannot multiply our memory. */
const smallPartBytes = 1024;
const blockBytes = 4 * smallPartBytes;

/**
 * The bytes of one message that are held back, in order. Parts are kept by reference where that is cheap; the caller
 * must not change a part after giving it away. It has no bound of its own: the owner checks `sizeBytes`.
 */
export class HeldBytes {
  #parts: Buffer[] = [];
  #block: { readonly buffer: Buffer; usedBytes: number } | undefined;
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  push(part: Buffer): void {
    this.#sizeBytes += part.length;
    if (this.#parts.length < referencedPartCount || part.length >= smallPartBytes) {
      this.#closeBlock();
      this.#parts.push(part);
      return;
    }
    if (this.#block !== undefined && this.#block.usedBytes + part.length > blockBytes) this.#closeBlock();
    this.#block ??= { buffer: Buffer.allocUnsafeSlow(blockBytes), usedBytes: 0 };
    part.copy(this.#block.buffer, this.#block.usedBytes);
    this.#block.usedBytes += part.length;
  }

  /** Gives all parts away, in order, and is empty afterwards. */
  take(): readonly Buffer[] {
    this.#closeBlock();
    const parts = this.#parts;
    this.#parts = [];
    this.#sizeBytes = 0;
    return parts;
  }

  /** Gives the bytes away as one buffer, which is a copy unless there was one part. Empty afterwards. */
  takeJoined(): Buffer {
    const parts = this.take();
    const [only] = parts;
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
  }

  #closeBlock(): void {
    if (this.#block === undefined) return;
    this.#parts.push(this.#block.buffer.subarray(0, this.#block.usedBytes));
    this.#block = undefined;
  }
}
