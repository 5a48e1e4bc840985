/** Bytes of a standard base64 text (RFC 4648 section 4, with padding); undefined when it is none. Empty is none. */
export function decodeBase64(text: string): Buffer | undefined {
  if (text === '' || text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  return Buffer.from(text, 'base64');
}

/** The value of a JSON document in UTF-8; undefined when it is none (no JSON document is undefined). */
export function decodeJson(document: Uint8Array | string): unknown {
  try {
    const text =
      typeof document === 'string' ? document : new TextDecoder('utf-8', { fatal: true }).decode(document);
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
