import type { RecordedRequest } from './scripted-server.ts';

/** What a server does wrong with one request. */
export type Fault =
  /** This answer instead of the real one: an HTML error page, 429 with `retry-after`, 401 without a challenge. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** The real answer with other headers. */
  | { readonly kind: 'headers'; readonly headers: Readonly<Record<string, string>> }
  | { readonly kind: 'redirect'; readonly location: string; readonly status?: number }
  /** Nothing is answered before the promise settles. */
  | { readonly kind: 'delay'; readonly until: (request: RecordedRequest) => Promise<unknown> }
  /** The connection is reset before any answer. */
  | { readonly kind: 'disconnect' }
  /** The connection ends after so many body bytes (1 or more), short of the promised length. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** The body stops after so many bytes (1 or more) until the promise settles. */
  | {
      readonly kind: 'stall';
      readonly afterBytes: number;
      readonly until: (request: RecordedRequest) => Promise<unknown>;
    }
  /** One byte of the content is flipped (default: the first); the length stays. */
  | { readonly kind: 'wrong-bytes'; readonly atByte?: number };

/** Which requests are meant; an absent part matches all. */
export interface RequestMatch {
  readonly method?: string;
  /** The whole path, or a pattern found in it; without query. */
  readonly path?: string | RegExp;
  readonly when?: (request: RecordedRequest) => boolean;
}

export interface FaultRule {
  readonly match: RequestMatch;
  readonly faults: readonly Fault[];
}

/** A copy of the chunk, which begins at `position`, with the content's byte `atByte` inverted if it holds that. */
export function flipByte(chunk: Uint8Array, position: number, atByte: number): Uint8Array {
  const index = atByte - position;
  if (index < 0 || index >= chunk.byteLength) return chunk;
  const copy = Uint8Array.from(chunk);
  copy[index] = (copy[index] ?? 0) ^ 0xff;
  return copy;
}
