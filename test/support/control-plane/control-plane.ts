/**
 * A scriptable istiod: serves one world over ADS to any number of clients, keeps istiod's rules of versions, nonces,
 * ACK and NACK, and lets a test push, fall silent, end streams, restart, and wait for what clients do.
 */
import { randomUUID } from 'node:crypto';
import { AdsServer, type TlsOptions } from './ads-server.ts';
import { AdsStream, type RawResponse, type SentResponse, type StreamStatus } from './ads-stream.ts';
import type { XdsMode } from './discovery-messages.ts';
import { ControlPlaneError } from './error.ts';
import { Journal, type JournalEntry, type RequestReceived, type WaitOptions } from './journal.ts';
import type { AdsCall } from './message-writer.ts';
import { type CounterName, Counters, StatusServer, type SyncStatus } from './status-page.ts';
import { shortTypeOf, typeUrlOf, typeUrls, type XdsType } from './type-urls.ts';
import { type Ack, findAck, findNack, type Nack, type VersionFilter } from './verdict-search.ts';
import { VersionSource } from './version.ts';
import { World } from './world.ts';

/** A short name such as `ecds`, or a whole type URL. */
export type TypeName = XdsType | (string & {});

/** Where and what a control plane serves. */
export interface ControlPlaneOptions {
  /** Default: empty. */
  readonly world?: World;
  /** On 127.0.0.1; default any free one. A restart takes the same again. */
  readonly port?: number;
  /** Default: plaintext. */
  readonly tls?: TlsOptions;
  /** Serves `/metrics` and `/debug/syncz` on this port of 127.0.0.1; 0 takes a free one. Default: not served. */
  readonly statusPort?: number;
  /** How long each wait may take unless it says otherwise. Default 10000. */
  readonly waitTimeoutMs?: number;
  readonly now?: () => Date;
  readonly newUuid?: () => string;
}

/** What one push did. */
export interface Push {
  /** The version of all its responses; that of the last push when nothing had changed. */
  readonly version: string;
  /** One for each watched type and stream, in the order sent. */
  readonly responses: readonly SentResponse[];
  /** Resolves when they all went to the socket or their stream ended. */
  readonly flushed: Promise<void>;
}

type State =
  | { readonly kind: 'running'; readonly server: AdsServer }
  /** Its port is kept for the next start, its world, journal and waits live on. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'closed' };

/** Start it with `ControlPlane.start`, end it with `close` or `await using`. */
export class ControlPlane {
  readonly journal: Journal;
  readonly #options: ControlPlaneOptions;
  readonly #versions: VersionSource;
  readonly #counters = new Counters();
  readonly #streams = new Map<number, AdsStream>();
  /** `all`, or the type URLs that get no answer and no push. */
  #muted: 'all' | ReadonlySet<string> = new Set();
  #state: State = { kind: 'stopped' };
  #statusServer: StatusServer | undefined;
  #port: number;
  #hasServed = false;
  #streamCount = 0;
  #world: World;
  #version: string;

  private constructor(options: ControlPlaneOptions) {
    this.#options = options;
    this.journal = new Journal(options.waitTimeoutMs ?? 10_000);
    this.#versions = new VersionSource(options.now ?? (() => new Date()));
    this.#port = options.port ?? 0;
    this.#world = options.world ?? World.empty;
    this.#version = this.#versions.next();
  }

  /** Throws ControlPlaneError `listen`. */
  static async start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    const controlPlane = new ControlPlane(options);
    await controlPlane.start();
    try {
      if (options.statusPort !== undefined) {
        controlPlane.#statusServer = await StatusServer.start(options.statusPort, controlPlane);
      }
    } catch (error) {
      await controlPlane.close();
      throw error;
    }
    return controlPlane;
  }

  /** The port of 127.0.0.1 it serves, also while it is stopped. */
  get port(): number {
    return this.#port;
  }

  /** `127.0.0.1:<port>`, for `discoveryAddress`. */
  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Base URL of `/metrics` and `/debug/syncz`; undefined when they are not served. */
  get statusUrl(): string | undefined {
    return this.#statusServer === undefined ? undefined : `http://127.0.0.1:${this.#statusServer.port}`;
  }

  get world(): World {
    return this.#world;
  }

  /** Of the last push; answers to requests carry it too. */
  get version(): string {
    return this.#version;
  }

  /** By age, oldest first. */
  get openStreams(): readonly AdsStream[] {
    return [...this.#streams.values()];
  }

  /** TCP connections that are open. */
  get connectionCount(): number {
    return this.#state.kind === 'running' ? this.#state.server.connectionCount : 0;
  }

  /**
   * Serves another world and pushes the types that differ under one new version; nothing at all when none does.
   * Changed ECDS resources bring the listeners with them, before them, as with istiod when a WasmPlugin changes.
   * With `types` these are pushed instead; an empty list is all, as with istiod when an EnvoyFilter changes.
   * While stopped it only takes the world: the next start serves it under a version of its own.
   */
  applyWorld(next: World, options: { readonly types?: readonly TypeName[] } = {}): Push {
    const changed = new Set(this.#world.changedTypes(next));
    this.#world = next;
    if (this.#state.kind !== 'running') return this.#pushed([]);
    if (options.types !== undefined) return this.push(...options.types);
    if (changed.has(typeUrls.ecds)) changed.add(typeUrls.lds);
    return changed.size === 0 ? this.#pushed([]) : this.push(...changed);
  }

  /** Pushes types under a new version, changed or not; without any: all that each stream watches. */
  push(...types: readonly TypeName[]): Push {
    this.#version = this.#versions.next();
    const urls = new Set(types.map(typeUrlOf));
    return this.#pushed(
      this.openStreams.flatMap((stream) =>
        stream.push(urls.size === 0 ? new Set(stream.watches.keys()) : urls),
      ),
    );
  }

  /** Pushes the extension configs alone under a new version. */
  pushEcds(): Push {
    return this.push('ecds');
  }

  /** Sends a response of any content to all streams, or to one, past world, subscriptions and silence. */
  pushRaw(response: RawResponse, options: { readonly streamId?: number } = {}): Push {
    const streams = options.streamId === undefined ? this.openStreams : [this.stream(options.streamId)];
    return this.#pushed(
      streams.map((stream) => stream.pushRaw({ ...response, typeUrl: typeUrlOf(response.typeUrl) })),
    );
  }

  /** An open stream by its number. Throws ControlPlaneError `no_stream`. */
  stream(id: number): AdsStream {
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      throw new ControlPlaneError('no_stream', `no stream ${id} is open\n${this.journal.describe()}`);
    }
    return stream;
  }

  /** Takes requests but neither answers nor pushes these types (all without any), until `unmute`. */
  mute(...types: readonly TypeName[]): void {
    if (types.length === 0) this.#muted = 'all';
    else if (this.#muted !== 'all') this.#muted = this.#muted.union(new Set(types.map(typeUrlOf)));
  }

  /** Ends every silence, and sends the present state of what was held back. */
  unmute(): Push {
    this.#muted = new Set();
    return this.#pushed(this.openStreams.flatMap((stream) => stream.settleOwed()));
  }

  /** Ends all open streams with a gRPC status; the connections stay. */
  closeStreams(end: StreamStatus): void {
    for (const stream of this.openStreams) stream.end(end);
  }

  /** Goes away as a killed istiod does: connections are cut without GOAWAY or trailers, the port refuses. */
  async stop(): Promise<void> {
    if (this.#state.kind !== 'running') return;
    const { server } = this.#state;
    this.#state = { kind: 'stopped' };
    for (const stream of this.openStreams) stream.drop();
    await server.close();
  }

  /**
   * Serves again on the same port, with the world as it is now. As a new istiod it knows no nonce, counts versions and
   * metrics from the start. Throws ControlPlaneError `listen`, `not_running` once closed.
   */
  async start(): Promise<void> {
    if (this.#state.kind === 'running') return;
    if (this.#state.kind === 'closed') {
      throw new ControlPlaneError('not_running', 'the control plane was closed; make a new one');
    }
    if (this.#hasServed) {
      this.#versions.restart();
      this.#version = this.#versions.next();
      this.#counters.clear();
    }
    const server = await AdsServer.start({
      port: this.#port,
      tls: this.#options.tls,
      accept: (mode, call) => this.#accept(mode, call),
    });
    this.#hasServed = true;
    this.#port = server.port;
    this.#state = { kind: 'running', server };
  }

  /** Ends everything; waits fail. Nothing is left when it resolves. */
  async close(): Promise<void> {
    await this.stop();
    this.#state = { kind: 'closed' };
    await this.#statusServer?.close();
    this.#statusServer = undefined;
    this.journal.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Prometheus text: `pilot_total_xds_rejects`, `pilot_xds_pushes`, `pilot_xds_expired_nonce`, `pilot_xds`. */
  metrics(): string {
    return this.#counters.text(this.#streams.size);
  }

  /** One counter; 0 when it never moved. */
  counter(name: CounterName, type: TypeName): number {
    return this.#counters.get(name, typeUrlOf(type));
  }

  /** Per open stream and type: synced, stale, in error, or not sent. */
  syncz(): readonly SyncStatus[] {
    return this.openStreams
      .filter((stream) => stream.node !== undefined)
      .map((stream) => stream.syncStatus());
  }

  /** Resolves when the last response of the type, or one of the given versions, has its ACK. */
  async waitForAck(type: TypeName, options: VersionFilter & WaitOptions = {}): Promise<Ack> {
    const typeUrl = typeUrlOf(type);
    const what = `an ACK of ${shortTypeOf(typeUrl)}${describeFilter(options)}`;
    return await this.journal.waitFor(what, () => findAck(this, typeUrl, options), options);
  }

  /** Resolves when the type stands in error, or a response of the given versions has its NACK. */
  async waitForNack(type: TypeName, options: VersionFilter & WaitOptions = {}): Promise<Nack> {
    const typeUrl = typeUrlOf(type);
    const what = `a NACK of ${shortTypeOf(typeUrl)}${describeFilter(options)}`;
    return await this.journal.waitFor(what, () => findNack(this, typeUrl, options), options);
  }

  /** Resolves with the stream that subscribes to this resource name. Default type: ECDS. */
  async waitForSubscription(
    name: string,
    options: WaitOptions & { readonly type?: TypeName } = {},
  ): Promise<AdsStream> {
    const typeUrl = typeUrlOf(options.type ?? 'ecds');
    return await this.journal.waitFor(
      `a subscription to ${name} of ${shortTypeOf(typeUrl)}`,
      () => this.openStreams.find((stream) => stream.watches.get(typeUrl)?.names.has(name)),
      options,
    );
  }

  /** Resolves with the first open stream, or the first that was opened after stream `after`, once its node is known. */
  async waitForStream(options: WaitOptions & { readonly after?: number } = {}): Promise<AdsStream> {
    const { after = 0 } = options;
    return await this.journal.waitFor(
      after === 0 ? 'a stream' : `a stream after stream ${after}`,
      () => this.openStreams.find((stream) => stream.id > after && stream.node !== undefined),
      options,
    );
  }

  /** Resolves with the first request for which `matches` is true, also one that came before. */
  async waitForRequest(
    what: string,
    matches: (entry: RequestReceived) => boolean,
    options: WaitOptions = {},
  ): Promise<RequestReceived> {
    const isWanted = (entry: JournalEntry): entry is RequestReceived =>
      entry.kind === 'request' && matches(entry);
    return await this.journal.waitFor(what, () => this.journal.entries.find(isWanted), options);
  }

  #pushed(responses: readonly SentResponse[]): Push {
    const ids = new Set(responses.map((response) => response.streamId));
    const streams = this.openStreams.filter((stream) => ids.has(stream.id));
    return {
      version: this.#version,
      responses,
      flushed: Promise.all(streams.map((stream) => stream.flushed())).then(() => undefined),
    };
  }

  #accept(mode: XdsMode, call: AdsCall): void {
    this.#streamCount += 1;
    const id = this.#streamCount;
    const stream = new AdsStream(id, mode, call, {
      journal: this.journal,
      counters: this.#counters,
      newUuid: this.#options.newUuid ?? randomUUID,
      world: () => this.#world,
      version: () => this.#version,
      isMuted: (typeUrl) => this.#muted === 'all' || this.#muted.has(typeUrl),
      onEnded: () => this.#streams.delete(id),
    });
    this.#streams.set(id, stream);
  }
}

function describeFilter(filter: VersionFilter): string {
  const { version, afterVersion, streamId } = filter;
  return [
    version === undefined ? '' : ` of version ${version}`,
    afterVersion === undefined ? '' : ` after version ${afterVersion}`,
    streamId === undefined ? '' : ` on stream ${streamId}`,
  ].join('');
}
