/** Reads the fields of a protobuf message without a schema: for comparing bytes field by field. */

/** One field as it stands on the wire. */
export interface WireField {
  readonly number: number;
  /** A varint as number, eight bytes or a length-delimited field as bytes. */
  readonly value: number | Buffer;
}

/** In wire order. Throws RangeError when the bytes are no protobuf message. */
export function readFields(bytes: Buffer): WireField[] {
  const fields: WireField[] = [];
  let position = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[position];
      if (byte === undefined) throw new RangeError(`the message ends within a varint at ${position}`);
      position += 1;
      value += (byte & 0x7f) * shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (length: number): Buffer => {
    if (position + length > bytes.length)
      throw new RangeError(`field at ${position} is longer than its message`);
    position += length;
    return bytes.subarray(position - length, position);
  };
  while (position < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        fields.push({ number, value: varint() });
        break;
      case 1:
        fields.push({ number, value: take(8) });
        break;
      case 2:
        fields.push({ number, value: take(varint()) });
        break;
      default:
        throw new RangeError(`wire type ${tag % 8} at ${position} is not read here`);
    }
  }
  return fields;
}
