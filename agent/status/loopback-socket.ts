import { connect, type Socket } from 'node:net';
import { ScrapeError } from './scrape-error.ts';

/**
 * One buffer for all reads of a connection. `node:http` allocates every chunk anew and V8 does not see their weight:
 * a 50 MB page would raise the memory of the process by 50 MB, for good. With this buffer it is 5 MB.
 */
const readBufferBytes = 64 * 1024;

/** IPv4 first as most servers listen there; an application may listen on one family only. */
const loopbackAddresses = ['127.0.0.1', '::1'] as const;

/** Where a read waits, and what has come while nobody waited. */
type ReadState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'arrived'; readonly bytes: Buffer }
  | { readonly kind: 'waiting'; readonly read: PromiseWithResolvers<Buffer | undefined> }
  | { readonly kind: 'ended' }
  | { readonly kind: 'failed'; readonly error: Error };

/** A TCP connection to this machine that is read by pulling, through one reused buffer. */
export class LoopbackSocket {
  readonly #socket: Socket;
  #state: ReadState = { kind: 'idle' };

  private constructor(host: string, port: number, signal: AbortSignal) {
    const onread = {
      buffer: Buffer.allocUnsafeSlow(readBufferBytes),
      callback: (byteCount: number, buffer: Uint8Array) => {
        this.#onBytes(Buffer.from(buffer.buffer, buffer.byteOffset, byteCount));
        return false;
      },
    };
    this.#socket = connect({ host, port, onread, noDelay: true });
    const onAbort = () => this.#socket.destroy(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#socket.on('end', () => this.#onEnd({ kind: 'ended' }));
    this.#socket.on('error', (error) => this.#onEnd({ kind: 'failed', error }));
    this.#socket.on('close', () => {
      signal.removeEventListener('abort', onAbort);
      this.#onEnd({ kind: 'failed', error: new Error('the connection was closed') });
    });
  }

  /** Tries the loopback addresses in order. Throws ScrapeError `connect`, or the reason of `signal`. */
  static async open(options: {
    readonly port: number;
    readonly signal: AbortSignal;
  }): Promise<LoopbackSocket> {
    const { port, signal } = options;
    const failures: string[] = [];
    for (const host of loopbackAddresses) {
      signal.throwIfAborted();
      const socket = new LoopbackSocket(host, port, signal);
      try {
        await socket.#connected();
        return socket;
      } catch (error) {
        socket.close();
        signal.throwIfAborted();
        failures.push((error as Error).message);
      }
    }
    throw new ScrapeError('connect', `no connection to localhost:${port}: ${failures.join('; ')}`);
  }

  write(text: string): void {
    // Header bytes are latin-1 on the wire, as node:http has decoded them.
    this.#socket.write(text, 'latin1');
  }

  /** The next bytes, valid until the next read; undefined at the end. Throws what broke the connection. */
  async read(): Promise<Buffer | undefined> {
    const state = this.#state;
    switch (state.kind) {
      case 'arrived':
        this.#state = { kind: 'idle' };
        return state.bytes;
      case 'ended':
        return undefined;
      case 'failed':
        throw state.error;
      case 'idle': {
        const read = Promise.withResolvers<Buffer | undefined>();
        this.#state = { kind: 'waiting', read };
        this.#socket.resume();
        return read.promise;
      }
      case 'waiting':
        throw new Error('a socket is read twice at once');
      default:
        return state satisfies never;
    }
  }

  /** Safe twice. */
  close(): void {
    this.#socket.destroy();
  }

  async #connected(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#socket.once('connect', resolve);
      this.#socket.once('error', reject);
      this.#socket.once('close', () => reject(new Error('the connection was closed')));
    });
  }

  #onBytes(bytes: Buffer): void {
    const state = this.#state;
    if (state.kind === 'waiting') {
      this.#state = { kind: 'idle' };
      state.read.resolve(bytes);
    } else if (state.kind === 'idle') this.#state = { kind: 'arrived', bytes };
  }

  /** Bytes that have arrived are dropped when the connection fails after them: the page is cut either way. */
  #onEnd(end: Extract<ReadState, { kind: 'ended' | 'failed' }>): void {
    const state = this.#state;
    if (state.kind === 'ended' || state.kind === 'failed') return;
    this.#state = end;
    if (state.kind !== 'waiting') return;
    if (end.kind === 'ended') state.read.resolve(undefined);
    else state.read.reject(end.error);
  }
}
