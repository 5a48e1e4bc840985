import { readVarint } from './mutation.ts';

/** Bytes that are no message, found while walking. */
export class Malformed extends Error {}

type OnBytes = (field: number, value: Buffer) => void;

/**
 * All fields of a whole message, read at once instead of byte by byte. What `onBytes` throws ends it. Throws Malformed.
 * Source: protobuf encoding guide; groups are not used in the messages at hand.
 */
export function walk(message: Buffer, onBytes: OnBytes): void {
  const number = (at: number): { readonly value: number; readonly end: number } => {
    const read = readVarint(message, at);
    if (read === undefined) throw new Malformed();
    return read;
  };
  for (let at = 0; at < message.length; ) {
    const tag = number(at);
    const field = Math.floor(tag.value / 8);
    if (field === 0 || tag.value > 0xffff_ffff) throw new Malformed();
    at = tag.end;
    switch (tag.value % 8) {
      case 0:
        at = number(at).end;
        break;
      case 1:
        at += 8;
        break;
      case 2: {
        const length = number(at);
        at = length.end + length.value;
        // A nested walk sees what is there before it sees that something is missing.
        if (at > message.length) throw new Malformed();
        onBytes(field, message.subarray(length.end, at));
        break;
      }
      case 5:
        at += 4;
        break;
      default:
        throw new Malformed();
    }
    if (at > message.length) throw new Malformed();
  }
}
