import type { FileHandle } from 'node:fs/promises';
import { ModuleReadFailure } from './read-failure.ts';

/** What is read at a time. */
const windowBytes = 64 * 1024;

/** Bytes that a module is read from, at any position. */
export interface ByteSource {
  readonly sizeBytes: number;
  /** Fills the head of `target` from `position` on. Returns how many bytes there were; 0 at the end. */
  read(target: Uint8Array, position: number): Promise<number>;
}

/**
 * The bytes of an open file of known size. The handle stays the caller's. Rejects with the signal's reason. Sections
 * are read one by one and most are small: they are served from one block of the file that is read at once.
 */
export function fileSource(file: FileHandle, sizeBytes: number, signal: AbortSignal): ByteSource {
  const block = new Uint8Array(Math.min(windowBytes, sizeBytes));
  let blockStart = 0;
  let blockEnd = 0;
  return {
    sizeBytes,
    async read(target, position) {
      signal.throwIfAborted();
      const isInBlock = position >= blockStart && position + target.byteLength <= blockEnd;
      if (!isInBlock) {
        if (target.byteLength > block.byteLength) {
          return (await file.read(target, 0, target.byteLength, position)).bytesRead;
        }
        const { bytesRead } = await file.read(block, 0, block.byteLength, position);
        blockStart = position;
        blockEnd = position + bytesRead;
      }
      const part = block.subarray(
        position - blockStart,
        Math.min(blockEnd, position + target.byteLength) - blockStart,
      );
      target.set(part);
      return part.byteLength;
    },
  };
}

/** Fills `target` from `position` on, however little the source gives at a time. Returns less only at the end. */
export async function readFully(source: ByteSource, target: Uint8Array, position: number): Promise<number> {
  let filledBytes = 0;
  while (filledBytes < target.byteLength) {
    const readBytes = await source.read(target.subarray(filledBytes), position + filledBytes);
    if (readBytes === 0) break;
    filledBytes += readBytes;
  }
  return filledBytes;
}

/** The most one item (a type, an import, an initializer) may take: the window grows to it and no further. */
const maxItemBytes = 1024 * 1024;

/** Names are kept or compared; V8 sets no limit, symbols of C++ take some kilobytes. */
const maxNameBytes = 512 * 1024;

const maxU32LebBytes = 5;
const maxU64LebBytes = 10;

/** Thrown to `items` when the window ends inside an item: it loads more and decodes the item again. */
const windowEnded = new Error('the window ended');

/** Names must be UTF-8 (core specification 5.2.4); a byte order mark is part of the name. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads a range of a module forward, through one window of bounded size. Decoding is synchronous inside an item and
 * is repeated from the item's start when the window ends in it. Throws ModuleReadFailure when the bytes make no sense.
 */
export class SectionReader {
  /** Absolute offset in the module of the next byte. */
  position: number;
  /** Absolute offset after the last byte. */
  readonly end: number;
  readonly #source: ByteSource;
  /** What the range is called in messages. */
  readonly #what: string;
  #window: Uint8Array = new Uint8Array(0);
  #windowStart: number;

  constructor(
    source: ByteSource,
    range: { readonly start: number; readonly end: number; readonly what: string },
  ) {
    this.#source = source;
    this.position = range.start;
    this.end = range.end;
    this.#what = range.what;
    this.#windowStart = range.start;
  }

  get remainingBytes(): number {
    return this.end - this.position;
  }

  /** Decodes one item. `decode` may run more than once: it must have no effects of its own. */
  async item<T>(decode: (reader: this) => T): Promise<T> {
    for (;;) {
      const start = this.position;
      try {
        return decode(this);
      } catch (error) {
        if (error !== windowEnded) throw error;
        this.position = start;
        await this.#load(start);
      }
    }
  }

  /** Decodes items one after the other while `more` holds. Waits only where the window ends. */
  async items<T>(more: () => boolean, decode: (reader: this) => T, take: (item: T) => void): Promise<void> {
    while (more()) {
      const start = this.position;
      try {
        take(decode(this));
      } catch (error) {
        if (error !== windowEnded) throw error;
        this.position = start;
        await this.#load(start);
      }
    }
  }

  /** Decodes a vector: its count, then `decode` for each. Returns the count, which is at most `maxCount`. */
  async vector<T>(
    maxCount: number,
    decode: (reader: this) => T,
    take: (item: T, index: number) => void,
  ): Promise<number> {
    const count = await this.item(() => this.count(maxCount));
    let index = 0;
    await this.items(
      () => index < count,
      decode,
      (item) => {
        take(item, index);
        index += 1;
      },
    );
    return count;
  }

  /** The count of a vector whose members take a byte each or more. */
  count(maxCount: number): number {
    const start = this.position;
    const count = this.u32();
    if (count > this.remainingBytes) {
      this.fail(
        start,
        `a list of ${count} entries cannot fit in the ${this.remainingBytes} bytes that are left`,
      );
    }
    if (count > maxCount) {
      throw new ModuleReadFailure(
        'too_complex',
        start,
        `${this.#what} has ${count} entries; at most ${maxCount} are read`,
      );
    }
    return count;
  }

  u8(): number {
    if (this.position >= this.end) this.fail(this.position, 'it ends too early');
    const byte = this.#window[this.position - this.#windowStart];
    if (byte === undefined) throw windowEnded;
    this.position += 1;
    return byte;
  }

  /** An unsigned LEB128 of 32 bits: 5 bytes at most. */
  u32(): number {
    const start = this.position;
    const value = this.#unsigned(maxU32LebBytes);
    if (value > 0xffff_ffff) this.fail(start, 'a number has more than 32 bits');
    return value;
  }

  /** An unsigned LEB128 of 64 bits: 10 bytes at most. Above 2^53 it is rounded, which no rule of ours tells apart. */
  u64(): number {
    return this.#unsigned(maxU64LebBytes);
  }

  /** Passes over a LEB128 of any sign of at most `maxBytes`. */
  skipLeb(maxBytes: number): void {
    const start = this.position;
    for (let i = 0; i < maxBytes; i += 1) {
      if (this.u8() < 0x80) return;
    }
    this.fail(start, `a number takes more than ${maxBytes} bytes`);
  }

  /** Passes over bytes without reading them: they must lie in the range. */
  skip(sizeBytes: number): void {
    if (sizeBytes > this.remainingBytes) {
      this.fail(this.position, `${sizeBytes} bytes are announced, but only ${this.remainingBytes} are left`);
    }
    this.position += sizeBytes;
  }

  /** A name: its length, then UTF-8. */
  name(): string {
    const start = this.position;
    const sizeBytes = this.u32();
    if (sizeBytes > maxNameBytes) {
      throw new ModuleReadFailure(
        'too_complex',
        start,
        `${this.#what} has a name of ${sizeBytes} bytes; at most ${maxNameBytes} are read`,
      );
    }
    const offset = this.position;
    this.skip(sizeBytes);
    const from = offset - this.#windowStart;
    const bytes = this.#window.subarray(Math.max(from, 0), Math.max(from + sizeBytes, 0));
    if (from < 0 || bytes.byteLength < sizeBytes) throw windowEnded;
    try {
      return utf8.decode(bytes);
    } catch {
      return this.fail(offset, 'a name is not UTF-8');
    }
  }

  /** Ends the reading: the bytes at `offset` are not those of a module. */
  fail(offset: number, what: string): never {
    throw new ModuleReadFailure('malformed', offset, `${this.#what}: ${what}`);
  }

  /** Ends the reading: the byte at `offset` stands for something this reader does not know. */
  failUnknown(offset: number, what: string): never {
    throw new ModuleReadFailure('unknown_encoding', offset, `${this.#what}: ${what}`);
  }

  #unsigned(maxBytes: number): number {
    const start = this.position;
    let value = 0;
    let factor = 1;
    for (let i = 0; i < maxBytes; i += 1) {
      const byte = this.u8();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
    return this.fail(start, `a number takes more than ${maxBytes} bytes`);
  }

  /** Makes the window start at `start`: larger than before when it already did, because one item did not fit. */
  async #load(start: number): Promise<void> {
    const isGrowing = start === this.#windowStart && this.#window.byteLength > 0;
    const wantedBytes = isGrowing ? this.#window.byteLength * 2 : windowBytes;
    if (wantedBytes > maxItemBytes) {
      throw new ModuleReadFailure(
        'too_complex',
        start,
        `${this.#what} has an entry of over ${maxItemBytes} bytes`,
      );
    }
    const target = new Uint8Array(Math.min(wantedBytes, this.end - start));
    const filledBytes = await readFully(this.#source, target, start);
    if (filledBytes < target.byteLength) {
      this.fail(start + filledBytes, 'the file became shorter while it was read');
    }
    this.#window = target;
    this.#windowStart = start;
  }
}
