import type { ProbeUrl } from './http-redirect.ts';

/** Header fields in order; repeated names stand twice. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

/** One GET to one server. */
export interface HttpExchangeRequest {
  readonly url: ProbeUrl;
  /** The name the server is asked by. */
  readonly hostHeader: string;
  /** Without `Host`, and without fields that belong to one connection. */
  readonly headers: HeaderList;
  /** As much of the body as is wanted; the rest is not read. */
  readonly maxBodyBytes: number;
}

/** What one server said. */
export interface HttpExchangeAnswer {
  readonly status: number;
  readonly location: string | undefined;
  /** At most `maxBodyBytes`. */
  readonly body: Buffer;
}

/** `stale`: the connection was kept from an earlier probe and is gone; a new one may do. */
export type HttpExchangeOutcome = HttpExchangeAnswer | 'stale';

/** Reads the begin of a body. Throws what breaks the stream. */
export async function readBodyStart(body: AsyncIterable<Buffer>, maxBodyBytes: number): Promise<Buffer> {
  if (maxBodyBytes === 0) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes >= maxBodyBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBodyBytes);
}
