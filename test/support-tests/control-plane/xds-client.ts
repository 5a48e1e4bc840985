/**
 * A bare ADS client for tests of the control plane: it sends what it is told, and never acknowledges by itself.
 */
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type StatusObject,
} from '@grpc/grpc-js';
import {
  decodeResponse,
  encodeRequest,
  type XdsMode,
  type XdsRequest,
  type XdsResponse,
} from '../../support/control-plane/discovery-messages.ts';

/** A response together with its bytes. */
export interface ReceivedResponse extends XdsResponse {
  readonly bytes: Buffer;
}

const methods = { sotw: 'StreamAggregatedResources', delta: 'DeltaAggregatedResources' } as const;
const deadlineMs = 10_000;

/** The node that the first request of a stream must have. */
export const testNode = {
  id: 'router~127.0.0.1~gw-0.istio-system~istio-system.svc.cluster.local',
  cluster: 'gw',
  metadata: {},
};

/** One stream on a connection of its own. */
export class XdsClient {
  readonly mode: XdsMode;
  readonly #client: Client;
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  readonly #received: Buffer[] = [];
  readonly #status = Promise.withResolvers<StatusObject>();
  #wake: (() => void) | undefined;
  #hasHeaders = false;

  constructor(
    address: string,
    mode: XdsMode,
    options: {
      readonly headers?: Readonly<Record<string, string>>;
      readonly credentials?: ChannelCredentials;
    } = {},
  ) {
    this.mode = mode;
    this.#client = new Client(address, options.credentials ?? credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.ssl_target_name_override': 'istiod.test',
    });
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(options.headers ?? {})) metadata.set(key, value);
    const asIs = (bytes: Buffer): Buffer => bytes;
    this.#call = this.#client.makeBidiStreamRequest(
      `/envoy.service.discovery.v3.AggregatedDiscoveryService/${methods[mode]}`,
      asIs,
      asIs,
      metadata,
    );
    this.#call.on('metadata', () => {
      this.#hasHeaders = true;
    });
    this.#call.on('data', (bytes: Buffer) => {
      this.#received.push(bytes);
      this.#wake?.();
    });
    this.#call.on('status', (status: StatusObject) => this.#status.resolve(status));
    // The status event tells the same; without this listener an ended stream would end the process.
    this.#call.on('error', () => undefined);
  }

  /** True once response headers came. */
  get hasHeaders(): boolean {
    return this.#hasHeaders;
  }

  /** Responses that came and were not taken. */
  get waitingCount(): number {
    return this.#received.length;
  }

  send(request: Partial<XdsRequest> & Pick<XdsRequest, 'typeUrl'>): void {
    this.sendBytes(encodeRequest(this.mode, request));
  }

  sendBytes(bytes: Buffer): void {
    this.#call.write(bytes);
  }

  /** The next response that was not taken yet. */
  async next(): Promise<ReceivedResponse> {
    const timeout = AbortSignal.timeout(deadlineMs);
    while (this.#received.length === 0) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const onTimeout = (): void => reject(new Error(`no response within ${deadlineMs} ms`));
      timeout.addEventListener('abort', onTimeout, { once: true });
      this.#wake = resolve;
      void this.#status.promise.then((status) =>
        reject(new Error(`the stream ended with status ${status.code}: ${status.details}`)),
      );
      await promise.finally(() => timeout.removeEventListener('abort', onTimeout));
    }
    const bytes = this.#received.shift() ?? Buffer.alloc(0);
    return { ...decodeResponse(this.mode, bytes), bytes };
  }

  /** Accepts a response as Envoy does; `names` are those it subscribes to. */
  ack(response: XdsResponse, names: readonly string[] = []): void {
    this.send({
      typeUrl: response.typeUrl,
      nonce: response.nonce,
      ...(this.mode === 'sotw' ? { version: response.version, names } : {}),
    });
  }

  nack(response: XdsResponse, message: string, names: readonly string[] = []): void {
    this.send({
      typeUrl: response.typeUrl,
      nonce: response.nonce,
      error: { code: 13, message },
      ...(this.mode === 'sotw' ? { names } : {}),
    });
  }

  halfClose(): void {
    this.#call.end();
  }

  /** Resolves when the server ended the stream, or the connection broke. */
  async status(): Promise<StatusObject> {
    return await this.#status.promise;
  }

  async close(): Promise<void> {
    this.#call.cancel();
    await this.#status.promise;
    this.#client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
