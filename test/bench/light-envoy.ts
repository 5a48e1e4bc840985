import { Client, type ClientDuplexStream, credentials, Metadata } from '@grpc/grpc-js';
import { decodeResponse, encodeRequest } from '../support/control-plane/discovery-messages.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';

/** How Envoy waits between streams: a random part of a bound that doubles. */
const firstWaitMs = 500;
const largestWaitMs = 30_000;

/** A resource as it came. */
export interface LightResource {
  readonly atMs: number;
  /** The encoded extension config. */
  readonly value: Buffer;
}

/**
 * As much of an Envoy as a fleet needs: one stream that subscribes to one extension config, accepts everything, and
 * comes again as Envoy does when it ends. Many of them fit into one process.
 */
export class LightEnvoy {
  readonly #client: Client;
  readonly #nodeId: string;
  readonly #name: string;
  readonly #onResource: (resource: LightResource) => void;
  #call: ClientDuplexStream<Buffer, Buffer> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failedCount = 0;
  #isClosed = false;

  /** Connects at once. Times are of `performance.now()`. */
  constructor(options: {
    readonly socketPath: string;
    readonly nodeId: string;
    /** Of the resource it subscribes to. */
    readonly name: string;
    readonly onResource: (resource: LightResource) => void;
  }) {
    this.#client = new Client(`unix:${options.socketPath}`, credentials.createInsecure());
    this.#nodeId = options.nodeId;
    this.#name = options.name;
    this.#onResource = options.onResource;
    this.#open();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#call?.cancel();
    this.#client.close();
  }

  #open(): void {
    const asIs = (bytes: Buffer): Buffer => bytes;
    const call = this.#client.makeBidiStreamRequest(
      '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
      asIs,
      asIs,
      new Metadata({ waitForReady: true }),
    );
    this.#call = call;
    call.on('data', (bytes: Buffer) => this.#take(call, bytes));
    call.on('error', () => undefined);
    call.once('status', () => this.#comeAgain());
    const node = { id: this.#nodeId, cluster: 'fleet', metadata: {} };
    call.write(encodeRequest('delta', { typeUrl: typeUrls.ecds, node, names: [this.#name] }));
  }

  #take(call: ClientDuplexStream<Buffer, Buffer>, bytes: Buffer): void {
    const atMs = performance.now();
    this.#failedCount = 0;
    const { typeUrl, nonce, resources } = decodeResponse('delta', bytes);
    call.write(encodeRequest('delta', { typeUrl, nonce }));
    for (const { name, value } of resources) if (name === this.#name) this.#onResource({ atMs, value });
  }

  #comeAgain(): void {
    if (this.#isClosed) return;
    const bound = Math.min(largestWaitMs, firstWaitMs * 2 ** this.#failedCount);
    this.#failedCount += 1;
    this.#timer = setTimeout(() => this.#open(), Math.random() * bound);
  }
}
