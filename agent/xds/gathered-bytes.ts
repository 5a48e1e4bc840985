import type { Writable } from 'node:stream';

/** Relayed bytes that wait to be written together. Nothing is copied. */
export class GatheredBytes {
  #parts: Buffer[] = [];
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Adds bytes. What follows the newest part in the same memory is joined to it. */
  add(part: Buffer): void {
    if (part.length === 0) return;
    const parts = this.#parts;
    const last = parts.at(-1);
    if (
      last !== undefined &&
      last.buffer === part.buffer &&
      last.byteOffset + last.length === part.byteOffset
    ) {
      parts[parts.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + part.length);
    } else {
      parts.push(part);
    }
    this.#sizeBytes += part.length;
  }

  /** Writes all of it at once, in order; empty afterwards. Where `isOpen` says no, the bytes are dropped. */
  writeTo(stream: Pick<Writable, 'write' | 'cork' | 'uncork'>, isOpen: () => boolean): void {
    const parts = this.#parts;
    if (parts.length === 0) return;
    this.#parts = [];
    this.#sizeBytes = 0;
    if (!isOpen()) return;
    const isMany = parts.length > 1;
    if (isMany) stream.cork();
    for (const part of parts) stream.write(part);
    if (isMany) stream.uncork();
  }
}
