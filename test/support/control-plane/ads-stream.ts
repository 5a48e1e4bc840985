/**
 * One ADS stream: takes requests by istiod's rules, answers from the world, and writes one response after the other.
 */
import { type Metadata, status } from '@grpc/grpc-js';
import {
  decodeRequest,
  encodeResponse,
  type Resource,
  type XdsMode,
  type XdsNode,
  type XdsRequest,
} from './discovery-messages.ts';
import { ControlPlaneError } from './error.ts';
import type { Journal, ResponseSent } from './journal.ts';
import { type AdsCall, MessageWriter, maxQueuedMessageCount } from './message-writer.ts';
import type { Counters, SyncStatus } from './status-page.ts';
import { typeStatus } from './status-page.ts';
import { inPushOrder, isWildcardType, typeUrls } from './type-urls.ts';
import { afterResponse, type Decision, decideDelta, decideSotw, newWatch, type Watch } from './watch.ts';
import { type Selection, selectResources, type World } from './world.ts';

/** What a stream needs from its control plane. */
export interface StreamHost {
  readonly journal: Journal;
  readonly counters: Counters;
  world(): World;
  /** Of the last push. */
  version(): string;
  newUuid(): string;
  isMuted(typeUrl: string): boolean;
  /** The stream is gone; called once. */
  onEnded(): void;
}

/** A gRPC status with which a stream is ended. */
export interface StreamStatus {
  readonly code: status;
  readonly details: string;
}

/** A response as it is queued. */
export interface SentResponse {
  readonly streamId: number;
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
}

/** A response made by a test: nothing of it is checked. */
export interface RawResponse {
  readonly typeUrl: string;
  readonly resources: readonly Resource[];
  /** Delta only. */
  readonly removed?: readonly string[];
  /** Default: the version of the last push. */
  readonly version?: string;
  /** Default: version and a new UUID. */
  readonly nonce?: string;
}

type State =
  /** No request yet: pushes pass the stream by. */
  | { readonly kind: 'opened' }
  /** The node is known. */
  | { readonly kind: 'serving'; readonly node: XdsNode }
  /** Nothing is sent or taken any more. */
  | { readonly kind: 'ended'; readonly node: XdsNode | undefined };

/** One client's stream, from its opening to its end. The control plane owns it; a test may read and script it. */
export class AdsStream {
  readonly id: number;
  readonly mode: XdsMode;
  /** Request headers by lower-case name; holds the token of `authorization`, so never print it. */
  readonly metadata: Readonly<Record<string, readonly string[]>>;
  /** `:authority`. */
  readonly authority: string;
  /** Address and port of the peer. */
  readonly peer: string;
  /** Subject alternative names of the client's certificate, such as `DNS:gateway.default`; undefined without one. */
  readonly clientCertificateNames: string | undefined;

  readonly #call: AdsCall;
  readonly #host: StreamHost;
  readonly #watches = new Map<string, Watch>();
  /** Types with an answer or push that was held back while muted. */
  readonly #owed = new Set<string>();
  readonly #writer: MessageWriter;
  readonly #ended = Promise.withResolvers<void>();
  #state: State = { kind: 'opened' };

  constructor(id: number, mode: XdsMode, call: AdsCall, host: StreamHost) {
    this.id = id;
    this.mode = mode;
    this.#call = call;
    this.#host = host;
    this.metadata = metadataRecord(call.metadata);
    this.authority = call.getHost();
    this.peer = call.getPeer();
    this.clientCertificateNames = call.getAuthContext().sslPeerCertificate?.subjectaltname;
    this.#writer = new MessageWriter(call);
    host.journal.append({ kind: 'stream_opened', streamId: id, mode });
    call.on('data', (bytes: Buffer) => this.#receive(bytes));
    call.on('end', () => this.#finish('client', { code: status.OK, details: '' }));
    call.on('cancelled', () => this.#finish('client', undefined));
  }

  /** Resolves when the stream is gone, for whatever reason. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get isOpen(): boolean {
    return this.#state.kind !== 'ended';
  }

  /** Undefined until the first request came. */
  get node(): XdsNode | undefined {
    return this.#state.kind === 'opened' ? undefined : this.#state.node;
  }

  get watches(): ReadonlyMap<string, Watch> {
    return this.#watches;
  }

  syncStatus(): SyncStatus {
    return {
      streamId: this.id,
      proxy: this.node?.id ?? '',
      resources: Object.fromEntries([...this.#watches].map(([url, watch]) => [url, typeStatus(watch)])),
    };
  }

  /** Sends each watched type of `types` in push order. Nothing before the first request. */
  push(types: ReadonlySet<string>): SentResponse[] {
    if (this.#state.kind !== 'serving') return [];
    return inPushOrder(this.#watches.keys())
      .filter((typeUrl) => types.has(typeUrl))
      .flatMap((typeUrl) => this.#send(typeUrl, { kind: 'watched' }, 'push') ?? []);
  }

  /** Sends a response that a test made, whether its type is watched or not. ACKs of it count as of any other. */
  pushRaw(response: RawResponse): SentResponse {
    const { typeUrl, version = this.#host.version() } = response;
    const nonce = response.nonce ?? `${version}${this.#host.newUuid()}`;
    this.#write(
      { ...response, version, nonce, removed: this.mode === 'delta' ? (response.removed ?? []) : [] },
      'raw',
    );
    return { streamId: this.id, typeUrl, version, nonce };
  }

  /** Sends any bytes as one gRPC message. They leave no trace in journal and watches. */
  sendBytes(message: Buffer): void {
    this.#enqueue(message);
  }

  /** Sends now what was held back while its type was muted: the present state, once for each type. */
  settleOwed(): SentResponse[] {
    const settled = [...this.#owed].filter((typeUrl) => !this.#host.isMuted(typeUrl));
    for (const typeUrl of settled) this.#owed.delete(typeUrl);
    return this.push(new Set(settled));
  }

  /** Ends the stream with a status after the response in work; responses that wait are dropped. */
  end(end: StreamStatus): void {
    this.#finish('server', end);
  }

  /** Takes the stream for gone without a word to the client: its connection is about to be cut. */
  drop(): void {
    this.#finish('server', undefined);
  }

  /** Resolves when every response has gone to the socket, or the stream has ended. */
  async flushed(): Promise<void> {
    await this.#writer.flushed();
  }

  #receive(bytes: Buffer): void {
    if (this.#state.kind === 'ended') return;
    let request: XdsRequest;
    try {
      request = decodeRequest(this.mode, bytes);
    } catch (error) {
      this.end({ code: status.INTERNAL, details: `cannot read the request: ${String(error)}` });
      return;
    }
    if (!isAnswerable(request.typeUrl)) {
      this.#record(request, bytes, { verdict: 'unanswered', watch: undefined, answer: undefined }, '');
      return;
    }
    if (this.#state.kind === 'opened' && !this.#start(request)) return;
    const previous = this.#watches.get(request.typeUrl);
    const decision = (this.mode === 'sotw' ? decideSotw : decideDelta)(previous, request);
    this.#apply(request.typeUrl, decision);
    this.#record(request, bytes, decision, this.#answeredVersion(previous, request));
    if (decision.answer !== undefined) this.#answer(request.typeUrl, decision.answer, decision.verdict);
  }

  /** Takes the node of the first request. */
  #start(request: XdsRequest): boolean {
    if (request.node === undefined || request.node.id === '') {
      this.end({ code: status.INVALID_ARGUMENT, details: 'missing node information' });
      return false;
    }
    this.#state = { kind: 'serving', node: request.node };
    return true;
  }

  #apply(typeUrl: string, { watch, verdict }: Decision): void {
    if (watch === undefined) this.#watches.delete(typeUrl);
    else this.#watches.set(typeUrl, watch);
    switch (verdict) {
      case 'nack':
      case 'stale_nack':
        this.#host.counters.add('pilot_total_xds_rejects', typeUrl);
        break;
      case 'stale':
        this.#host.counters.add('pilot_xds_expired_nonce', typeUrl);
        break;
      case 'ack':
      case 'subscribe':
      case 'unsubscribe':
      case 'unanswered':
        break;
      default:
        verdict satisfies never;
    }
  }

  #record(request: XdsRequest, bytes: Buffer, decision: Decision, answeredVersion: string): void {
    this.#host.journal.append({
      kind: 'request',
      streamId: this.id,
      request,
      verdict: decision.verdict,
      answeredVersion,
      bytes,
    });
  }

  #answeredVersion(previous: Watch | undefined, { nonce }: XdsRequest): string {
    if (nonce === '') return '';
    if (previous?.nonceSent === nonce) return previous.versionSent;
    const response = this.#host.journal.entries.findLast(
      (entry): entry is ResponseSent =>
        entry.kind === 'response' && entry.streamId === this.id && entry.nonce === nonce,
    );
    return response?.version ?? '';
  }

  /**
   * After clusters their endpoints must come again, or Envoy waits for them for ever. In delta istiod sends them at
   * once; in state of the world it answers the next EDS request of this stream whatever it says.
   */
  #answer(typeUrl: string, selection: Selection, verdict: Decision['verdict']): void {
    this.#send(typeUrl, selection, 'answer');
    const endpoints = this.#watches.get(typeUrls.eds);
    if (typeUrl !== typeUrls.cds || endpoints === undefined) return;
    if (this.mode === 'delta') this.#send(typeUrls.eds, { kind: 'watched' }, 'push');
    else if (verdict === 'subscribe') this.#watches.set(typeUrls.eds, { ...endpoints, mustAnswer: true });
  }

  #send(typeUrl: string, selection: Selection, cause: 'answer' | 'push'): SentResponse | undefined {
    const watch = this.#watches.get(typeUrl);
    if (watch === undefined) return undefined;
    if (this.#host.isMuted(typeUrl)) {
      this.#owed.add(typeUrl);
      return undefined;
    }
    const version = this.#host.version();
    const resources = selectResources(this.#host.world(), typeUrl, watch.names, selection);
    if (resources === undefined) return undefined;
    const nonce = `${version}${this.#host.newUuid()}`;
    const present = new Set(resources.map((resource) => resource.name));
    const expected = selection.kind === 'only' ? selection.names : watch.names;
    // istiod never says that an ECDS resource is gone: pilot/pkg/xds/delta.go neverRemoveDelta.
    const saysRemoved = this.mode === 'delta' && typeUrl !== typeUrls.ecds;
    const removed = saysRemoved ? [...expected.difference(present)].sort() : [];
    this.#write({ typeUrl, version, nonce, resources, removed }, cause, present);
    return { streamId: this.id, typeUrl, version, nonce };
  }

  #write(
    response: Required<RawResponse>,
    cause: ResponseSent['cause'],
    present: ReadonlySet<string> = new Set(),
  ): void {
    const { typeUrl, version, nonce, removed } = response;
    const bytes = encodeResponse(this.mode, { ...response, removed });
    const watch = this.#watches.get(typeUrl) ?? newWatch(typeUrl, new Set());
    const tracksNames = this.mode === 'delta' && isWildcardType(typeUrl) && cause !== 'raw';
    this.#watches.set(
      typeUrl,
      afterResponse(watch, { nonce, version, ...(tracksNames ? { names: present } : {}) }),
    );
    this.#host.counters.add('pilot_xds_pushes', typeUrl);
    if (!this.#enqueue(bytes)) return;
    this.#host.journal.append({
      kind: 'response',
      streamId: this.id,
      cause,
      typeUrl,
      version,
      nonce,
      resourceNames: response.resources.map((resource) => resource.name),
      removed,
      sizeBytes: bytes.length,
    });
  }

  /** False when the stream was ended because its client does not read. */
  #enqueue(message: Buffer): boolean {
    if (this.#state.kind === 'ended') {
      throw new ControlPlaneError(
        'no_stream',
        `stream ${this.id} has ended; wait for a new one and push there`,
      );
    }
    if (this.#writer.enqueue(message)) return true;
    this.end({
      code: status.RESOURCE_EXHAUSTED,
      details: `the client left ${maxQueuedMessageCount} responses unread`,
    });
    return false;
  }

  #finish(by: 'client' | 'server', end: StreamStatus | undefined): void {
    if (this.#state.kind === 'ended') return;
    this.#state = { kind: 'ended', node: this.node };
    this.#writer.close();
    if (end?.code === status.OK) this.#call.end();
    else if (end !== undefined) this.#call.emit('error', Object.assign(new Error(end.details), end));
    this.#host.onEnded();
    this.#ended.resolve();
    this.#host.journal.append({
      kind: 'stream_ended',
      streamId: this.id,
      by,
      code: end?.code,
      details: end?.details ?? 'dropped',
    });
  }
}

/** Health reports and debug questions are never answered here. */
function isAnswerable(typeUrl: string): boolean {
  return typeUrl !== typeUrls.health && !typeUrl.startsWith('istio.io/debug');
}

function metadataRecord(metadata: Metadata): Record<string, readonly string[]> {
  return Object.fromEntries(
    Object.keys(metadata.getMap()).map((key) => [key, metadata.get(key).map((value) => String(value))]),
  );
}
