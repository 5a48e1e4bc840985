import { ChunkedBody } from './chunked-body.ts';
import {
  type BodyFraming,
  findHeadEnd,
  framingOf,
  maxHeadBytes,
  parseHead,
  type ResponseHead,
} from './http-response-head.ts';
import { LoopbackSocket } from './loopback-socket.ts';
import { ScrapeError } from './scrape-error.ts';

/** What is asked of a server on this machine. */
export interface LoopbackRequest {
  readonly port: number;
  /** Path and query. */
  readonly target: string;
  /** `Host` and `Connection` are added. */
  readonly headers: ReadonlyMap<string, string>;
  /** Covers the body too. */
  readonly signal: AbortSignal;
}

/** An answer whose body is still to be read. `close` must be called when it is not read to its end. */
export interface LoopbackResponse extends ResponseHead {
  /** Each chunk is valid until the next one is asked for. Throws ScrapeError `cut`, `protocol`, or the signal's reason. */
  readonly body: AsyncIterable<Buffer>;
  readonly close: () => void;
}

/**
 * One GET on a new connection, answered with flat memory however long the body is (see LoopbackSocket).
 * Throws ScrapeError `connect`, `cut`, `protocol`, or the reason of the signal.
 */
export async function loopbackGet(request: LoopbackRequest): Promise<LoopbackResponse> {
  const { port, signal } = request;
  const message = formatRequest(request);
  const socket = await LoopbackSocket.open({ port, signal });
  try {
    socket.write(message);
    const { head, rest } = await readHead(socket);
    return {
      ...head,
      body: readBody(socket, framingOf(head.headers), rest),
      close: () => socket.close(),
    };
  } catch (error) {
    socket.close();
    throw signal.aborted ? signal.reason : asCut(error);
  }
}

/** Refuses what would break out of its line; a path may come from an annotation, a query from the network. */
function formatRequest({ port, target, headers }: LoopbackRequest): string {
  const fields = [['host', `localhost:${port}`], ['connection', 'close'], ...headers];
  const lines = [`GET ${target} HTTP/1.1`, ...fields.map(([name, value]) => `${name}: ${value}`)];
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[^\u0021-\u007e\u0080-\u00ff]/.test(target) || lines.some((line) => /[\r\n\0]/.test(line))) {
    throw new ScrapeError('protocol', 'the path or a header has characters that HTTP does not allow');
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** Interim (1xx) answers are skipped. `rest` is the begin of the body, valid until the next read. */
async function readHead(socket: LoopbackSocket): Promise<{ head: ResponseHead; rest: Buffer }> {
  let seen: Buffer = Buffer.alloc(0);
  for (;;) {
    const end = findHeadEnd(seen);
    if (end !== undefined) {
      const head = parseHead(seen.subarray(0, end));
      seen = seen.subarray(end);
      if (head.status >= 200) return { head, rest: seen };
      continue;
    }
    if (seen.length > maxHeadBytes)
      throw new ScrapeError('protocol', `the answer's head is longer than ${maxHeadBytes} bytes`);
    const bytes = await socket.read();
    if (bytes === undefined) throw new ScrapeError('cut', 'the connection ended before the answer');
    seen = Buffer.concat([seen, bytes]);
  }
}

async function* readBody(
  socket: LoopbackSocket,
  framing: BodyFraming,
  rest: Buffer,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    switch (framing.kind) {
      case 'chunked': {
        const chunked = new ChunkedBody();
        for await (const bytes of readAll(socket, rest)) {
          yield* chunked.decode(bytes);
          if (chunked.isDone) return;
        }
        throw new ScrapeError('cut', 'the connection ended inside of the body');
      }
      case 'length': {
        let leftBytes = framing.sizeBytes;
        if (leftBytes === 0) return;
        for await (const bytes of readAll(socket, rest)) {
          const part = bytes.subarray(0, leftBytes);
          leftBytes -= part.length;
          yield part;
          if (leftBytes === 0) return;
        }
        throw new ScrapeError('cut', `the connection ended ${leftBytes} bytes before the end of the body`);
      }
      case 'until_close':
        yield* readAll(socket, rest);
        return;
      default:
        throw new Error(`unknown framing ${String(framing satisfies never)}`);
    }
  } finally {
    socket.close();
  }
}

async function* readAll(socket: LoopbackSocket, rest: Buffer): AsyncGenerator<Buffer, void, undefined> {
  if (rest.length > 0) yield rest;
  for (;;) {
    let bytes: Buffer | undefined;
    try {
      bytes = await socket.read();
    } catch (error) {
      throw asCut(error);
    }
    if (bytes === undefined) return;
    yield bytes;
  }
}

/** A socket error is a broken connection; what has a name already, the reason of an abort included, keeps it. */
function asCut(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== 'Error') return error;
  return new ScrapeError('cut', `the connection broke: ${error.message}`, { cause: error });
}
