import { connect, createServer, type Server, type Socket } from 'node:net';
import { FrameReader, frameFlags, frameTypes, pingFrame, type ReceivedFrame } from './http2-frames.ts';

/** How a flood ended. */
export type PourOutcome =
  /** The other side took all of it. */
  | 'taken'
  /** It cut the connection. */
  | 'cut'
  /** It took no more, and the connection is open. */
  | 'blocked';

interface Waiter {
  readonly matches: (frame: ReceivedFrame) => boolean;
  readonly resolve: (frame: ReceivedFrame | undefined) => void;
}

/** Only kinds and counts are kept of what comes: a flood that is answered must not fill the test. */
const pourChunkBytes = 64 * 1024;
/** A PING of ours that no flood uses. */
const sentinelMark = 0x7fff_fff1;

/** One end of an HTTP/2 connection made of bare frames. */
export class Http2Abuser {
  readonly socket: Socket;
  /** Resolves when the connection is gone, whoever ended it. */
  readonly closed: Promise<void>;
  /** Frames received so far, by type. */
  readonly receivedCounts = new Map<number, number>();
  readonly #waiters = new Set<Waiter>();
  #isClosed = false;

  constructor(socket: Socket, options: { readonly isServer: boolean; readonly isReading?: boolean }) {
    this.socket = socket;
    const reader = new FrameReader({ hasPreface: options.isServer });
    socket.on('error', () => undefined);
    if (options.isReading !== false) {
      socket.on('data', (chunk: Buffer) => {
        for (const frame of reader.push(chunk)) this.#take(frame);
      });
    }
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true;
        for (const { resolve: settle } of this.#waiters) settle(undefined);
        this.#waiters.clear();
        resolve();
      });
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  send(...frames: readonly Uint8Array[]): void {
    if (!this.#isClosed) this.socket.write(Buffer.concat(frames));
  }

  /** The next frame to come that matches; undefined when the connection ends before it. */
  next(matches: (frame: ReceivedFrame) => boolean): Promise<ReceivedFrame | undefined> {
    if (this.#isClosed) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#waiters.add({ matches, resolve }));
  }

  /** Resolves when a frame of this type has come, also one before the call; false when the connection ends first. */
  async received(type: number): Promise<boolean> {
    return this.receivedCounts.has(type) || (await this.next((frame) => frame.type === type)) !== undefined;
  }

  /** Resolves when all that was sent has been dealt with, or the connection was cut. */
  async settled(): Promise<'alive' | 'cut'> {
    const answer = this.next(
      ({ type, flags, payload }) =>
        type === frameTypes.ping &&
        (flags & frameFlags.ack) !== 0 &&
        payload.length === 8 &&
        payload.readUInt32BE(4) === sentinelMark,
    );
    this.send(pingFrame(sentinelMark));
    return (await answer) === undefined ? 'cut' : 'alive';
  }

  /**
   * Writes all of `parts` as fast as they are taken. `roundTrip` is one exchange of another connection with the same
   * process: when it has answered two hundred of those and taken nothing of ours, it will not.
   */
  async pour(parts: Iterable<Uint8Array>, roundTrip: () => Promise<unknown>): Promise<PourOutcome> {
    let waiting: Uint8Array[] = [];
    let waitingBytes = 0;
    for (const part of parts) {
      waiting.push(part);
      waitingBytes += part.byteLength;
      if (waitingBytes < pourChunkBytes) continue;
      const outcome = await this.#write(Buffer.concat(waiting), roundTrip);
      if (outcome !== 'taken') return outcome;
      waiting = [];
      waitingBytes = 0;
    }
    return await this.#write(Buffer.concat(waiting), roundTrip);
  }

  close(): void {
    this.socket.destroy();
  }

  async #write(bytes: Buffer, roundTrip: () => Promise<unknown>): Promise<PourOutcome> {
    if (this.#isClosed) return 'cut';
    let outcome: PourOutcome | undefined;
    this.socket.write(bytes, (error) => {
      outcome ??= error ? 'cut' : 'taken';
    });
    for (let round = 0; round < 200; round += 1) {
      // A write into an empty socket buffer is done in this turn of the loop.
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#isClosed) return 'cut';
      if (outcome !== undefined) return outcome;
      await roundTrip();
    }
    return outcome ?? 'blocked';
  }

  #take(frame: ReceivedFrame): void {
    this.receivedCounts.set(frame.type, (this.receivedCounts.get(frame.type) ?? 0) + 1);
    for (const waiter of this.#waiters) {
      if (!waiter.matches(frame)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(frame);
    }
  }
}

/** Connects to a Unix socket. */
export async function openAbuser(
  path: string,
  options: { readonly isReading?: boolean } = {},
): Promise<Http2Abuser> {
  const socket = connect(path);
  const abuser = new Http2Abuser(socket, { isServer: false, ...options });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return abuser;
}

/** A server of bare frames on a free port of the loopback address. */
export interface AbusingServer {
  /** `host:port` */
  readonly address: string;
  /** The next connection, as it comes. */
  accept(): Promise<Http2Abuser>;
  close(): Promise<void>;
}

/** Starts a server; each connection is the caller's to answer. */
export async function startAbusingServer(
  serverOf: (onConnection: (socket: Socket) => void) => Server = createServer,
): Promise<AbusingServer> {
  const waiting: Http2Abuser[] = [];
  const takers: ((abuser: Http2Abuser) => void)[] = [];
  const open = new Set<Http2Abuser>();
  const server = serverOf((socket) => {
    const abuser = new Http2Abuser(socket, { isServer: true });
    open.add(abuser);
    void abuser.closed.then(() => open.delete(abuser));
    const taker = takers.shift();
    if (taker === undefined) waiting.push(abuser);
    else taker(abuser);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return {
    address: `127.0.0.1:${address.port}`,
    accept() {
      const next = waiting.shift();
      return next === undefined ? new Promise((resolve) => takers.push(resolve)) : Promise.resolve(next);
    },
    async close() {
      for (const abuser of open) abuser.close();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}
