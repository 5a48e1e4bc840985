/** What an answer may be compressed with; nothing else is offered. */
export type ContentEncoding = 'gzip' | 'zstd';

/** Shorter answers are not worth the work. Source: klauspost/compress `gzhttp`, DefaultMinSize. */
export const minCompressedBytes = 1024;

/**
 * The acceptable encoding of higher weight, zstd on a tie; undefined for none. `*` is not taken as a wish for
 * compression: an uncompressed answer satisfies it too.
 */
export function chooseEncoding(acceptEncoding: string | undefined): ContentEncoding | undefined {
  const weights: Record<ContentEncoding, number> = { zstd: 0, gzip: 0 };
  for (const item of (acceptEncoding ?? '').toLowerCase().split(',')) {
    const [name = '', ...parameters] = item.split(';').map((part) => part.trim());
    if (name === 'gzip' || name === 'zstd') weights[name] = weightOf(parameters);
  }
  if (weights.zstd > 0 && weights.zstd >= weights.gzip) return 'zstd';
  return weights.gzip > 0 ? 'gzip' : undefined;
}

/** RFC 9110 12.4.2: 1 when there is none. Text that is no weight makes the item unacceptable. */
function weightOf(parameters: readonly string[]): number {
  const text = parameters.find((parameter) => /^q\s*=/.test(parameter));
  if (text === undefined) return 1;
  const weight = text.slice(text.indexOf('=') + 1).trim();
  return /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(weight) ? Number(weight) : 0;
}
