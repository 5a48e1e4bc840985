import { MessageTypeScanner } from './message-type.ts';

/**
 * Finds the type URL that a response gives itself while its bytes go by, in any chunks: resources are jumped over, and
 * nothing is kept but a field that is cut by the end of a chunk. Bytes that are no protobuf end the search: whoever
 * decodes the message refuses it.
 */
export class ResponseName {
  // Its name has the number that requests in state of the world give theirs, in both kinds; the walk ends with the bytes.
  readonly #scanner = new MessageTypeScanner('request', 'sotw', Number.POSITIVE_INFINITY);

  /** As far as it is known; the last one counts, as in every protobuf decoder. */
  get typeUrl(): string | undefined {
    return this.#scanner.lastTypeUrl;
  }

  /** Takes the next bytes and gives `typeUrl`. */
  push(chunk: Buffer): string | undefined {
    this.#scanner.push(chunk);
    return this.typeUrl;
  }
}
