/**
 * Text forms of Go's standard library, in which every setting of the stock agent is written
 * (`strconv.ParseBool`, `strconv.Atoi`, `strconv.ParseFloat`, `time.ParseDuration`, `strconv.Unquote`).
 */

const trueTexts = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const falseTexts = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** A boolean as Go reads it; undefined when the text is none (`yes`, empty, ...). */
export function parseGoBoolean(text: string): boolean | undefined {
  if (trueTexts.has(text)) return true;
  return falseTexts.has(text) ? false : undefined;
}

/** A decimal integer as `strconv.Atoi` reads it; undefined when it is none or is not exact in a double. */
export function parseGoInteger(text: string): number | undefined {
  if (!/^[+-]?\d+$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** A decimal number such as `0.5` or `1e-2`; undefined when the text is none. Go's `inf`, `nan` and hexadecimal are of no use here. */
export function parseGoNumber(text: string): number | undefined {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}

const msByUnit: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  // Micro sign and Greek mu.
  '\u00b5s': 1e-3,
  '\u03bcs': 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** A duration such as `1h30m`, `100ms` or `-1.5s` in ms (with a fraction below 1 ms); undefined when it is none. */
export function parseGoDuration(text: string): number | undefined {
  const match = /^([+-]?)(0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|[\u00b5\u03bc]s|ms|s|m|h))+)$/.exec(text);
  if (match?.[2] === undefined) return undefined;
  const sign = match[1] === '-' ? -1 : 1;
  let totalMs = 0;
  for (const [, amount, unit] of match[2].matchAll(/(\d+\.?\d*|\.\d+)(ns|us|[\u00b5\u03bc]s|ms|s|m|h)/g)) {
    totalMs += Number(amount) * (msByUnit[unit ?? ''] ?? Number.NaN);
  }
  return Number.isFinite(totalMs) ? sign * totalMs : undefined;
}

/** A duration in the form of protobuf JSON: seconds with 0, 3, 6 or 9 decimals and `s`. */
export function formatProtoDuration(durationMs: number): string {
  const nanoseconds = BigInt(Math.round(Math.abs(durationMs) * 1e6));
  const seconds = nanoseconds / 1_000_000_000n;
  const fraction = (nanoseconds % 1_000_000_000n).toString().padStart(9, '0');
  const trimmed = fraction.replace(/(?:000){1,3}$/, '');
  return `${durationMs < 0 ? '-' : ''}${seconds}${trimmed === '' ? '' : `.${trimmed}`}s`;
}

const simpleEscapes: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  '\\': 92,
  '"': 34,
};

/** The text inside a double-quoted or raw (back-quoted) Go string literal; undefined when the literal is malformed. */
export function unquoteGo(literal: string): string | undefined {
  const quote = literal[0];
  if (literal.length < 2 || literal.at(-1) !== quote) return undefined;
  const inner = literal.slice(1, -1);
  if (quote === '`') return inner.includes('`') ? undefined : inner.replaceAll('\r', '');
  if (quote !== '"') return undefined;
  // \x and octal escapes are bytes, so the text is put together as UTF-8.
  const parts: Buffer[] = [];
  const token =
    /\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtv\\"]))|([^"\\\n]+)/y;
  while (token.lastIndex < inner.length) {
    const match = token.exec(inner);
    if (match === null) return undefined;
    const [, hex, octal, short, long, simple, plain] = match;
    if (plain !== undefined) parts.push(Buffer.from(plain));
    else if (simple !== undefined) parts.push(Buffer.of(simpleEscapes[simple] ?? 0));
    else if (hex !== undefined) parts.push(Buffer.of(Number.parseInt(hex, 16)));
    else if (octal !== undefined) {
      const byte = Number.parseInt(octal, 8);
      if (byte > 255) return undefined;
      parts.push(Buffer.of(byte));
    } else {
      const codePoint = Number.parseInt(short ?? long ?? '', 16);
      if (codePoint > 0x10ffff || (codePoint >= 0xd800 && codePoint <= 0xdfff)) return undefined;
      parts.push(Buffer.from(String.fromCodePoint(codePoint)));
    }
  }
  return Buffer.concat(parts).toString();
}
