import { randomUUID } from 'node:crypto';
import type { ServerHttp2Stream } from 'node:http2';
import type { IdentityMetrics } from '../../metrics/identity-metrics.ts';
import { describeError, type Logger } from '../log.ts';
import { DownstreamWriter } from '../xds/downstream-writer.ts';
import { FrameSplitter } from '../xds/frames.ts';
import { type GrpcStatus, grpcCode } from '../xds/grpc-status.ts';
import type { SecretSource } from './certificate-store.ts';
import type { MemoryBudget } from './memory-budget.ts';
import {
  decodeSecretRequest,
  encodeSecretResponse,
  type Secret,
  type SecretExtras,
  type SecretRequest,
} from './secret-messages.ts';
import { judgeRequest, type Subscription } from './secret-subscription.ts';
import { StreamRefusal, statusOfFault, statusOfRefusal } from './stream-refusal.ts';

/** As the stock agent's server (grpc-go's default). Envoy's first request, with its node, has about 62 kB. */
const maxRequestBytes = 4 * 1024 * 1024;
/** Parts of a request that are kept as they came, before they are joined. */
const maxLoosePartCount = 1024;
/** Envoy asks for one or two; each name costs a secret in the answer. */
const maxNameCount = 1000;
/** Two paths of the longest kind that Linux takes, and a prefix. */
const maxNameLength = 8300;
/** Four of the largest CA bundles that are read. */
const maxResponseBytes = 4 * 1024 * 1024;

export interface SecretStreamOptions {
  /** For log lines. */
  readonly id: number;
  readonly source: SecretSource;
  /** Asked for each response: the revocation list may come and go. */
  readonly extras: () => Promise<SecretExtras>;
  /** Version of the next response, never the same twice. */
  readonly nextVersion: () => string;
  /** Shared by all streams: requests that are not whole yet, and what clients have not read yet. */
  readonly heldBytes: MemoryBudget;
  readonly metrics: IdentityMetrics;
  readonly log: Logger;
  /** These names are not watched by this stream any more. */
  readonly onUnwatched: (names: readonly string[]) => void;
  /** Called once, after the last `onUnwatched`. */
  readonly onClosed: () => void;
}

/**
 * One `StreamSecrets` stream. Requests and pushes are worked off one after the other, requests first; nothing is read
 * from a client while work is going on, so a client that does not read its answers is not read either.
 */
export class SecretStream {
  readonly #stream: ServerHttp2Stream;
  readonly #options: SecretStreamOptions;
  readonly #writer: DownstreamWriter;
  readonly #splitter: FrameSplitter;
  readonly #gone = new AbortController();
  /** Messages of one chunk at most. */
  readonly #requests: Buffer[] = [];
  readonly #pushes = new Set<string>();
  /** Of the request that is coming in. */
  #parts: Buffer[] = [];
  #partBytes = 0;
  /** At the end of `parts`, as they came. */
  #loosePartCount = 0;
  #subscription: Subscription | undefined;
  #hasNode = false;
  #hasClientEnded = false;
  #isWorking = false;
  #onWritable: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream, options: SecretStreamOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#writer = new DownstreamWriter(stream, {
      // One response at a time is written: the next waits until it has gone.
      maxQueuedBytes: 2 * maxResponseBytes,
      onDrain: () => this.#onWritable?.(),
    });
    this.#splitter = new FrameSplitter({
      maxMessageBytes: maxRequestBytes,
      sink: {
        onMessageStart: () => undefined,
        onMessageData: (part) => this.#gather(part),
        onMessageEnd: () => {
          this.#requests.push(Buffer.concat(this.#parts));
          this.#dropParts();
        },
      },
    });
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.once('end', () => {
      this.#hasClientEnded = true;
      this.#work();
    });
    stream.once('close', () => this.#onClose());
  }

  watches(name: string): boolean {
    return this.#subscription?.names.has(name) === true;
  }

  /** What is served under this name has changed. Does nothing when the stream does not watch it. */
  push(name: string): void {
    if (!this.watches(name)) return;
    this.#pushes.add(name);
    this.#work();
  }

  /** Ends the stream with a status, after what was written. */
  end(status: GrpcStatus): void {
    this.#gone.abort(new Error(`the stream was ended: ${status.message}`));
    this.#writer.finish(status);
  }

  #onData(chunk: Buffer): void {
    if (this.#gone.signal.aborted) return;
    const fault = this.#splitter.push(chunk);
    if (fault !== undefined) {
      this.end(statusOfFault(fault));
    } else if (this.#requests.length > 0) {
      this.#stream.pause();
      this.#work();
    }
  }

  #gather(part: Buffer): void {
    if (!this.#options.heldBytes.take(part.length)) {
      this.end({ code: grpcCode.resourceExhausted, message: 'too many requests are coming in at once' });
      return;
    }
    this.#partBytes += part.length;
    this.#parts.push(part);
    this.#loosePartCount += 1;
    if (this.#loosePartCount < maxLoosePartCount) return;
    // A client that sends single bytes must not cost a hundred for each.
    this.#parts.push(Buffer.concat(this.#parts.splice(-maxLoosePartCount)));
    this.#loosePartCount = 0;
  }

  #dropParts(): void {
    this.#options.heldBytes.giveBack(this.#partBytes);
    this.#parts = [];
    this.#partBytes = 0;
    this.#loosePartCount = 0;
  }

  #onClose(): void {
    this.#gone.abort(new Error('the client has gone'));
    this.#onWritable?.();
    this.#dropParts();
    const names = [...(this.#subscription?.names ?? [])];
    this.#subscription = undefined;
    this.#options.onUnwatched(names);
    this.#options.onClosed();
  }

  #work(): void {
    if (this.#isWorking || this.#gone.signal.aborted) return;
    this.#isWorking = true;
    void this.#workOff();
  }

  async #workOff(): Promise<void> {
    try {
      while (!this.#gone.signal.aborted) {
        const request = this.#requests.shift();
        if (request !== undefined) {
          await this.#process(decodeSecretRequest(request));
          continue;
        }
        const [name] = this.#pushes;
        if (name === undefined) break;
        this.#pushes.delete(name);
        if (this.watches(name)) await this.#answer([name]);
      }
      if (this.#gone.signal.aborted) return;
      if (this.#hasClientEnded) this.#writer.finish({ code: grpcCode.ok, message: '' });
      else this.#stream.resume();
    } catch (error) {
      this.#fail(error);
    } finally {
      // In the same turn as the last look at the queues: what comes later starts the work anew.
      this.#isWorking = false;
    }
  }

  async #process(request: SecretRequest): Promise<void> {
    const { id, log } = this.#options;
    if (!this.#hasNode) {
      if (request.nodeId === '')
        throw new StreamRefusal(grpcCode.invalidArgument, 'missing node information');
      this.#hasNode = true;
      log.debug('new SDS stream', { id, node: request.nodeId.slice(0, maxNameLength) });
    }
    if (request.names.length > maxNameCount) {
      throw new StreamRefusal(
        grpcCode.resourceExhausted,
        `${request.names.length} names, the bound is ${maxNameCount}`,
      );
    }
    if (request.names.some((name) => name.length > maxNameLength)) {
      throw new StreamRefusal(grpcCode.resourceExhausted, `a name of more than ${maxNameLength} characters`);
    }
    const verdict = judgeRequest(this.#subscription, request);
    const before = this.#subscription;
    this.#subscription = verdict.subscription;
    const unwatched = [...(before?.names ?? [])].filter((name) => !this.watches(name));
    if (unwatched.length > 0) this.#options.onUnwatched(unwatched);
    if (verdict.kind === 'answer') {
      await this.#answer(verdict.names);
    } else if (request.rejection !== undefined) {
      log.warn('Envoy rejected a secret', {
        id,
        names: [...(before?.names ?? [])].join(',').slice(0, maxNameLength),
        code: request.rejection.code,
        reason: request.rejection.message,
      });
    }
  }

  async #answer(names: readonly string[]): Promise<void> {
    const { source, extras, nextVersion } = this.#options;
    const secrets: Secret[] = [];
    let sizeBytes = 0;
    for (const name of names) {
      const secret = await this.#generate(source, name);
      sizeBytes += sizeOf(secret);
      if (sizeBytes > maxResponseBytes) {
        throw new StreamRefusal(
          grpcCode.resourceExhausted,
          `the secrets asked for have more than ${maxResponseBytes} bytes`,
        );
      }
      secrets.push(secret);
    }
    const chosenExtras = await extras();
    if (this.#gone.signal.aborted) return;
    const nonce = randomUUID();
    const response = encodeSecretResponse({ version: nextVersion(), nonce, secrets }, chosenExtras);
    if (this.#subscription !== undefined) this.#subscription = { ...this.#subscription, sentNonce: nonce };
    await this.#send(response);
  }

  async #generate(source: SecretSource, name: string): Promise<Secret> {
    const { signal } = this.#gone;
    try {
      return await source.generate(name, { signal });
    } catch (error) {
      signal.throwIfAborted();
      // The client comes back with growing waits: that is the retry (`sdsservice.go`, generate).
      throw new StreamRefusal(
        grpcCode.unknown,
        `failed to generate secret for ${name}: ${describeError(error)}`,
      );
    }
  }

  async #send(response: Buffer): Promise<void> {
    const { heldBytes, metrics } = this.#options;
    if (!heldBytes.take(response.byteLength)) {
      throw new StreamRefusal(
        grpcCode.resourceExhausted,
        'clients of this socket do not read what they have asked for',
      );
    }
    const startedAtMs = performance.now();
    try {
      if (!this.#writer.enqueue(response))
        throw new StreamRefusal(grpcCode.resourceExhausted, 'the client does not read');
      if (this.#writer.isBlocked) await this.#writable();
    } finally {
      heldBytes.giveBack(response.byteLength);
    }
    metrics.secretSendSeconds((performance.now() - startedAtMs) / 1000);
  }

  /** Resolves when there is room, or the client has gone. */
  async #writable(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onWritable = resolve;
    if (this.#stream.destroyed) resolve();
    await promise;
    this.#onWritable = undefined;
  }

  #fail(error: unknown): void {
    if (this.#gone.signal.aborted) return;
    const status = statusOfRefusal(error);
    this.#options.log.warn('SDS stream ends with an error', {
      id: this.#options.id,
      code: status.code,
      reason: status.message,
    });
    this.end(status);
  }
}

function sizeOf(secret: Secret): number {
  return secret.kind === 'roots'
    ? secret.certificates.byteLength
    : secret.certificateChain.byteLength + secret.privateKey.byteLength;
}
