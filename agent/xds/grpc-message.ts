/**
 * A longer status message is cut: it travels in one header, and peers refuse large headers (Envoy from 60 KB;
 * a character takes up to 9 bytes when encoded).
 */
const maxMessageCharacters = 4096;

/** A status message as the value of `grpc-message` (grpc `PROTOCOL-HTTP2.md`, Percent-Encoded). */
export function encodeGrpcMessage(message: string): string {
  const cut =
    message.length > maxMessageCharacters ? `${message.slice(0, maxMessageCharacters)}...` : message;
  let encoded = '';
  for (const byte of Buffer.from(cut, 'utf8')) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}

/** The text of a `grpc-message` value. Never fails: what is no valid escape stays as it is, as the protocol asks. */
export function decodeGrpcMessage(value: string): string {
  if (!value.includes('%')) return value;
  const bytes: number[] = [];
  for (let at = 0; at < value.length; at += 1) {
    const escape = value.slice(at, at + 3);
    if (/^%[0-9a-fA-F]{2}$/.test(escape)) {
      bytes.push(Number.parseInt(escape.slice(1), 16));
      at += 2;
    } else {
      bytes.push(...Buffer.from(value.charAt(at), 'utf8'));
    }
  }
  return Buffer.from(bytes).toString('utf8');
}
