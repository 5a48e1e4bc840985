/** DER, as far as certificates and timestamps of tests need it (ITU-T X.690). Not the agent's own: each checks the other. */

/** A tag, a length, contents. */
export function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const size = content.byteLength;
  if (size < 0x80) return Buffer.concat([Buffer.of(tag, size), content]);
  const sizeHex = size.toString(16);
  const sizeBytes = Buffer.from(sizeHex.length % 2 === 0 ? sizeHex : `0${sizeHex}`, 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | sizeBytes.byteLength), sizeBytes, content]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => element(0x30, ...parts);
export const set = (...parts: readonly Uint8Array[]): Buffer => element(0x31, ...parts);
export const octets = (bytes: Uint8Array): Buffer => element(0x04, bytes);
export const bits = (bytes: Uint8Array): Buffer => element(0x03, Buffer.of(0), bytes);
export const text = (value: string): Buffer => element(0x0c, Buffer.from(value));
export const isTrue = element(0x01, Buffer.of(0xff));
/** Constructed, context-specific. */
export const tagged = (number: number, ...parts: readonly Uint8Array[]): Buffer =>
  element(0xa0 | number, ...parts);

/** A positive integer from its bytes. */
export function integer(bytes: Uint8Array): Buffer {
  return element(0x02, (bytes[0] ?? 0) < 0x80 ? bytes : Buffer.concat([Buffer.of(0), bytes]));
}

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const arc = (value: number): number[] => {
    const groups = [value & 0x7f];
    for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift((left & 0x7f) | 0x80);
    return groups;
  };
  return element(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(arc)]));
}

/** GeneralizedTime, in whole seconds. */
export function longTime(date: Date): Buffer {
  return element(0x18, Buffer.from(timeDigits(date)));
}

/** Time of a certificate (RFC 5280 section 4.1.2.5): UTCTime through 2049, GeneralizedTime after. */
export function time(date: Date): Buffer {
  return date.getUTCFullYear() >= 2050
    ? longTime(date)
    : element(0x17, Buffer.from(timeDigits(date).slice(2)));
}

function timeDigits(date: Date): string {
  return `${date.toISOString().replaceAll(/[-:T]|\..*$/g, '')}Z`;
}

export function extension(id: string, value: Uint8Array, isCritical = false): Buffer {
  return sequence(oid(id), ...(isCritical ? [isTrue] : []), octets(value));
}

export function name(commonName: string): Buffer {
  return sequence(set(sequence(oid('2.5.4.3'), text(commonName))));
}

export function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
