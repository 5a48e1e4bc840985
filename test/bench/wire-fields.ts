/**
 * Reads single fields of an encoded protobuf message without decoding the rest, so that the load side costs little
 * and shares no code with the agent. Source: protobuf encoding guide, Message Structure.
 */

/** The contents of all length-delimited fields with this number, in wire order; parts of `message`, not copies. */
export function wireFields(message: Buffer, fieldNumber: number): readonly Buffer[] {
  const found: Buffer[] = [];
  let offset = 0;
  while (offset < message.length) {
    const tag = readVarint(message, offset);
    offset = tag.end;
    switch (tag.value % 8) {
      case 0:
        offset = readVarint(message, offset).end;
        break;
      case 1:
        offset += 8;
        break;
      case 2: {
        const length = readVarint(message, offset);
        offset = length.end + length.value;
        if (offset > message.length) throw new RangeError('A protobuf field is longer than its message.');
        if (Math.floor(tag.value / 8) === fieldNumber) found.push(message.subarray(length.end, offset));
        break;
      }
      case 5:
        offset += 4;
        break;
      default:
        throw new RangeError(`Wire type ${tag.value % 8} is not used by proto3.`);
    }
  }
  return found;
}

/** The text of a field that stands once; empty when it is absent. */
export function wireText(message: Buffer, fieldNumber: number): string {
  return wireFields(message, fieldNumber)[0]?.toString('utf8') ?? '';
}

/** Follows a path of nested messages, the first of each field; undefined when one of them is absent. */
export function wireField(message: Buffer, ...path: readonly number[]): Buffer | undefined {
  let current: Buffer | undefined = message;
  for (const fieldNumber of path) {
    if (current === undefined) return undefined;
    current = wireFields(current, fieldNumber)[0];
  }
  return current;
}

function readVarint(bytes: Buffer, start: number): { readonly value: number; readonly end: number } {
  let value = 0;
  for (let at = start, scale = 1; ; at += 1, scale *= 128) {
    const byte = bytes[at];
    if (byte === undefined) throw new RangeError('A protobuf message ends inside a number.');
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, end: at + 1 };
  }
}
