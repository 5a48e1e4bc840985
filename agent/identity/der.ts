/** A writer of DER, as far as a certificate request needs it (X.690). Each function gives one whole element. */

const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectId: 0x06,
  printableString: 0x13,
  sequence: 0x30,
  set: 0x31,
} as const;

/** An element of any tag: identifier octet, definite length, contents. */
export function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const sizeBytes = contents.reduce((sum, part) => sum + part.byteLength, 0);
  return Buffer.concat([Buffer.of(tag, ...lengthOctets(sizeBytes)), ...contents]);
}

export function sequence(...contents: readonly Uint8Array[]): Buffer {
  return element(tags.sequence, ...contents);
}

export function set(...contents: readonly Uint8Array[]): Buffer {
  return element(tags.set, ...contents);
}

/** A number from 0 to 127. */
export function smallInteger(value: number): Buffer {
  return element(tags.integer, Buffer.of(value));
}

export function booleanTrue(): Buffer {
  return element(tags.boolean, Buffer.of(0xff));
}

export function nullValue(): Buffer {
  return element(tags.null);
}

export function octetString(contents: Uint8Array): Buffer {
  return element(tags.octetString, contents);
}

/** A bit string of whole octets. */
export function bitString(contents: Uint8Array): Buffer {
  return element(tags.bitString, Buffer.of(0), contents);
}

export function printableString(text: string): Buffer {
  return element(tags.printableString, Buffer.from(text, 'latin1'));
}

/** `dotted` such as `2.5.29.17`: two arcs or more. */
export function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const arcs = [first * 40 + second, ...rest];
  return element(tags.objectId, Buffer.from(arcs.flatMap(base128)));
}

/** Tag of a context-specific element: `[number]` in ASN.1. */
export function contextTag(number: number, isConstructed: boolean): number {
  return 0x80 | (isConstructed ? 0x20 : 0) | number;
}

function lengthOctets(sizeBytes: number): readonly number[] {
  if (sizeBytes < 0x80) return [sizeBytes];
  const octets: number[] = [];
  for (let rest = sizeBytes; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return [0x80 | octets.length, ...octets];
}

function base128(arc: number): readonly number[] {
  const octets = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) {
    octets.unshift(0x80 | (rest % 128));
  }
  return octets;
}
