import { Agent, createServer, get, type ServerResponse } from 'node:http';
import { connect } from 'node:http2';
import type { AddressInfo } from 'node:net';

/** An application whose answers to `/held` wait until they are let go; everything else is answered at once. */
export class HoldingBackend implements AsyncDisposable {
  readonly port: number;
  readonly #held: Set<ServerResponse>;
  readonly #waiting: Set<() => void>;
  readonly #close: () => Promise<void>;

  private constructor(parts: {
    port: number;
    held: Set<ServerResponse>;
    waiting: Set<() => void>;
    close: () => Promise<void>;
  }) {
    this.port = parts.port;
    this.#held = parts.held;
    this.#waiting = parts.waiting;
    this.#close = parts.close;
  }

  static async start(): Promise<HoldingBackend> {
    const held = new Set<ServerResponse>();
    const waiting = new Set<() => void>();
    const server = createServer((request, response) => {
      request.resume();
      if (request.url !== '/held') return response.end('ok');
      held.add(response);
      for (const wake of waiting) wake();
      return undefined;
    });
    const listening = Promise.withResolvers<void>();
    server.once('error', listening.reject);
    server.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    return new HoldingBackend({
      port: (server.address() as AddressInfo).port,
      held,
      waiting,
      close: async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    });
  }

  /** Resolves when this many requests are held. */
  async untilHeld(count: number): Promise<void> {
    while (this.#held.size < count) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
      this.#waiting.clear();
    }
  }

  /** Answers all that is held. */
  release(): void {
    for (const response of this.#held) response.end('held');
    this.#held.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

/** What one client saw until it was told to leave. */
export interface ClientReport {
  /** Statuses of all requests, in order. */
  readonly statuses: readonly number[];
  /** Texts of everything that broke. */
  readonly failures: readonly string[];
}

/**
 * A client that sends one request after the other on a kept connection, until the proxy says that it goes away
 * (`Connection: close`, GOAWAY), as a client of a mesh then goes to another pod. `onAnswer` sees each answer.
 */
export type TrafficClient = (port: number, path: string, onAnswer?: () => void) => Promise<ClientReport>;

export const http1Client: TrafficClient = async (port, path, onAnswer) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const report = { statuses: [] as number[], failures: [] as string[] };
  while (await ask(agent, port, path, report)) onAnswer?.();
  agent.destroy();
  return report;
};

/** One request. False when it failed or the proxy is going away. */
async function ask(
  agent: Agent,
  port: number,
  path: string,
  report: { readonly statuses: number[]; readonly failures: string[] },
): Promise<boolean> {
  return await new Promise((resolve) => {
    const fail = (error: Error) => {
      report.failures.push(error.message);
      resolve(false);
    };
    get({ host: '127.0.0.1', port, path, agent }, (response) => {
      response.on('error', fail);
      response.on('end', () => {
        report.statuses.push(response.statusCode ?? 0);
        resolve(response.headers.connection !== 'close');
      });
      response.resume();
    }).on('error', fail);
  });
}

export const http2Client: TrafficClient = async (port, path, onAnswer) => {
  const session = connect(`http://127.0.0.1:${port}`);
  const report = { statuses: [] as number[], failures: [] as string[] };
  const leaving = new AbortController();
  session.on('goaway', () => leaving.abort());
  session.on('error', (error: Error) => report.failures.push(error.message));
  while (!leaving.signal.aborted && !session.closed && report.failures.length === 0) {
    await new Promise<void>((resolve) => {
      const stream = session.request({ ':path': path });
      stream.on('response', (headers) => report.statuses.push(headers[':status'] ?? 0));
      stream.on('error', (error: Error) => report.failures.push(error.message));
      stream.on('close', resolve);
      stream.resume();
    });
    onAnswer?.();
  }
  session.close();
  return report;
};
