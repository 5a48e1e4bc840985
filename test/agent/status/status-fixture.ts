import { type Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ScrapeTarget } from '../../../agent/config/agent-config.ts';
import type { LogFields, Logger } from '../../../agent/log.ts';
import { Readiness, type ReadinessCheck } from '../../../agent/status/readiness.ts';
import type { Route } from '../../../agent/status/route.ts';
import { StatsMerge } from '../../../agent/status/stats-merge.ts';
import { statusRoutes } from '../../../agent/status/status-routes.ts';
import { StatusServer } from '../../../agent/status/status-server.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { StatusMetrics } from '../../../metrics/status-metrics.ts';

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: LogFields;
}

/** A logger that keeps its lines. */
export class RecordingLog implements Logger {
  readonly lines: LogLine[] = [];
  readonly #waiting = new Set<() => void>();

  debug(message: string, fields: LogFields = {}): void {
    this.#keep({ level: 'debug', message, fields });
  }
  info(message: string, fields: LogFields = {}): void {
    this.#keep({ level: 'info', message, fields });
  }
  warn(message: string, fields: LogFields = {}): void {
    this.#keep({ level: 'warn', message, fields });
  }
  error(message: string, fields: LogFields = {}): void {
    this.#keep({ level: 'error', message, fields });
  }

  /** Resolves with a line of this message, past or to come. */
  async waitFor(message: string): Promise<LogLine> {
    for (;;) {
      const line = this.lines.find((candidate) => candidate.message === message);
      if (line !== undefined) return line;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #keep(line: LogLine): void {
    this.lines.push(line);
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  isEnabled(): boolean {
    return true;
  }

  messages(level: string): readonly string[] {
    return this.lines.filter((line) => line.level === level).map((line) => line.message);
  }
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  /** False when the connection broke before the end of the body. */
  readonly isComplete: boolean;
}

export interface HttpQuestion {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly host?: string;
  readonly body?: string;
  readonly onBytes?: () => void;
  readonly signal?: AbortSignal;
  /** A connection of its own when there is none. */
  readonly agent?: Agent;
}

/** One request; the body as it came, compressed or not. */
export async function ask(port: number, path: string, question: HttpQuestion = {}): Promise<HttpAnswer> {
  const { method = 'GET', headers = {}, host = '127.0.0.1', body, onBytes, signal, agent = false } = question;
  return new Promise((resolve, reject) => {
    const options = { host, port, path, method, headers, agent, ...(signal && { signal }) };
    const outgoing = request(options, (response) => {
      const chunks: Buffer[] = [];
      const finish = () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks),
          isComplete: response.complete,
        });
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        onBytes?.();
      });
      response.on('end', finish);
      response.on('error', finish);
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** A server on loopback that stands for Envoy or an application. */
export interface Peer extends AsyncDisposable {
  readonly port: number;
  /** In the order of their arrival. */
  readonly requests: readonly IncomingMessage[];
}

export async function startPeer(
  handle: (request: IncomingMessage, response: ServerResponse) => unknown,
  host = '127.0.0.1',
): Promise<Peer> {
  const requests: IncomingMessage[] = [];
  const server = createServer((incoming, response) => {
    requests.push(incoming);
    void handle(incoming, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A peer that always gives the same page. */
export async function startPage(
  page: string | Buffer,
  headers: Readonly<Record<string, string>> = {},
  status = 200,
): Promise<Peer> {
  return startPeer((_request, response) => {
    response.writeHead(status, headers);
    response.end(page);
  });
}

export const openMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

export interface FixtureOptions {
  readonly envoy?: { readonly port: number };
  readonly targets?: readonly ScrapeTarget[];
  readonly checks?: readonly ReadinessCheck[];
  readonly isMetricsLocalOnly?: boolean;
  readonly debugPage?: () => unknown;
  readonly nameTable?: () => unknown;
  readonly drain?: () => Promise<void>;
  readonly moreRoutes?: readonly Route[];
  readonly closeGraceMs?: number;
}

/** A status server on a free port with these routes alone. */
export async function startRoutes(
  routes: readonly Route[],
  log: Logger,
): Promise<AsyncDisposable & { readonly port: number }> {
  const server = new StatusServer({ port: 0, routes, log });
  await server.listen();
  return { port: server.port, [Symbol.asyncDispose]: () => server.close() };
}

/** A status server on a free port with all its real parts. */
export class StatusFixture implements AsyncDisposable {
  readonly log = new RecordingLog();
  readonly registry = new MetricRegistry();
  readonly metrics = new StatusMetrics(this.registry);
  readonly server: StatusServer;
  /** What was called, in order. */
  readonly calls: string[] = [];

  private constructor(options: FixtureOptions) {
    const { log, registry, metrics } = this;
    const stats = new StatsMerge({
      config: {
        envoyPrometheusPort: options.envoy?.port ?? 0,
        isEnvoyStatsMerged: options.envoy !== undefined,
        applicationTargets: options.targets ?? [],
      },
      registry,
      metrics,
      log,
    });
    const routes = statusRoutes({
      readiness: new Readiness({ checks: options.checks ?? [], metrics, log, uptimeSeconds: () => 1.5 }),
      stats,
      isMetricsLocalOnly: options.isMetricsLocalOnly ?? false,
      debugPage: options.debugPage ?? (() => ({ modules: [] })),
      nameTable: options.nameTable ?? (() => undefined),
      quit: () => this.calls.push('quit'),
      drain: async () => {
        this.calls.push('drain');
        await options.drain?.();
      },
      log,
    });
    this.server = new StatusServer({
      port: 0,
      routes: [...routes, ...(options.moreRoutes ?? [])],
      log,
      closeGraceMs: options.closeGraceMs ?? 5000,
    });
  }

  static async start(options: FixtureOptions = {}): Promise<StatusFixture> {
    const fixture = new StatusFixture(options);
    await fixture.server.listen();
    return fixture;
  }

  async ask(path: string, question: HttpQuestion = {}): Promise<HttpAnswer> {
    return ask(this.server.port, path, question);
  }

  /** The value of one series without the prefix; undefined when it is absent. */
  async valueOf(series: string): Promise<number | undefined> {
    const page = await this.registry.exposition();
    const line = page.split('\n').find((candidate) => candidate.startsWith(`istio_agent_${series} `));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
  }
}
