import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type Fault, type FaultRule, flipByte, type RequestMatch } from './fault.ts';

/** What an answer carries. A file is streamed, never read whole. */
export type Content =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'file'; readonly path: string; readonly sizeBytes: number };

/** An answer as data: HEAD, Range and faults are applied to it when it is sent. */
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly content?: Content;
}

/** One request as it came. */
export interface RecordedRequest {
  readonly method: string;
  /** Without query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface ScriptedServerOptions {
  /** PEM texts; absent: plain HTTP. */
  readonly tls?: { readonly key: string; readonly certificate: string };
  readonly answer: (request: RecordedRequest) => Answer | Promise<Answer>;
}

/** The newest requests are kept for a look back; the counts cover all. */
const maxKeptRequests = 10_000;
/** Requests in tests are small. */
const maxRequestBodyBytes = 1024 * 1024;

interface Waiter {
  readonly match: RequestMatch;
  readonly requestCount: number;
  readonly resolve: () => void;
}

/** An HTTP server on loopback that answers by a function of the request, with faults scripted per request. */
export class ScriptedServer {
  readonly port: number;
  /** `http://127.0.0.1:<port>`, or https. */
  readonly url: string;
  readonly #server: Server;
  readonly #answer: ScriptedServerOptions['answer'];
  readonly #requests: RecordedRequest[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #closing = new AbortController();
  #rules: { readonly rule: FaultRule; timesLeft: number }[] = [];
  #bodyBytesSent = 0;

  private constructor(server: Server, options: ScriptedServerOptions) {
    this.#server = server;
    this.#answer = options.answer;
    this.port = (server.address() as AddressInfo).port;
    this.url = `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${this.port}`;
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(options: ScriptedServerOptions): Promise<ScriptedServer> {
    const listener: RequestListener = (request, response) => {
      scripted.#handle(request, response).catch((error: unknown) => {
        if (!response.destroyed) response.destroy(error instanceof Error ? error : undefined);
      });
    };
    const server =
      options.tls === undefined
        ? createServer(listener)
        : createTlsServer({ key: options.tls.key, cert: options.tls.certificate }, listener);
    const listening = Promise.withResolvers<void>();
    server.once('error', listening.reject);
    server.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    const scripted = new ScriptedServer(server, options);
    return scripted;
  }

  /**
   * From now on the requests that match get these faults, `times` of them (default: all). The newest rule that
   * matches wins. A delay comes before the others.
   */
  script(match: RequestMatch & { readonly times?: number }, ...faults: readonly Fault[]): void {
    this.#rules.unshift({ rule: { match, faults }, timesLeft: match.times ?? Number.POSITIVE_INFINITY });
  }

  /** Forgets all faults. */
  heal(): void {
    this.#rules = [];
  }

  /** The newest requests, oldest first. */
  get requests(): readonly RecordedRequest[] {
    return this.#requests;
  }

  /** Bytes of bodies handed to connections so far. */
  get bodyBytesSent(): number {
    return this.#bodyBytesSent;
  }

  /** How many of the kept requests match; all of them without a match. */
  count(match: RequestMatch = {}): number {
    return this.#requests.filter((request) => isMatch(match, request)).length;
  }

  /** Forgets the requests so far, for counting from here. */
  forgetRequests(): void {
    this.#requests.length = 0;
    this.#bodyBytesSent = 0;
  }

  /** Resolves when `requestCount` requests that match have come. Throws Error after the deadline. */
  async waitForRequests(match: RequestMatch, requestCount = 1, deadlineMs = 10_000): Promise<void> {
    if (this.count(match) >= requestCount) return;
    const reached = Promise.withResolvers<void>();
    const waiter: Waiter = { match, requestCount, resolve: reached.resolve };
    this.#waiters.add(waiter);
    const timer = setTimeout(() => {
      const seen = this.#requests.map((request) => `${request.method} ${request.path}`).join(', ');
      reached.reject(
        new Error(
          `Of ${requestCount} requests, ${this.count(match)} came within ${deadlineMs} ms. All: ${seen}`,
        ),
      );
    }, deadlineMs);
    try {
      await reached.promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }

  /** Ends all connections, also those that a fault holds. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    this.#server.closeAllConnections();
    await closed.promise;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined);
    const recorded = await record(request);
    this.#note(recorded);
    const faults = this.#takeFaults(recorded);
    for (const fault of faults) {
      if (fault.kind === 'delay') await this.#unlessClosing(fault.until(recorded));
    }
    if (response.destroyed) return;
    if (faults.some((fault) => fault.kind === 'disconnect')) {
      request.socket.resetAndDestroy();
      return;
    }
    const answer = faults.reduce(applyToAnswer, await this.#answer(recorded));
    await this.#send(recorded, response, answer, faults);
  }

  #note(request: RecordedRequest): void {
    this.#requests.push(request);
    if (this.#requests.length > maxKeptRequests) this.#requests.shift();
    for (const waiter of this.#waiters) {
      if (this.count(waiter.match) >= waiter.requestCount) waiter.resolve();
    }
  }

  #takeFaults(request: RecordedRequest): readonly Fault[] {
    const found = this.#rules.find((each) => each.timesLeft > 0 && isMatch(each.rule.match, request));
    if (found === undefined) return [];
    found.timesLeft -= 1;
    return found.rule.faults;
  }

  async #send(
    request: RecordedRequest,
    response: ServerResponse,
    answer: Answer,
    faults: readonly Fault[],
  ): Promise<void> {
    const range = chooseRange(request, answer);
    if (range === undefined) {
      response.writeHead(416, { 'content-range': `bytes */${sizeOf(answer.content)}` }).end();
      return;
    }
    response.writeHead(range.status, { ...answer.headers, ...range.headers });
    if (request.method === 'HEAD' || answer.content === undefined || range.endByte === range.startByte) {
      response.end();
      return;
    }
    const gone = AbortSignal.any([closeSignal(response), this.#closing.signal]);
    let position = 0;
    for await (const whole of chunksOf(answer.content, range.startByte, range.endByte)) {
      for (const part of splitAt(whole, position, faults)) {
        const flushed = this.#write(response, applyToBytes(part, position + range.startByte, faults), gone);
        position += part.byteLength;
        await flushed;
        for (const fault of faults) {
          if (fault.kind === 'cut' && position === fault.afterBytes) {
            response.socket?.destroy();
            return;
          }
          if (fault.kind === 'stall' && position === fault.afterBytes) {
            await this.#unlessClosing(fault.until(request));
          }
        }
        if (gone.aborted) return;
      }
    }
    response.end();
  }

  /** The one place that writes bodies: resolves when the connection has taken the bytes, or is gone. */
  async #write(response: ServerResponse, bytes: Uint8Array, gone: AbortSignal): Promise<void> {
    if (gone.aborted) return;
    this.#bodyBytesSent += bytes.byteLength;
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = (): void => resolve();
    gone.addEventListener('abort', done, { once: true });
    response.write(bytes, done);
    await promise.finally(() => gone.removeEventListener('abort', done));
  }

  async #unlessClosing(wait: Promise<unknown>): Promise<void> {
    const closing = this.#closing.signal;
    if (closing.aborted) return;
    const settled = new AbortController();
    const aborted = once(closing, 'abort', { signal: settled.signal }).catch(() => undefined);
    await Promise.race([wait, aborted]).finally(() => settled.abort());
  }
}

async function record(request: IncomingMessage): Promise<RecordedRequest> {
  const url = new URL(request.url ?? '/', 'http://server.invalid');
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > maxRequestBodyBytes)
      throw new Error(`A request body is over ${maxRequestBodyBytes} bytes.`);
    chunks.push(chunk);
  }
  const headers = Object.entries(request.headersDistinct).map(([name, values]) => [
    name,
    (values ?? []).join(', '),
  ]);
  return {
    method: request.method ?? 'GET',
    path: decodeURIComponent(url.pathname),
    query: url.searchParams,
    headers: Object.fromEntries(headers) as Record<string, string>,
    body: Buffer.concat(chunks),
  };
}

function isMatch(match: RequestMatch, request: RecordedRequest): boolean {
  if (match.method !== undefined && match.method !== request.method) return false;
  if (typeof match.path === 'string' && match.path !== request.path) return false;
  if (match.path instanceof RegExp && !match.path.test(request.path)) return false;
  return match.when === undefined || match.when(request);
}

/** Faults that change the whole answer; those of the body are applied while it is sent. */
function applyToAnswer(answer: Answer, fault: Fault): Answer {
  switch (fault.kind) {
    case 'status':
      return {
        status: fault.status,
        headers: { 'content-type': 'text/html; charset=utf-8', ...fault.headers },
        content: { kind: 'bytes', bytes: Buffer.from(fault.body ?? '') },
      };
    case 'headers':
      return { ...answer, headers: { ...answer.headers, ...fault.headers } };
    case 'redirect':
      return { status: fault.status ?? 307, headers: { location: fault.location } };
    case 'delay':
    case 'disconnect':
    case 'cut':
    case 'stall':
    case 'wrong-bytes':
      return answer;
    default:
      return fault satisfies never;
  }
}

/** Divides a chunk where a fault acts, so that exactly as many bytes leave before it. */
function* splitAt(chunk: Uint8Array, position: number, faults: readonly Fault[]): Generator<Uint8Array> {
  const marks = faults
    .flatMap((fault) => (fault.kind === 'cut' || fault.kind === 'stall' ? [fault.afterBytes - position] : []))
    .filter((mark) => mark > 0 && mark < chunk.byteLength)
    .sort((left, right) => left - right);
  let start = 0;
  for (const end of [...marks, chunk.byteLength]) {
    if (end > start) yield chunk.subarray(start, end);
    start = end;
  }
}

function applyToBytes(chunk: Uint8Array, position: number, faults: readonly Fault[]): Uint8Array {
  return faults.reduce(
    (bytes, fault) => (fault.kind === 'wrong-bytes' ? flipByte(bytes, position, fault.atByte ?? 0) : bytes),
    chunk,
  );
}

interface ChosenRange {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly startByte: number;
  /** Not included. */
  readonly endByte: number;
}

/** One byte range (RFC 9110 section 14); undefined when it cannot be satisfied. Other forms get the whole. */
function chooseRange(request: RecordedRequest, answer: Answer): ChosenRange | undefined {
  const sizeBytes = sizeOf(answer.content);
  const whole = {
    status: answer.status,
    headers: answer.content === undefined ? {} : { 'content-length': String(sizeBytes) },
    startByte: 0,
    endByte: sizeBytes,
  };
  if (answer.status !== 200 || answer.content === undefined) return whole;
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers['range'] ?? '') ?? [];
  if (first === undefined) return { ...whole, headers: { ...whole.headers, 'accept-ranges': 'bytes' } };
  const startByte = Number(first);
  const endByte = last === undefined || last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  if (startByte >= endByte) return undefined;
  return {
    status: 206,
    headers: {
      'content-length': String(endByte - startByte),
      'content-range': `bytes ${startByte}-${endByte - 1}/${sizeBytes}`,
    },
    startByte,
    endByte,
  };
}

function sizeOf(content: Content | undefined): number {
  if (content === undefined) return 0;
  return content.kind === 'bytes' ? content.bytes.byteLength : content.sizeBytes;
}

async function* chunksOf(content: Content, startByte: number, endByte: number): AsyncGenerator<Uint8Array> {
  if (content.kind === 'bytes') yield content.bytes.subarray(startByte, endByte);
  else yield* createReadStream(content.path, { start: startByte, end: endByte - 1 }) as AsyncIterable<Buffer>;
}

/** Aborted when the client has gone or the answer is complete. */
function closeSignal(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  if (response.destroyed) controller.abort();
  else response.once('close', () => controller.abort());
  return controller.signal;
}
