import { bytesTags, FieldCursor, MessageWriter, noBytes } from './wire.ts';

/** `google.protobuf.Any`. */
export interface AnyMessage {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

const fields = { typeUrl: 1, value: 2 } as const;
const tags = bytesTags(fields);

/** Throws WireFormatError. The value is a part of `message`. */
export function readAny(message: Buffer): AnyMessage & { readonly value: Buffer } {
  const cursor = new FieldCursor(message);
  let typeUrl = '';
  let value = noBytes;
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === tags.typeUrl) typeUrl = cursor.text();
    else if (tag === tags.value) value = cursor.bytes();
  }
  return { typeUrl, value };
}

export function writeAny({ typeUrl, value }: AnyMessage): MessageWriter {
  return new MessageWriter().text(fields.typeUrl, typeUrl).bytes(fields.value, value);
}
