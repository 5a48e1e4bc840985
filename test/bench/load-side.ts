import { Authority } from '../support/certificate-authority/authority.ts';
import type { ClientTarget, ExpectedPush } from './ads-client.ts';
import type { XdsMode } from './discovery-wire.ts';
import type { LoadClientCalls } from './load-client.ts';
import type { LoadServerCalls } from './load-server.ts';
import type { ModuleOriginCalls } from './module-origin.ts';
import {
  type AgentStart,
  type AgentSubject,
  type RunningAgent,
  type Subject,
  type SubjectContext,
  type SubjectFiles,
  startAgent,
} from './subject.ts';
import { WorkerProcess } from './worker-process.ts';

/** The name in istiod's certificate, which an agent insists on for a discovery address at localhost. */
const serverName = 'istiod.istio-system.svc';

/** How an agent is started for one measurement. */
export interface StartOptions extends AgentStart {
  /** Another control plane than the load server, spoken to in plaintext. */
  readonly upstreamPort?: number;
}

/** The processes that every subject is measured with. One stream at a time. */
export class LoadSide implements AsyncDisposable {
  readonly mode: XdsMode;
  readonly server: WorkerProcess<LoadServerCalls>;
  readonly client: WorkerProcess<LoadClientCalls>;
  readonly origin: WorkerProcess<ModuleOriginCalls>;
  readonly #context: SubjectContext;

  private constructor(
    mode: XdsMode,
    parts: Pick<LoadSide, 'server' | 'client' | 'origin'>,
    context: SubjectContext,
  ) {
    this.mode = mode;
    this.server = parts.server;
    this.client = parts.client;
    this.origin = parts.origin;
    this.#context = context;
  }

  /** Starts server, client and module origin. */
  static async start(options: {
    readonly mode: XdsMode;
    readonly isTls: boolean;
    readonly files: SubjectFiles;
    /** See SubjectContext. */
    readonly environment: Readonly<Record<string, string>>;
  }): Promise<LoadSide> {
    const parts = {
      server: new WorkerProcess<LoadServerCalls>('load server', new URL('load-server.ts', import.meta.url)),
      client: new WorkerProcess<LoadClientCalls>('load client', new URL('load-client.ts', import.meta.url)),
      origin: new WorkerProcess<ModuleOriginCalls>(
        'module origin',
        new URL('module-origin.ts', import.meta.url),
      ),
    };
    const authority = options.isTls ? Authority.createRoot() : undefined;
    const tls = authority?.issue([serverName, 'localhost']);
    const { port } = await parts.server.call('start', tls === undefined ? {} : { tls });
    await parts.origin.call('start', undefined);
    const upstreamTls =
      authority === undefined ? undefined : { authorityPem: authority.certificate, serverName };
    const { files, environment } = options;
    return new LoadSide(options.mode, parts, { upstream: { port, tls: upstreamTls }, files, environment });
  }

  /** Tells the server what to push from the next stream on. */
  async plan(
    sizeBytes: number,
    outstandingCount: number,
    options: { readonly isPushingOnAck?: boolean; readonly resourceBytes?: number } = {},
  ): Promise<ExpectedPush> {
    const plan = { mode: this.mode, sizeBytes, outstandingCount, isPushingOnAck: true, ...options };
    const { checksum } = await this.server.call('plan', plan);
    return { sizeBytes, checksum };
  }

  /** Where the client goes for a subject. */
  target(agent: RunningAgent | undefined): ClientTarget {
    if (agent !== undefined) return { kind: 'socket', path: agent.socketPath };
    const { port, tls } = this.#context.upstream;
    if (tls === undefined) return { kind: 'server', port };
    return { kind: 'tls-server', port, authority: tls.authorityPem, serverName: tls.serverName };
  }

  /**
   * Runs `measure` with a fresh process of the subject (none for `direct`), then ends stream and process. An error
   * gets the subject's name and its newest output.
   */
  async withSubject<Result>(
    subject: Subject,
    measure: (agent: RunningAgent | undefined) => Promise<Result>,
  ): Promise<Result> {
    if (subject.kind !== 'direct') return await this.withAgent(subject, measure);
    return await this.#withStream(() => measure(undefined));
  }

  /** The same for a subject that has a process. */
  async withAgent<Result>(
    subject: AgentSubject,
    measure: (agent: RunningAgent) => Promise<Result>,
    options: StartOptions = {},
  ): Promise<Result> {
    await using agent = await startAgent(subject, { context: this.#contextFor(options), ...options });
    try {
      return await this.#withStream(() => measure(agent));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const ended = agent.isRunning() ? '' : ' Its process has ended.';
      throw new Error(`${subject.name}: ${reason}${ended}\nIts newest output:\n${agent.outputTail()}`, {
        cause: error,
      });
    }
  }

  /** Starts so many agents of the subject one after the other; all end after `measure`. */
  async withAgents<Result>(
    subject: AgentSubject,
    count: number,
    measure: (agents: readonly RunningAgent[]) => Promise<Result>,
  ): Promise<Result> {
    await using agents = new AsyncDisposableStack();
    const started: RunningAgent[] = [];
    for (let index = 0; index < count; index += 1) {
      started.push(agents.use(await startAgent(subject, { context: this.#context, isNodeCopied: true })));
    }
    return await this.#withStream(() => measure(started));
  }

  #contextFor(options: StartOptions): SubjectContext {
    const { upstreamPort } = options;
    if (upstreamPort === undefined) return this.#context;
    return { ...this.#context, upstream: { port: upstreamPort, tls: undefined } };
  }

  /** Ends the client's stream after `measure`, whatever came of it. */
  async #withStream<Result>(measure: () => Promise<Result>): Promise<Result> {
    let result: Result;
    try {
      result = await measure();
    } catch (error) {
      // The first error is the one to report.
      await this.client.call('close', undefined).catch(() => undefined);
      throw error;
    }
    await this.client.call('close', undefined);
    return result;
  }

  /** Ends the three processes. */
  async close(): Promise<void> {
    await Promise.all([this.server.close(), this.client.close(), this.origin.close()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
