import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** An application behind Envoy: answers 200 to everything, with the request's path as body. */
export interface Backend {
  readonly port: number;
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  /** Requests so far. */
  readonly requestCount: number;
  /** Requests so far for one path, query included. */
  requestCountOf(path: string): number;
  close(): Promise<void>;
}

/** Starts a backend on a free loopback port. */
export async function startBackend(): Promise<Backend> {
  const countOfPath = new Map<string, number>();
  let requestCount = 0;
  const server = createServer((request, response) => {
    const path = request.url ?? '/';
    requestCount += 1;
    countOfPath.set(path, (countOfPath.get(path) ?? 0) + 1);
    request.resume();
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8', 'x-backend': 'ferry-test' });
    response.end(`${path}\n`);
  });
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(0, '127.0.0.1', listening.resolve);
  await listening.promise;
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    get requestCount() {
      return requestCount;
    },
    requestCountOf: (path) => countOfPath.get(path) ?? 0,
    close() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      return closed.promise;
    },
  };
}
