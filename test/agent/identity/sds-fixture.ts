import type { TestContext } from 'node:test';
import { Client, type ClientDuplexStream, credentials, type StatusObject } from '@grpc/grpc-js';
import { LogRoot } from '../../../agent/log.ts';
import { IdentityMetrics, type ServedCertificate } from '../../../metrics/identity-metrics.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { atEnd } from '../../support/test-end.ts';
import { EventQueue } from '../xds/event-queue.ts';
import { decodeSecretResponse, encodeSecretRequest } from './secret-codec.ts';

export const servicePath = '/envoy.service.secret.v3.SecretDiscoveryService';
export const nodeId = 'sidecar~10.0.0.1~cart-1.shop~shop.svc.cluster.local';

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** Log lines as they are written, and a wait for one. */
export class LogCapture {
  readonly lines: LogLine[] = [];
  readonly root: LogRoot;
  readonly #waiting = new Set<() => void>();

  constructor() {
    this.root = new LogRoot({
      format: 'json',
      levels: new Map([['default', 'debug']]),
      write: (line) => {
        this.lines.push(JSON.parse(line) as LogLine);
        for (const wake of this.#waiting) wake();
      },
    });
  }

  /** Everything that was written, as one text. */
  get text(): string {
    return this.lines.map((line) => JSON.stringify(line)).join('\n');
  }

  /** Resolves with the line of this number (from 0) among those with the message, past or to come. */
  async waitFor(message: string, index = 0): Promise<LogLine> {
    for (;;) {
      const found = this.lines.filter(({ msg }) => msg === message)[index];
      if (found !== undefined) return found;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
    }
  }
}

/** Metrics with a look at their values. */
export class MetricsCapture {
  readonly metrics: IdentityMetrics;
  readonly #registry = new MetricRegistry();

  constructor(served: () => readonly ServedCertificate[] = () => []) {
    this.metrics = new IdentityMetrics(this.#registry, served);
  }

  /** Value of one sample of the exposition, such as `istio_agent_num_outgoing_requests{request_type="csr"}`; else 0. */
  async value(sample: string): Promise<number> {
    const line = (await this.#registry.exposition())
      .split('\n')
      .find((text) => text.startsWith(`${sample} `));
    return Number(line?.slice(sample.length + 1) ?? 0);
  }
}

const asIs = (bytes: Buffer): Buffer => bytes;

export interface ReadAnswer extends ReturnType<typeof decodeSecretResponse> {
  readonly bytes: Buffer;
}

/** A client of the SDS socket that stands where Envoy does: grpc-js, which shares nothing with our server. */
export class SdsClient {
  readonly answers = new EventQueue<ReadAnswer>();
  readonly status: Promise<StatusObject>;
  readonly #call: ClientDuplexStream<Buffer, Buffer>;

  constructor(t: TestContext, socketPath: string, method = 'StreamSecrets') {
    const client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
    });
    atEnd(t, () => client.close());
    this.#call = client.makeBidiStreamRequest(`${servicePath}/${method}`, asIs, asIs);
    this.#call.on('data', (bytes: Buffer) => this.answers.push({ ...decodeSecretResponse(bytes), bytes }));
    this.#call.on('error', () => undefined);
    this.status = new Promise((resolve) => {
      this.#call.once('status', resolve);
    });
  }

  send(request: Parameters<typeof encodeSecretRequest>[0]): void {
    this.sendBytes(encodeSecretRequest(request));
  }

  sendBytes(bytes: Buffer): void {
    this.#call.write(bytes);
  }

  /** Asks for names with the node, and waits for the answer. */
  async ask(...names: readonly string[]): Promise<ReadAnswer> {
    this.send({ nodeId, names });
    return await this.answers.next();
  }

  /** ACKs an answer. `names` is what is wanted from now on. */
  acknowledge(answer: ReadAnswer, names: readonly string[]): void {
    this.send({ names, nonce: answer.nonce, version: answer.version });
  }

  /** Half-closes. */
  finish(): void {
    this.#call.end();
  }

  cancel(): void {
    this.#call.cancel();
  }
}
