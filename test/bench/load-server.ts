/** Process of the fake control plane: an ADS server that pushes as fast as its peer takes, and nothing else. */
import {
  constants,
  createSecureServer,
  createServer,
  type Http2Server,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { encodeFrame, FrameSplitter } from '../../agent/xds/frames.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { adsPath, requestFields, type XdsMode } from './discovery-wire.ts';
import { encodePluginPush, type PluginPush } from './plugin-push.ts';
import { buildPushPayload, formatNonce, type PushPayload } from './push-payload.ts';
import { wireField, wireText } from './wire-fields.ts';
import { serveCalls } from './worker-process.ts';

/** What is pushed to the streams that begin from now on. */
export interface PushPlan {
  readonly mode: XdsMode;
  /** Length of each message of type Cluster. */
  readonly sizeBytes: number;
  /** Of each of its resources, about; absent: what istiod writes for a service. */
  readonly resourceBytes?: number;
  /** Pushes sent at once on the first request. */
  readonly outstandingCount: number;
  /** Each ACK asks for one more push; else it is only counted. */
  readonly isPushingOnAck: boolean;
}

/** Calls of the process. */
export interface LoadServerCalls {
  start(options: { readonly tls?: { readonly key: string; readonly certificate: string } }): Promise<{
    readonly port: number;
  }>;
  plan(plan: PushPlan): { readonly checksum: number };
  /** Resolves when the newest stream has so many ACKs of type Cluster; the time is that of the last. */
  takeAcks(count: number): Promise<{ readonly receivedAtNs: bigint }>;
  /** Pushes on the newest stream, when it has subscribed to extension configs. Returns when the push began. */
  pushPlugins(plugins: readonly PluginPush[]): Promise<{ readonly pushedAtNs: bigint }>;
}

/** Requests of a client are small. */
const maxRequestBytes = 1024 * 1024;
/** A message is written in slices, so that at most one of them waits inside Node. */
const sliceBytes = 1024 * 1024;
/** Up to here a push is copied and written at once: two small writes would be two DATA frames. */
const joinedPushBytes = 64 * 1024;
const messageFlagBytes = 5;

/** One ADS stream of the server. Pushes leave one after the other, each when the peer has taken the last. */
class PushStream {
  readonly #stream: ServerHttp2Stream;
  readonly #plan: PushPlan;
  readonly #payload: PushPayload;
  readonly #extensionSubscription = Promise.withResolvers<void>();
  #pushCount = 0;
  #lastWrite: Promise<void> = Promise.resolve();
  #ackCount = 0;
  #awaitedAcks: { readonly count: number; readonly resolve: (atNs: bigint) => void } | undefined;

  constructor(stream: ServerHttp2Stream, plan: PushPlan, payload: PushPayload) {
    this.#stream = stream;
    this.#plan = plan;
    this.#payload = payload;
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      // Without trailers the end of the process is the end of the stream.
      { waitForTrailers: false },
    );
    stream.on('error', () => undefined);
    const parts: Buffer[] = [];
    const splitter = new FrameSplitter({
      maxMessageBytes: maxRequestBytes,
      sink: {
        onMessageStart: () => {
          parts.length = 0;
        },
        onMessageData: (part) => parts.push(part),
        onMessageEnd: () => this.#onRequest(parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts)),
      },
    });
    stream.on('data', (chunk: Buffer) => {
      const fault = splitter.push(chunk);
      if (fault !== undefined) stream.destroy(new Error(`The client's stream is broken: ${fault.code}`));
    });
  }

  /** One wait at a time. */
  takeAcks(count: number): Promise<bigint> {
    const { promise, resolve } = Promise.withResolvers<bigint>();
    this.#awaitedAcks = { count, resolve };
    this.#settleAcks();
    return promise;
  }

  #settleAcks(): void {
    const awaited = this.#awaitedAcks;
    if (awaited === undefined || this.#ackCount < awaited.count) return;
    this.#awaitedAcks = undefined;
    awaited.resolve(process.hrtime.bigint());
  }

  async pushPlugins(plugins: readonly PluginPush[]): Promise<bigint> {
    await this.#extensionSubscription.promise;
    const message = encodePluginPush(this.#plan.mode, plugins, formatNonce(this.#takePushNumber()));
    const pushedAtNs = process.hrtime.bigint();
    this.#enqueue(() => this.#writeAll(encodeFrame(message)));
    return pushedAtNs;
  }

  #onRequest(request: Buffer): void {
    const { mode } = this.#plan;
    const fields = requestFields[mode];
    const error = wireField(request, fields.error);
    if (error !== undefined) {
      // The end of the stream ends the measurement; without it the client would wait in vain.
      console.error(`A push was refused (NACK): ${wireText(error, 2)}`);
      this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      return;
    }
    const typeUrl = wireText(request, fields.typeUrl);
    const nonce = wireText(request, fields.nonce);
    if (typeUrl === typeUrls.ecds) {
      this.#extensionSubscription.resolve();
      return;
    }
    // Whatever else an agent asks for on its own behalf is left without an answer.
    if (typeUrl !== typeUrls.cds) return;
    if (nonce !== '' && !this.#plan.isPushingOnAck) {
      this.#ackCount += 1;
      this.#settleAcks();
      return;
    }
    const count = nonce === '' ? this.#plan.outstandingCount : 1;
    for (let i = 0; i < count; i += 1) {
      const pushNumber = this.#takePushNumber();
      this.#enqueue(() => this.#push(pushNumber));
    }
  }

  #takePushNumber(): number {
    this.#pushCount += 1;
    return this.#pushCount;
  }

  /** One writer only: a message follows when the one before it has been taken. */
  #enqueue(write: () => Promise<void> | void): void {
    this.#lastWrite = this.#lastWrite.then(write);
  }

  async #push(pushNumber: number): Promise<void> {
    const { prefix, sizeBytes } = this.#payload;
    const header = Buffer.alloc(messageFlagBytes);
    header.writeUInt32BE(sizeBytes, 1);
    const nonce = Buffer.from(formatNonce(pushNumber));
    if (sizeBytes <= joinedPushBytes) {
      await this.#writeAll([Buffer.concat([header, prefix, nonce])]);
      return;
    }
    const slices: Buffer[] = [];
    for (let start = 0; start < prefix.length; start += sliceBytes) {
      slices.push(prefix.subarray(start, start + sliceBytes));
    }
    const last = slices.pop() ?? Buffer.alloc(0);
    // Small ends are joined to their neighbour: a frame of 16 bytes would cost as much as one of 16 KB.
    await this.#writeAll([header, ...slices, Buffer.concat([last, nonce])]);
  }

  /** The one place that writes. Returns early when the stream has ended. */
  async #writeAll(parts: readonly Uint8Array[]): Promise<void> {
    for (const part of parts) {
      if (this.#stream.destroyed || this.#stream.writableEnded) return;
      if (!this.#stream.write(part)) await drained(this.#stream);
    }
  }
}

/** Resolves when the stream takes more, or is gone. */
function drained(stream: ServerHttp2Stream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => {
    stream.off('drain', done);
    stream.off('close', done);
    resolve();
  };
  stream.on('drain', done);
  stream.on('close', done);
  return promise;
}

let server: Http2Server | undefined;
let plan: PushPlan | undefined;
let payload: PushPayload | undefined;
let newestStream = Promise.withResolvers<PushStream>();

serveCalls<LoadServerCalls>({
  async start({ tls }) {
    const settings = { settings: { maxConcurrentStreams: 100_000 }, maxSessionMemory: 1024 };
    server =
      tls === undefined
        ? createServer(settings)
        : createSecureServer({ ...settings, key: tls.key, cert: tls.certificate, allowHTTP1: false });
    server.on('session', (session) => session.on('error', () => undefined));
    const eventName = tls === undefined ? 'connection' : 'secureConnection';
    server.on(eventName, (socket: Socket) => socket.setNoDelay(true));
    server.on('stream', (stream, headers) => {
      if (plan === undefined || payload === undefined || headers[':path'] !== adsPath(plan.mode)) {
        stream.respond(
          { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '12' },
          { endStream: true },
        );
        return;
      }
      newestStream.resolve(new PushStream(stream, plan, payload));
    });
    const listening = Promise.withResolvers<void>();
    server.once('error', listening.reject);
    server.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    return { port: (server.address() as AddressInfo).port };
  },
  plan(next) {
    const isSame =
      plan?.mode === next.mode &&
      plan.sizeBytes === next.sizeBytes &&
      plan.resourceBytes === next.resourceBytes;
    if (!isSame || payload === undefined) {
      payload = buildPushPayload(next.mode, next.sizeBytes, next.resourceBytes);
    }
    plan = next;
    newestStream = Promise.withResolvers();
    return { checksum: payload.checksum };
  },
  async takeAcks(count) {
    const stream = await newestStream.promise;
    return { receivedAtNs: await stream.takeAcks(count) };
  },
  async pushPlugins(plugins) {
    const stream = await newestStream.promise;
    return { pushedAtNs: await stream.pushPlugins(plugins) };
  },
});
