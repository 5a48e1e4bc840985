import { describeError } from '../log.ts';
import { sendRequest } from './http-exchange.ts';

/** What came of asking a port of this machine. */
export type LocalPage =
  /** Nobody listens there. */
  | { readonly kind: 'nobody' }
  | { readonly kind: 'page'; readonly text: string }
  /** Somebody answers, but has no such page: another program. */
  | { readonly kind: 'stranger'; readonly status: number }
  | { readonly kind: 'unreadable'; readonly reason: string };

/** Those who have the page answer at once; what takes longer hangs. */
const timeoutMs = 10_000;

/** Far more than the status of one proxy. */
const maxPageBytes = 64 * 1024 * 1024;

/** Asks a local port for a page. Never throws. */
export async function readLocalPage(port: number, path: string): Promise<LocalPage> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const url = new URL(`http://localhost:${port}${path}`);
    const response = await sendRequest({ url, method: 'GET', signal });
    const { statusCode = 0 } = response;
    if (statusCode !== 200) {
      response.destroy();
      return statusCode === 404
        ? { kind: 'stranger', status: statusCode }
        : { kind: 'unreadable', reason: `it answered with status ${statusCode}` };
    }
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > maxPageBytes) {
        return { kind: 'unreadable', reason: `its answer is longer than ${maxPageBytes} bytes` };
      }
      chunks.push(chunk);
    }
    return { kind: 'page', text: Buffer.concat(chunks).toString('utf8') };
  } catch (error) {
    if (isRefused(error)) return { kind: 'nobody' };
    const reason = signal.aborted ? `no full answer within ${timeoutMs / 1_000} s` : describeError(error);
    return { kind: 'unreadable', reason };
  }
}

/** A name with two addresses gives one error for both. */
function isRefused(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.every(isRefused);
  return error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED';
}
