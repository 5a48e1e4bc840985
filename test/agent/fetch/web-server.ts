import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { KeyedCertificate } from '../../support/certificate-authority/authority.ts';

export interface SeenRequest {
  readonly method: string;
  /** As it stood in the request line. */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export type Handler = (request: SeenRequest, response: ServerResponse) => void | Promise<void>;

export interface WebServer extends AsyncDisposable {
  readonly server: Server;
  readonly port: number;
  /** `127.0.0.1:<port>`. */
  readonly host: string;
  readonly url: string;
  readonly requests: readonly SeenRequest[];
  /** How many requests had this start line, for example `GET /v2/`. */
  count(start: string): number;
  /** Resolves when a request with this start line has come. */
  seen(start: string): Promise<void>;
  close(): Promise<void>;
}

/** A real HTTP(S) server on loopback that answers by a function. */
export async function startWebServer(handle: Handler, tls?: KeyedCertificate): Promise<WebServer> {
  const requests: SeenRequest[] = [];
  const waiting = new Set<() => void>();
  const listener = (message: IncomingMessage, response: ServerResponse): void => {
    const answer = async (): Promise<void> => {
      response.on('error', () => undefined);
      const body = await buffer(message);
      const request = {
        method: message.method ?? '',
        target: message.url ?? '',
        headers: message.headers,
        body: body.toString(),
      };
      requests.push(request);
      for (const wake of waiting) wake();
      await handle(request, response);
    };
    answer().catch(() => response.destroy());
  };
  const server =
    tls === undefined
      ? createServer(listener)
      : createTlsServer({ key: tls.key, cert: tls.certificate }, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const startLine = (request: SeenRequest): string => `${request.method} ${request.target}`;
  const count = (start: string): number =>
    requests.filter((each) => startLine(each).startsWith(start)).length;
  const close = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  };
  return {
    server,
    port,
    host: `127.0.0.1:${port}`,
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    requests,
    count,
    seen: async (start) => {
      while (count(start) === 0) {
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Answers with a whole body. */
export function answer(
  response: ServerResponse,
  status: number,
  body: Uint8Array | string = '',
  headers: Readonly<Record<string, string>> = {},
): void {
  const bytes = Buffer.from(body);
  response.writeHead(status, { 'content-length': bytes.byteLength, ...headers }).end(bytes);
}
