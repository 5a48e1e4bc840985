import { FetchError } from './types.ts';

/** Reads a small body whole. Throws FetchError `too_large` with what `what` names, and what the body throws. */
export async function readBounded(
  body: AsyncIterable<Uint8Array>,
  options: { readonly maxSizeBytes: number; readonly what: string },
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > options.maxSizeBytes) {
      throw new FetchError('too_large', `${options.what} is larger than ${options.maxSizeBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}
