import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';

const metricsPage = '# TYPE soak_orders counter\nsoak_orders_total 1\n';

/** The application of the pod: it serves requests, its own metrics, and a readiness that can be turned off. */
export class Application implements AsyncDisposable {
  readonly port: number;
  isReady = true;
  readonly #server: Server;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(): Promise<Application> {
    let started: Application | undefined;
    const server = createServer((request, response) => {
      request.resume();
      if (request.url === '/ready') response.writeHead(started?.isReady === true ? 200 : 503).end();
      else response.writeHead(200, { 'content-type': 'text/plain' }).end(metricsPage);
    });
    // Else a pooled connection could be closed while a request is on its way to it.
    server.keepAliveTimeout = 0;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
    await promise;
    started = new Application(server, (server.address() as AddressInfo).port);
    return started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }
}
