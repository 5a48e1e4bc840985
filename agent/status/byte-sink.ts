/** A growing buffer that is used again and again, so that a long page makes no garbage. */
export class ByteSink {
  #bytes: Buffer;
  #sizeBytes = 0;

  constructor(initialBytes = 0) {
    this.#bytes = Buffer.allocUnsafeSlow(initialBytes);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.byteLength);
    this.#bytes.set(bytes, this.#sizeBytes);
    this.#sizeBytes += bytes.byteLength;
  }

  /** Each character is one byte. */
  appendLatin1(text: string): void {
    this.#reserve(text.length);
    this.#sizeBytes += this.#bytes.write(text, this.#sizeBytes, 'latin1');
  }

  /** What was appended since the last call, valid until the next append. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#sizeBytes);
    this.#sizeBytes = 0;
    return taken;
  }

  #reserve(moreBytes: number): void {
    const neededBytes = this.#sizeBytes + moreBytes;
    if (neededBytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(neededBytes, this.#bytes.length * 2));
    this.#bytes.copy(grown, 0, 0, this.#sizeBytes);
    this.#bytes = grown;
  }
}
