/** A type URL longer than this is nonsense, and would be held in memory while it is read. */
const maxTypeUrlBytes = 4096;
const maxVarintBytes = 10;
/** `type_url` of both kinds of responses (Envoy API, `envoy/service/discovery/v3/discovery.proto`). */
const typeUrlField = 4;
const varintType = 0;
const eightBytesType = 1;
const lengthType = 2;
const fourBytesType = 5;

/**
 * Finds the type URL that a response gives itself while its bytes go by, in any chunks: resources are jumped over, and
 * nothing is kept but a field that is cut by the end of a chunk. Bytes that are no protobuf end the search: whoever
 * decodes the message refuses it.
 */
export class ResponseName {
  #typeUrl: string | undefined;
  /** Bytes of the present field that are still to come. */
  #skipBytes = 0;
  /** The beginning of a field whose head, or type URL, is cut. */
  #rest: Buffer | undefined;
  #isOver = false;
  /** In the bytes at hand. */
  #at = 0;

  /** As far as it is known; the last one counts, as in every protobuf decoder. */
  get typeUrl(): string | undefined {
    return this.#typeUrl;
  }

  /** Takes the next bytes and gives `typeUrl`. */
  push(chunk: Buffer): string | undefined {
    if (this.#isOver) return this.#typeUrl;
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    this.#at = Math.min(this.#skipBytes, bytes.length);
    this.#skipBytes -= this.#at;
    while (this.#at < bytes.length) {
      const start = this.#at;
      if (this.#readField(bytes)) continue;
      // The chunk's memory is not ours to keep.
      if (!this.#isOver) this.#rest = Buffer.from(bytes.subarray(start));
      break;
    }
    return this.#typeUrl;
  }

  /** False when the field's head, or the type URL, is not whole, and when the search is over. */
  #readField(bytes: Buffer): boolean {
    const tag = this.#readVarint(bytes);
    if (tag === undefined) return false;
    switch (tag % 8) {
      case varintType:
        return this.#readVarint(bytes) !== undefined;
      case eightBytesType:
        return this.#skip(bytes, 8);
      case fourBytesType:
        return this.#skip(bytes, 4);
      case lengthType: {
        const lengthBytes = this.#readVarint(bytes);
        if (lengthBytes === undefined) return false;
        return Math.floor(tag / 8) === typeUrlField
          ? this.#readTypeUrl(bytes, lengthBytes)
          : this.#skip(bytes, lengthBytes);
      }
      default:
        this.#isOver = true;
        return false;
    }
  }

  #readTypeUrl(bytes: Buffer, lengthBytes: number): boolean {
    this.#isOver = lengthBytes > maxTypeUrlBytes;
    const end = this.#at + lengthBytes;
    if (this.#isOver || end > bytes.length) return false;
    this.#typeUrl = bytes.toString('utf8', this.#at, end);
    this.#at = end;
    return true;
  }

  #skip(bytes: Buffer, lengthBytes: number): true {
    const end = this.#at + lengthBytes;
    this.#at = Math.min(end, bytes.length);
    this.#skipBytes = end - this.#at;
    return true;
  }

  /** Undefined when it is cut, or no varint. */
  #readVarint(bytes: Buffer): number | undefined {
    let value = 0;
    let weight = 1;
    for (let count = 0; count < maxVarintBytes; count += 1) {
      const byte = bytes[this.#at];
      if (byte === undefined) return undefined;
      this.#at += 1;
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) return value;
      weight *= 0x80;
    }
    this.#isOver = true;
    return undefined;
  }
}
