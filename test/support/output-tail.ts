import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/** Lines kept for error messages; a test's process writes far fewer. */
const maxKeptLines = 5000;

interface Waiter {
  readonly pattern: RegExp;
  readonly resolve: (line: string) => void;
}

/** Collects the lines that a child process writes, keeps the newest, and tells who waits for one. */
export class OutputTail {
  readonly #lines: string[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #onLine: ((line: string) => void) | undefined;

  /** `onLine` sees each line as it comes, without its newline. */
  constructor(onLine?: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** Reads a stream to its end. Several streams may be read at once; their lines are not mixed. */
  read(stream: Readable): void {
    const decoder = new StringDecoder('utf8');
    let rest = '';
    stream.on('data', (chunk: Buffer) => {
      const parts = (rest + decoder.write(chunk)).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) this.#add(line);
    });
    stream.on('end', () => {
      if (rest !== '') this.#add(rest);
    });
    stream.on('error', (error) => this.#add(`(the output cannot be read: ${error.message})`));
  }

  /** All kept lines, oldest first. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** The newest lines as one text. */
  tail(lineCount = 40): string {
    return this.#lines.length === 0 ? '(no output)' : this.#lines.slice(-lineCount).join('\n');
  }

  /** The first line that matches, of those kept or of those to come. Rejects with the signal's reason. */
  waitFor(pattern: RegExp, options: { readonly signal: AbortSignal }): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const present = this.#lines.find((line) => pattern.test(line));
    if (present !== undefined) return Promise.resolve(present);
    const waiter: Waiter = { pattern, resolve };
    const giveUp = (): void => reject(options.signal.reason as Error);
    this.#waiters.add(waiter);
    options.signal.addEventListener('abort', giveUp, { once: true });
    if (options.signal.aborted) giveUp();
    return promise.finally(() => {
      this.#waiters.delete(waiter);
      options.signal.removeEventListener('abort', giveUp);
    });
  }

  #add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > maxKeptLines) this.#lines.splice(0, this.#lines.length - maxKeptLines);
    this.#onLine?.(line);
    for (const waiter of this.#waiters) if (waiter.pattern.test(line)) waiter.resolve(line);
  }
}
