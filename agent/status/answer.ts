import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';
import { type ContentEncoding, chooseEncoding, minCompressedBytes } from './content-encoding.ts';

/** The client closed its connection before the answer was complete. Nobody is left to tell: end quietly. */
export class ClientGoneError extends Error {
  override readonly name = 'ClientGoneError';
  constructor() {
    super('the client closed the connection before its answer was complete');
  }
}

/** Output of a compressor comes in pieces of this size. */
const codecChunkBytes = 16 * 1024;

type BodyState =
  /** Too little to decide on compression; nothing is sent. */
  | { readonly kind: 'held'; readonly chunks: Buffer[]; sizeBytes: number }
  | { readonly kind: 'plain' }
  /** `sent` settles when the whole compressed body has been handed over. */
  | { readonly kind: 'encoded'; readonly codec: Transform; readonly sent: Promise<void> }
  | { readonly kind: 'ended' };

/**
 * One HTTP answer: the only writer of its stream, with back-pressure and the compression layer of the stock agent
 * (istio/istio `pilot/cmd/pilot-agent/status/server.go`, klauspost/compress `gzhttp`).
 */
export class Answer {
  readonly #response: ServerResponse;
  readonly #encoding: ContentEncoding | undefined;
  readonly #gone = new AbortController();
  #body: BodyState = { kind: 'held', chunks: [], sizeBytes: 0 };

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#response = response;
    this.#encoding =
      request.method === 'HEAD' ? undefined : chooseEncoding(request.headers['accept-encoding']?.toString());
    response.setHeader('Vary', 'Accept-Encoding');
    response.once('close', () => {
      if (!response.writableFinished) this.#gone.abort(new ClientGoneError());
    });
  }

  /** Aborts with ClientGoneError when the connection is lost before the end of the answer. */
  get clientGone(): AbortSignal {
    return this.#gone.signal;
  }

  /** True once bytes may have left: the status can no longer be changed. */
  get isStarted(): boolean {
    return this.#body.kind !== 'held';
  }

  /** Before the first write. 200 when never called. */
  setStatus(status: number): void {
    this.#response.statusCode = status;
  }

  /** Before the first write. */
  setHeader(name: string, value: string): void {
    this.#response.setHeader(name, value);
  }

  /** Resolves when the chunk is with the kernel or the compressor: its memory is the caller's again. Throws ClientGoneError. */
  async write(chunk: Uint8Array): Promise<void> {
    this.#gone.signal.throwIfAborted();
    if (chunk.byteLength === 0) return;
    switch (this.#body.kind) {
      case 'held':
        this.#body.chunks.push(Buffer.from(chunk));
        this.#body.sizeBytes += chunk.byteLength;
        if (this.#body.sizeBytes >= minCompressedBytes) await this.#open(Buffer.concat(this.#body.chunks));
        return;
      case 'plain':
        return this.#writeTo(this.#response, chunk);
      case 'encoded':
        return this.#writeTo(this.#body.codec, chunk);
      case 'ended':
        throw new Error('an answer was written to after its end');
      default:
        return this.#body satisfies never;
    }
  }

  /** Ends the answer and resolves when all of it is with the kernel. Throws ClientGoneError. */
  async end(chunk?: Uint8Array): Promise<void> {
    if (chunk !== undefined) await this.write(chunk);
    this.#gone.signal.throwIfAborted();
    const body = this.#body;
    this.#body = { kind: 'ended' };
    switch (body.kind) {
      case 'held':
        this.#response.setHeader('Content-Length', body.sizeBytes);
        return this.#finish(Buffer.concat(body.chunks));
      case 'plain':
        return this.#finish();
      case 'encoded':
        body.codec.end();
        return body.sent;
      case 'ended':
        return;
      default:
        return body satisfies never;
    }
  }

  /** A whole text answer; error answers carry the header that keeps browsers from guessing. */
  async endWithText(status: number, text: string): Promise<void> {
    this.setStatus(status);
    this.setHeader('Content-Type', 'text/plain; charset=utf-8');
    if (status >= 400) this.setHeader('X-Content-Type-Options', 'nosniff');
    await this.end(Buffer.from(text));
  }

  /** Breaks the connection, so that a half answer is not taken for a whole one. */
  destroy(): void {
    this.#response.destroy();
    if (this.#body.kind === 'encoded') this.#body.codec.destroy();
  }

  async #open(held: Buffer): Promise<void> {
    if (this.#encoding === undefined) {
      this.#body = { kind: 'plain' };
      return this.#writeTo(this.#response, held);
    }
    this.#response.setHeader('Content-Encoding', this.#encoding);
    const codec = makeCodec(this.#encoding);
    const sent = pipeline(codec, this.#response).catch((error: unknown) => {
      throw nameFailure(error);
    });
    // Whoever writes or ends sees the failure; this only keeps it from counting as unhandled before that.
    sent.catch(() => undefined);
    this.#body = { kind: 'encoded', codec, sent };
    return this.#writeTo(codec, held);
  }

  /** The signal is a second way out: a wait that never ended would hold the place of a scrape for ever. */
  async #writeTo(stream: ServerResponse | Transform, chunk: Uint8Array): Promise<void> {
    const { signal } = this.#gone;
    await new Promise<void>((resolve, reject) => {
      const onGone = () => reject(new ClientGoneError());
      signal.addEventListener('abort', onGone, { once: true });
      stream.write(chunk, (error) => {
        signal.removeEventListener('abort', onGone);
        if (error === undefined || error === null) resolve();
        else reject(nameFailure(error));
      });
    });
  }

  async #finish(last?: Buffer): Promise<void> {
    const { signal } = this.#gone;
    await new Promise<void>((resolve, reject) => {
      const onGone = () => reject(new ClientGoneError());
      signal.addEventListener('abort', onGone, { once: true });
      this.#response.end(last, () => {
        signal.removeEventListener('abort', onGone);
        resolve();
      });
    });
  }
}

/** A failed write is a lost connection, unless the compressor itself has failed (zlib's codes). */
function nameFailure(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return /^(?:Z_|ZSTD_|ERR_ZLIB)/.test(code) ? error : new ClientGoneError();
}

/** The cheapest levels and small windows: the bytes stay inside the cluster, the memory is paid in every pod. */
function makeCodec(encoding: ContentEncoding): Transform {
  switch (encoding) {
    case 'gzip':
      return createGzip({ level: 1, chunkSize: codecChunkBytes });
    case 'zstd':
      return createZstdCompress({
        chunkSize: codecChunkBytes,
        params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_windowLog]: 17 },
      });
    default:
      return encoding satisfies never;
  }
}
