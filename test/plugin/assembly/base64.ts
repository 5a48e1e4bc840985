/** Standard base64 (RFC 4648 section 4). */

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The padded base64 of a text's UTF-8 bytes. */
export function encodeBase64(text: string): string {
  const bytes = Uint8Array.wrap(String.UTF8.encode(text));
  let encoded = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const group =
      ((<u32>bytes[i]) << 16) | (left > 1 ? (<u32>bytes[i + 1]) << 8 : 0) | (left > 2 ? <u32>bytes[i + 2] : 0);
    encoded += ALPHABET.charAt(group >> 18) + ALPHABET.charAt((group >> 12) & 63);
    encoded += left > 1 ? ALPHABET.charAt((group >> 6) & 63) : "=";
    encoded += left > 2 ? ALPHABET.charAt(group & 63) : "=";
  }
  return encoded;
}

/** The text that base64, padded or not, stands for; null when it is not base64. */
export function decodeBase64(encoded: string): string | null {
  let end = encoded.length;
  while (end > 0 && encoded.length - end < 2 && encoded.charCodeAt(end - 1) === 0x3d) end--;
  if (end % 4 === 1 || (end !== encoded.length && encoded.length % 4 !== 0)) return null;
  const bytes = new Uint8Array((end * 3) / 4);
  let group: u32 = 0;
  let bitCount = 0;
  let written = 0;
  for (let i = 0; i < end; i++) {
    const digit = ALPHABET.indexOf(encoded.charAt(i));
    if (digit < 0) return null;
    group = (group << 6) | <u32>digit;
    bitCount += 6;
    if (bitCount >= 8) {
      bitCount -= 8;
      bytes[written++] = <u8>(group >> bitCount);
    }
  }
  return String.UTF8.decode(bytes.buffer);
}
