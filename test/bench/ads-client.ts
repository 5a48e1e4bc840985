import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  type IncomingHttpHeaders,
} from 'node:http2';
import { connect as connectNet } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { crc32 } from 'node:zlib';
import { encodeFrame, FrameSplitter } from '../../agent/xds/frames.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { adsPath, encodeAck, encodeSubscribe, responseFields, type XdsMode } from './discovery-wire.ts';
import { formatNonce, nonceBytes } from './push-payload.ts';
import { wireFields, wireText } from './wire-fields.ts';

/** Where the client connects: to an agent's socket, or straight to the server. */
export type ClientTarget =
  | { readonly kind: 'socket'; readonly path: string }
  | { readonly kind: 'server'; readonly port: number }
  | {
      readonly kind: 'tls-server';
      readonly port: number;
      readonly authority: string;
      readonly serverName: string;
    };

/** Pushes to come, as the server makes them. */
export interface ExpectedPush {
  readonly sizeBytes: number;
  /** CRC-32 of all bytes but the nonce. */
  readonly checksum: number;
}

/** Windows of Envoy's ADS connection (SETTINGS and first WINDOW_UPDATE of Envoy 1.40). */
const streamWindowBytes = 16 * 1024 * 1024;
const connectionWindowBytes = 65_535 + 25_100_289;
/** Larger than any push; the splitter wants a bound. */
const maxMessageBytes = 1024 * 1024 * 1024;
const nodeId = 'router~127.0.0.1~bench-0.bench~bench.svc.cluster.local';

/**
 * The fake Envoy: one ADS stream over one connection, with Envoy's windows. It counts and times what comes, and
 * checks the length and the nonce of every push; the checksum only where it is asked to, as that costs time.
 */
export class AdsClient {
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #mode: XdsMode;
  readonly #expected: ExpectedPush;
  /** What to do with the next complete message. */
  #onMessage: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;
  #failure: Error | undefined;

  // The message that is coming in.
  #messageBytes = 0;
  #seenBytes = 0;
  #tail: Buffer = Buffer.alloc(0);
  #checksum = 0;
  #isChecked = true;
  #collected: Buffer[] | undefined;
  /** Blocks the thread once when so many bytes of the stream have come. */
  #stall: { readonly afterBytes: number; readonly durationMs: number } | undefined;
  #streamBytes = 0;

  #pushCount = 0;
  #lastNonce = '';

  private constructor(session: ClientHttp2Session, mode: XdsMode, expected: ExpectedPush) {
    this.#session = session;
    this.#mode = mode;
    this.#expected = expected;
    this.#stream = session.request({
      ':method': 'POST',
      ':path': adsPath(mode),
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    this.#stream.on('data', this.#reader());
    this.#stream.on('error', (error) => this.#end(`failed: ${error.message}`));
    // An answer that is only a status comes as the first headers, any other end as trailers.
    const onStatus = (headers: IncomingHttpHeaders): void => {
      const { 'grpc-status': status, 'grpc-message': message = '' } = headers;
      if (status !== undefined) this.#end(`ended with gRPC status ${String(status)}: ${String(message)}`);
    };
    this.#stream.on('response', onStatus);
    this.#stream.on('trailers', onStatus);
    this.#stream.on('close', () => this.#end('was closed'));
    session.on('error', (error) => this.#end(`lost its connection: ${error.message}`));
  }

  /** Connects and opens the stream. The first request is sent by `start`. */
  static async open(target: ClientTarget, mode: XdsMode, expected: ExpectedPush): Promise<AdsClient> {
    const session = connectHttp2('http://xds-grpc', {
      createConnection: () => {
        switch (target.kind) {
          case 'socket':
            return connectNet({ path: target.path });
          case 'server':
            return connectNet({ port: target.port, host: '127.0.0.1', noDelay: true });
          case 'tls-server':
            return connectTls({
              port: target.port,
              host: '127.0.0.1',
              ca: target.authority,
              servername: target.serverName,
              ALPNProtocols: ['h2'],
            }).setNoDelay(true);
          default:
            return target satisfies never;
        }
      },
      settings: { initialWindowSize: streamWindowBytes, enablePush: false },
      maxSessionMemory: 1024,
    });
    const connected = Promise.withResolvers<void>();
    session.once('connect', () => connected.resolve());
    session.once('error', connected.reject);
    await connected.promise;
    session.setLocalWindowSize(connectionWindowBytes);
    return new AdsClient(session, mode, expected);
  }

  /** Subscribes to clusters and takes the first push, which it checks and does not acknowledge yet. */
  async start(): Promise<void> {
    await this.#receive(1, () => this.#subscribe());
  }

  /**
   * `count` times: acknowledges the push it holds and takes the next. Returns the times from each ACK to the last
   * byte of the next push, in ms. The last push is held again.
   */
  exchange(count: number, isChecked: boolean): Promise<Float64Array> {
    const latenciesMs = new Float64Array(count);
    this.#isChecked = isChecked;
    return this.#until((finish) => {
      let done = 0;
      let sentAtMs = performance.now();
      this.#onMessage = () => {
        latenciesMs[done] = performance.now() - sentAtMs;
        this.#checkPush();
        done += 1;
        if (done === count) {
          finish(latenciesMs);
          return;
        }
        sentAtMs = performance.now();
        this.#acknowledge();
      };
      this.#acknowledge();
    });
  }

  /**
   * Subscribes, then takes `count` pushes that come without an ACK. The whole process stands still for `durationMs`
   * in the middle of the first of them, as a busy Envoy does: nothing is read from the socket.
   */
  async takeWithStall(count: number, durationMs: number): Promise<void> {
    this.#stall = { afterBytes: Math.floor(this.#expected.sizeBytes / 2), durationMs };
    await this.#receive(count, () => this.#subscribe());
  }

  /** Acknowledges the push it holds so many times, never waiting for more than room to write. */
  async storm(count: number): Promise<void> {
    for (let sent = 0; sent < count; sent += 1) {
      this.#acknowledge();
      if (this.#stream.writableNeedDrain) await once(this.#stream, 'drain');
      if (this.#failure !== undefined) throw this.#failure;
    }
  }

  /** Subscribes to extension configs. */
  subscribeExtensions(names: readonly string[]): void {
    this.#send(encodeSubscribe(this.#mode, { typeUrl: typeUrls.ecds, names }));
  }

  /**
   * Takes and acknowledges extension responses, each when its last byte has come, until `take` returns true for one.
   * Returns the monotonic time of that one's last byte. `take` is called when there are as many resources as names: a
   * slow one spoils nothing, also where each resource comes alone.
   */
  takeExtensions(names: readonly string[], take: (response: Buffer) => boolean): Promise<bigint> {
    return this.#until((finish) => {
      this.#collected = [];
      let untaken: Buffer[] = [];
      let resourceCount = 0;
      this.#onMessage = () => {
        const receivedAtNs = process.hrtime.bigint();
        const message = Buffer.concat(this.#collected ?? []);
        const typeUrl = wireText(message, responseFields.typeUrl);
        if (typeUrl !== typeUrls.ecds)
          throw new Error(`A response of type ${typeUrl} came, not an extension config.`);
        const nonce = wireText(message, responseFields.nonce);
        this.#send(encodeAck(this.#mode, { typeUrl, names, nonce }));
        untaken.push(message);
        resourceCount += wireFields(message, responseFields.resources).length;
        if (resourceCount < names.length) return;
        const areAllTaken = untaken.map(take).some(Boolean);
        untaken = [];
        if (!areAllTaken) return;
        this.#collected = undefined;
        finish(receivedAtNs);
      };
    });
  }

  /** Ends the connection. */
  async close(): Promise<void> {
    this.#failure ??= new Error('The client was closed.');
    if (this.#session.destroyed) return;
    const closed = Promise.withResolvers<void>();
    this.#session.once('close', () => closed.resolve());
    this.#session.destroy();
    await closed.promise;
  }

  async #receive(count: number, begin: () => void): Promise<void> {
    this.#isChecked = true;
    await this.#until<void>((finish) => {
      let done = 0;
      this.#onMessage = () => {
        this.#checkPush();
        done += 1;
        if (done === count) finish();
      };
      begin();
    });
  }

  /** Runs one step: it ends by `finish`, or when a check or the stream fails. */
  #until<Result>(step: (finish: (result: Result) => void) => void): Promise<Result> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    this.#fail = reject;
    step((result) => {
      this.#onMessage = () => this.#end('sent a message that nobody asked for');
      resolve(result);
    });
    return promise;
  }

  #end(what: string): void {
    this.#failure ??= new Error(`The ADS stream ${what}.`);
    this.#fail(this.#failure);
  }

  #reader(): (chunk: Buffer) => void {
    const splitter = new FrameSplitter({
      maxMessageBytes,
      sink: {
        onMessageStart: (lengthBytes) => {
          this.#messageBytes = lengthBytes;
          this.#seenBytes = 0;
          this.#checksum = 0;
          this.#tail = Buffer.alloc(0);
          if (this.#collected !== undefined) this.#collected = [];
        },
        onMessageData: (part) => this.#onPart(part),
        onMessageEnd: () => this.#onMessage(),
      },
    });
    return (chunk) => {
      try {
        const fault = splitter.push(chunk);
        if (fault !== undefined) this.#end(`cannot be split into messages: ${fault.code}`);
      } catch (error) {
        this.#end(`carried a wrong message: ${error instanceof Error ? error.message : String(error)}`);
      }
    };
  }

  #onPart(part: Buffer): void {
    if (this.#collected !== undefined) {
      this.#collected.push(part);
      return;
    }
    const nonceStart = this.#messageBytes - nonceBytes - this.#seenBytes;
    if (this.#isChecked && nonceStart > 0) {
      this.#checksum = crc32(nonceStart < part.length ? part.subarray(0, nonceStart) : part, this.#checksum);
    }
    if (nonceStart < part.length) {
      this.#tail = Buffer.concat([this.#tail, part.subarray(Math.max(0, nonceStart))]);
    }
    this.#seenBytes += part.length;
    this.#streamBytes += part.length;
    if (this.#stall !== undefined && this.#streamBytes >= this.#stall.afterBytes) {
      const { durationMs } = this.#stall;
      this.#stall = undefined;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, durationMs);
    }
  }

  #checkPush(): void {
    const { sizeBytes, checksum } = this.#expected;
    if (this.#messageBytes !== sizeBytes) {
      throw new Error(`A push has ${this.#messageBytes} bytes, not ${sizeBytes}.`);
    }
    this.#pushCount += 1;
    this.#lastNonce = this.#tail.toString('latin1');
    const wanted = formatNonce(this.#pushCount);
    if (this.#lastNonce !== wanted) {
      throw new Error(
        `Push ${this.#pushCount} has the nonce ${JSON.stringify(this.#lastNonce)}, not ${wanted}.`,
      );
    }
    if (this.#isChecked && this.#checksum !== checksum) {
      throw new Error(`The bytes of push ${this.#pushCount} are not those that were sent (CRC-32 differs).`);
    }
  }

  #subscribe(): void {
    this.#send(encodeSubscribe(this.#mode, { typeUrl: typeUrls.cds, names: [], nodeId }));
  }

  #acknowledge(): void {
    this.#send(encodeAck(this.#mode, { typeUrl: typeUrls.cds, names: [], nonce: this.#lastNonce }));
  }

  /** Requests are far smaller than any window; only `storm` has more than one under way. */
  #send(message: Buffer): void {
    for (const part of encodeFrame(message)) this.#stream.write(part);
  }
}
