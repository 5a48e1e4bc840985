/**
 * What happened on the streams, in order, and waiting for something to happen.
 */

import type { XdsMode, XdsRequest } from './discovery-messages.ts';
import { ControlPlaneError } from './error.ts';
import { shortTypeOf } from './type-urls.ts';
import type { Verdict } from './watch.ts';

interface EntryBase {
  /** Counts from 1 over all streams and restarts. */
  readonly seq: number;
  /** `performance.now()` at the time of the entry. */
  readonly atMs: number;
  readonly streamId: number;
}

/** A client opened a stream. */
export interface StreamOpened extends EntryBase {
  readonly kind: 'stream_opened';
  readonly mode: XdsMode;
}

/** A client's message, with what it was taken for. */
export interface RequestReceived extends EntryBase {
  readonly kind: 'request';
  readonly request: XdsRequest;
  readonly verdict: Verdict;
  /** Version of the response that an ACK or NACK is about; empty when it is about none that is known. */
  readonly answeredVersion: string;
  /** The message as it came. */
  readonly bytes: Buffer;
}

/** A response was queued for a client. */
export interface ResponseSent extends EntryBase {
  readonly kind: 'response';
  /** `answer` to a request, `push` of a change, or `raw`: made by the test. */
  readonly cause: 'answer' | 'push' | 'raw';
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
  readonly resourceNames: readonly string[];
  readonly removed: readonly string[];
  readonly sizeBytes: number;
}

/** A stream is gone. */
export interface StreamEnded extends EntryBase {
  readonly kind: 'stream_ended';
  readonly by: 'client' | 'server';
  /** gRPC status code that the server sent; undefined when the connection or the call was just dropped. */
  readonly code: number | undefined;
  readonly details: string;
}

/** One thing that happened on one stream. */
export type JournalEntry = StreamOpened | RequestReceived | ResponseSent | StreamEnded;

type WithoutBase<T> = T extends JournalEntry ? Omit<T, 'seq' | 'atMs'> : never;
/** An entry before the journal has given it its number and time. */
export type NewEntry = WithoutBase<JournalEntry>;

/** The limits of one wait. */
export interface WaitOptions {
  /** Default: that of the control plane. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

interface Waiter {
  readonly check: () => boolean;
  readonly fail: (error: Error) => void;
}

/** Enough for every test; a bench that pushes more loses its oldest entries, not its memory. */
const keptEntryCount = 20_000;
const keptRequestBytes = 64 * 1024 * 1024;
/** How many of the last entries a failed wait shows. */
const shownEntryCount = 12;

/** Keeps the last entries, and wakes those who wait when one is added. */
export class Journal {
  readonly #entries: JournalEntry[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #defaultTimeoutMs: number;
  #isClosed = false;
  #seq = 0;
  #requestBytes = 0;

  constructor(defaultTimeoutMs: number) {
    this.#defaultTimeoutMs = defaultTimeoutMs;
  }

  get entries(): readonly JournalEntry[] {
    return this.#entries;
  }

  append(entry: NewEntry): void {
    this.#seq += 1;
    const added = { ...entry, seq: this.#seq, atMs: performance.now() } as JournalEntry;
    this.#entries.push(added);
    this.#requestBytes += bytesOf(added);
    while (this.#entries.length > keptEntryCount || this.#requestBytes > keptRequestBytes) {
      const oldest = this.#entries.shift();
      if (oldest === undefined) break;
      this.#requestBytes -= bytesOf(oldest);
    }
    this.notify();
  }

  /** Lets those who wait look again, after a change that is no entry. */
  notify(): void {
    for (const waiter of this.#waiters) if (waiter.check()) this.#waiters.delete(waiter);
  }

  /**
   * Resolves with the first value that `select` gives; `select` is asked at once and after each change.
   * Rejects with ControlPlaneError `deadline`, `aborted`, or `not_running` when the control plane closes.
   */
  waitFor<T>(what: string, select: () => T | undefined, options: WaitOptions = {}): Promise<T> {
    const { timeoutMs = this.#defaultTimeoutMs, signal } = options;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const waiter: Waiter = {
      check: () => {
        const value = select();
        if (value === undefined) return false;
        resolve(value);
        return true;
      },
      fail: reject,
    };
    if (waiter.check()) return promise;
    if (this.#isClosed) {
      waiter.fail(closedError());
      return promise;
    }
    const fail = (code: 'deadline' | 'aborted', why: string): void => {
      this.#waiters.delete(waiter);
      reject(new ControlPlaneError(code, `${why} waiting for ${what}\n${this.describe()}`));
    };
    const timer = setTimeout(() => fail('deadline', `gave up after ${timeoutMs} ms`), timeoutMs);
    const onAbort = (): void => fail('aborted', 'was told to stop');
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    else this.#waiters.add(waiter);
    return promise.finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    });
  }

  /** Fails every wait, now and later. What was recorded stays readable. */
  close(): void {
    this.#isClosed = true;
    for (const waiter of this.#waiters) waiter.fail(closedError());
    this.#waiters.clear();
  }

  /** The last entries in words, for error texts. Without metadata: it holds tokens. */
  describe(entryCount: number = shownEntryCount): string {
    if (this.#entries.length === 0) return 'seen so far: nothing, no stream was opened';
    const lines = this.#entries.slice(-entryCount).map(describeEntry);
    return `seen last (of ${this.#seq}):\n${lines.map((line) => `  ${line}`).join('\n')}`;
  }
}

function closedError(): ControlPlaneError {
  return new ControlPlaneError('not_running', 'the control plane was closed: nothing will come any more');
}

function bytesOf(entry: JournalEntry): number {
  return entry.kind === 'request' ? entry.bytes.length : 0;
}

function describeEntry(entry: JournalEntry): string {
  const head = `#${entry.seq} stream ${entry.streamId}`;
  switch (entry.kind) {
    case 'stream_opened':
      return `${head} opened (${entry.mode})`;
    case 'request': {
      const { typeUrl, nonce, names, unsubscribe, error } = entry.request;
      const parts = [
        nonce === '' ? '' : `nonce ${nonce}`,
        names.length === 0 ? '' : `names ${names.join(', ')}`,
        unsubscribe.length === 0 ? '' : `unsubscribe ${unsubscribe.join(', ')}`,
        error === undefined ? '' : `error ${error.code}: ${error.message}`,
      ].filter((part) => part !== '');
      return `${head} <- ${shortTypeOf(typeUrl)} ${entry.verdict} ${parts.join('; ')}`.trimEnd();
    }
    case 'response': {
      const names =
        entry.resourceNames.length > 5
          ? `${entry.resourceNames.length} resources`
          : entry.resourceNames.join(', ');
      return `${head} -> ${shortTypeOf(entry.typeUrl)} ${entry.cause} nonce ${entry.nonce} [${names}] ${entry.sizeBytes} bytes`;
    }
    case 'stream_ended':
      return `${head} ended by ${entry.by}${entry.code === undefined ? '' : ` with status ${entry.code}`} ${entry.details}`.trimEnd();
    default:
      return entry satisfies never;
  }
}
