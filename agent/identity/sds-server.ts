import { stat } from 'node:fs/promises';
import type { ServerHttp2Stream } from 'node:http2';
import type { IdentityMetrics } from '../../metrics/identity-metrics.ts';
import { type Clock, wait } from '../clock.ts';
import type { KeyProvider } from '../config/identity-config.ts';
import { GrpcListener } from '../grpc/listener.ts';
import { describeError, type Logger } from '../log.ts';
import { rejectStream } from '../xds/downstream-writer.ts';
import { grpcCode } from '../xds/grpc-status.ts';
import type { SecretSource } from './certificate-store.ts';
import { MemoryBudget } from './memory-budget.ts';
import type { SecretExtras } from './secret-messages.ts';
import { SecretStream } from './secret-stream.ts';

const service = '/envoy.service.secret.v3.SecretDiscoveryService';
/** Requests that come in and answers that are not read, of all streams; a stream over it is ended. */
const maxHeldBytes = 64 * 1024 * 1024;
/** Tries to bind, the first included (`security/pkg/nodeagent/sds/server.go`). */
const maxBindCount = 5;
const firstBindWaitMs = 1000;
/** Envoy, or an application that takes its certificate here, may run as another user. */
const socketMode = 0o666;
/** As the stock agent (`security/pkg/nodeagent/sds/server.go`). */
const maxConcurrentStreams = 100_000;
/** Envoy has one or two connections; what a client beyond this has in mind is nothing good. */
const maxConnectionCount = 1000;
const maxSessionMemoryMb = 128;
/** Envoy is gone when the agent ends; another client gets this long to read its status. */
const closeGraceMs = 200;

export interface SdsServerOptions {
  /** Absolute. */
  readonly socketPath: string;
  /** For the log: what is served here. */
  readonly purpose: 'workload certificates' | 'file certificates only';
  readonly source: SecretSource;
  /** Absolute; goes with every root while the file is there. Undefined: never. */
  readonly crlPath: string | undefined;
  readonly keyProvider: KeyProvider | undefined;
  readonly metrics: IdentityMetrics;
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * Envoy's secret discovery service on a Unix socket. Only the state-of-the-world stream is there, as in the stock agent
 * (`security/pkg/nodeagent/sds/sdsservice.go`).
 */
export class SdsServer {
  readonly #options: SdsServerOptions;
  readonly #streams = new Set<SecretStream>();
  readonly #closing = new AbortController();
  readonly #heldBytes = new MemoryBudget(maxHeldBytes);
  #listener: GrpcListener | undefined;
  #binding: Promise<void> | undefined;
  #streamCount = 0;
  #responseCount = 0;

  constructor(options: SdsServerOptions) {
    this.#options = options;
  }

  /**
   * Resolves after the first try to bind the socket. When that fails, others follow in the background, and the agent
   * goes on: Envoy asks again and again.
   */
  async listen(): Promise<void> {
    const { log, socketPath, purpose } = this.#options;
    log.info(`Starting SDS server for ${purpose}`, { path: socketPath });
    if (await this.#bind()) return;
    this.#binding = this.#bindLater().catch(() => undefined);
  }

  /** What is served under this name has changed: every stream that watches it is given it anew. */
  push(name: string): void {
    for (const stream of this.#streams) stream.push(name);
  }

  /** Ends the streams, removes the socket. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#binding;
    for (const stream of this.#streams) {
      stream.end({ code: grpcCode.unavailable, message: 'the agent is ending' });
    }
    await this.#listener?.close({ graceMs: closeGraceMs });
  }

  async #bind(): Promise<boolean> {
    const { socketPath, log } = this.#options;
    const listener = new GrpcListener({
      name: 'SDS',
      socketPath,
      socketMode,
      maxConcurrentStreams,
      maxConnectionCount,
      maxSessionMemoryMb,
      onCall: (path, stream) => this.#onCall(path, stream),
      log,
    });
    try {
      await listener.listen();
    } catch (error) {
      log.error('SDS grpc server for workload proxies failed to set up UDS', {
        reason: describeError(error),
      });
      return false;
    }
    this.#listener = listener;
    return true;
  }

  async #bindLater(): Promise<void> {
    const { clock, log, socketPath } = this.#options;
    for (let failureCount = 1; failureCount < maxBindCount; failureCount += 1) {
      await wait(clock, firstBindWaitMs * 2 ** (failureCount - 1), { signal: this.#closing.signal });
      if (await this.#bind()) return;
    }
    log.warn('SDS grpc server could not be started', { path: socketPath });
  }

  #onCall(path: string, stream: ServerHttp2Stream): void {
    switch (path) {
      case `${service}/StreamSecrets`:
        this.#open(stream);
        return;
      case `${service}/DeltaSecrets`:
      case `${service}/FetchSecrets`: {
        const message = `${path.slice(service.length + 1)} not implemented`;
        rejectStream(stream, { code: grpcCode.unimplemented, message });
        return;
      }
      default:
        rejectStream(stream, { code: grpcCode.unimplemented, message: `unknown method ${path}` });
    }
  }

  #open(stream: ServerHttp2Stream): void {
    const { source, metrics, log } = this.#options;
    this.#streamCount += 1;
    const opened = new SecretStream(stream, {
      id: this.#streamCount,
      source,
      extras: () => this.#extras(),
      nextVersion: () => this.#nextVersion(),
      heldBytes: this.#heldBytes,
      metrics,
      log,
      onUnwatched: (names) => this.#release(names),
      onClosed: () => this.#streams.delete(opened),
    });
    this.#streams.add(opened);
  }

  #release(names: readonly string[]): void {
    for (const name of names) {
      if (![...this.#streams].some((stream) => stream.watches(name))) this.#options.source.release(name);
    }
  }

  async #extras(): Promise<SecretExtras> {
    const { crlPath, keyProvider } = this.#options;
    const isCrlPresent = crlPath !== undefined && (await isThere(crlPath));
    return { crlPath: isCrlPresent ? crlPath : undefined, keyProvider };
  }

  /** `2026-11-21T10:32:23Z/1`: the time, and a counter over all streams. */
  #nextVersion(): string {
    this.#responseCount += 1;
    const time = new Date(this.#options.clock.now()).toISOString().replace(/\.\d+/, '');
    return `${time}/${this.#responseCount}`;
  }
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
