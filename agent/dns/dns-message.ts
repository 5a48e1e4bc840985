/**
 * The wire format of DNS, as far as a proxy needs it (RFC 1035 section 4, RFC 6891). What goes between client and
 * upstream is never decoded and encoded again: records of unknown types pass as they are.
 */

export const headerBytes = 12;
/** RFC 1035 2.3.4, on the wire with lengths and the root. */
export const maxNameBytes = 255;
export const maxLabelBytes = 63;
/** What every client takes over UDP (RFC 1035 4.2.1). */
export const minUdpBytes = 512;
/** Largest message over TCP, whose length has 16 bits. */
export const maxMessageBytes = 65_535;

export const recordType = { a: 1, cname: 5, aaaa: 28, opt: 41 } as const;
export const internetClass = 1;
export const responseCode = { noError: 0, formatError: 1, serverFailure: 2, notImplemented: 4 } as const;

/** Bits of the second word of the header. */
export const flag = {
  response: 0x8000,
  opcode: 0x7800,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
  checkingDisabled: 0x0010,
  responseCode: 0x000f,
} as const;

/** Where one record lies. */
export interface RecordSpan {
  readonly start: number;
  /** Behind its data. */
  readonly end: number;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
}

/** The offset behind a name; undefined when the name runs over the end. A pointer is not followed. */
export function skipName(message: Buffer, start: number): number | undefined {
  let at = start;
  for (;;) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2 <= message.length ? at + 2 : undefined;
    if (length > maxLabelBytes) return undefined;
    at += 1 + length;
    if (at - start > maxNameBytes) return undefined;
  }
}

/** The record at `start`; undefined when it runs over the end. */
export function readRecord(message: Buffer, start: number): RecordSpan | undefined {
  const fixed = skipName(message, start);
  if (fixed === undefined || fixed + 10 > message.length) return undefined;
  const end = fixed + 10 + message.readUInt16BE(fixed + 8);
  if (end > message.length) return undefined;
  return {
    start,
    end,
    type: message.readUInt16BE(fixed),
    class: message.readUInt16BE(fixed + 2),
    ttl: message.readUInt32BE(fixed + 4),
  };
}

/** A name in wire form. `name` ends with a dot, has only printable ASCII and labels of legal length (`isDnsName`). */
export function encodeName(name: string): Buffer {
  const parts: Buffer[] = [];
  for (const label of name.slice(0, -1).split('.')) {
    if (label !== '') parts.push(Buffer.of(label.length), Buffer.from(label, 'latin1'));
  }
  return Buffer.concat([...parts, Buffer.of(0)]);
}

/** True for a lower-case or upper-case name with a dot at the end that `encodeName` can write. */
export function isDnsName(name: string): boolean {
  if (!/^(?:[\u0021-\u002d\u002f-\u005b\u005d-\u007e]+\.)+$/.test(name)) return false;
  return name.length + 1 <= maxNameBytes && name.split('.').every((label) => label.length <= maxLabelBytes);
}
