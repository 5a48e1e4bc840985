import type { HttpResponse } from './http-client.ts';
import { FetchError } from './types.ts';

/** After this much of a body a broken connection is not counted with those before. */
const progressBytes = 64 * 1024;

/** A body that can be asked for from any byte on. */
export interface ResumableBody {
  /**
   * The answer from this byte on: status 206, or 200 with the whole from a server that knows no ranges. What it
   * throws ends the body. `failedCount` connections broke before without progress.
   */
  readonly ask: (startBytes: number, failedCount: number) => Promise<HttpResponse>;
  /** Waits before the rest is asked for; false when it must not be. `failedCount` connections broke without progress. */
  readonly mayGoOn: (error: unknown, failedCount: number) => Promise<boolean>;
  /** Failures that were before, default 0. */
  readonly failedCount?: number;
}

/** The request header for the rest of a body; none for all of it. */
export function rangeHeader(startBytes: number): Readonly<Record<string, string>> {
  return startBytes > 0 ? { range: `bytes=${startBytes}-` } : {};
}

/**
 * The bytes of a body, each once and in order. When the connection breaks, the rest is asked for. Throws FetchError
 * `network` when a server sends another part than it was asked for, and the last failure.
 */
export async function* readResumed(body: ResumableBody): AsyncGenerator<Uint8Array> {
  let receivedBytes = 0;
  for (let failedCount = body.failedCount ?? 0; ; ) {
    const startBytes = receivedBytes;
    const response = await body.ask(startBytes, failedCount);
    // A server that knows no ranges starts over: what is known already is dropped.
    let position = await rangeStart(response, startBytes);
    try {
      for await (const chunk of response.body) {
        const known = Math.min(chunk.byteLength, Math.max(0, receivedBytes - position));
        position += chunk.byteLength;
        receivedBytes = Math.max(receivedBytes, position);
        if (known < chunk.byteLength) yield chunk.subarray(known);
      }
      return;
    } catch (error) {
      failedCount = receivedBytes - startBytes >= progressBytes ? 1 : failedCount + 1;
      if (!(await body.mayGoOn(error, failedCount))) throw error;
    }
  }
}

/** Offset of the first byte of an answer. Throws FetchError `network` when it is not the one asked for. */
async function rangeStart(response: HttpResponse, askedBytes: number): Promise<number> {
  if (response.status !== 206) return 0;
  const [, start] = /^bytes (\d+)-/.exec(response.header('content-range') ?? '') ?? [];
  if (start !== undefined && Number(start) === askedBytes) return askedBytes;
  await response.discard();
  throw new FetchError(
    'network',
    `asked for the rest from byte ${askedBytes}, the server sends another part`,
  );
}
