import { maxMessageBytes } from './dns-message.ts';

/** Cuts a TCP stream into messages, each behind its length in two bytes (RFC 1035 4.2.2). Holds one message at most. */
export class MessageFrames {
  #chunks: Buffer[] = [];
  #heldBytes = 0;
  #neededBytes = 2;

  /** True between messages. */
  get isAtBoundary(): boolean {
    return this.#heldBytes === 0;
  }

  /** The messages that are whole now. The chunk is ours. */
  *push(chunk: Buffer): Generator<Buffer, void, undefined> {
    this.#chunks.push(chunk);
    this.#heldBytes += chunk.length;
    while (this.#heldBytes >= this.#neededBytes) {
      const held = this.#chunks.length === 1 ? (this.#chunks[0] ?? chunk) : Buffer.concat(this.#chunks);
      const end = 2 + held.readUInt16BE(0);
      const isWhole = held.length >= end;
      const rest = isWhole ? held.subarray(end) : held;
      this.#chunks = rest.length === 0 ? [] : [rest];
      this.#heldBytes = rest.length;
      this.#neededBytes = isWhole ? 2 : end;
      if (isWhole) yield held.subarray(2, end);
    }
  }
}

/** A message with its length in front. At most 65535 bytes. */
export function frameMessage(message: Buffer): Buffer {
  if (message.length > maxMessageBytes) throw new RangeError(`a DNS message of ${message.length} bytes`);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length, 0);
  return Buffer.concat([length, message]);
}
