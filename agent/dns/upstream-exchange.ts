import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, isIPv6, type Socket } from 'node:net';
import { systemClock } from '../clock.ts';
import { type DnsQuery, isAnswerTo } from './dns-query.ts';
import type { DnsEndpoint } from './dns-settings.ts';
import { frameMessage, MessageFrames } from './message-frames.ts';
import type { OwnQueries } from './own-queries.ts';

export interface ExchangeOptions {
  readonly upstream: DnsEndpoint;
  /** For the connection and for the answer, each. */
  readonly timeoutMs: number;
  readonly ownQueries: OwnQueries;
  readonly signal: AbortSignal;
}

/**
 * Sends a query as it is in one datagram, from a port of its own, and takes the first answer to it from the asked
 * address. Throws Error with what was seen, or the signal's reason.
 */
export async function exchangeOverUdp(query: DnsQuery, options: ExchangeOptions): Promise<Buffer> {
  const { upstream, timeoutMs, ownQueries, signal } = options;
  signal.throwIfAborted();
  const socket = createSocket(isIPv6(upstream.address.split('%')[0] ?? '') ? 'udp6' : 'udp4');
  const answer = Promise.withResolvers<Buffer>();
  const onAbort = (): void => answer.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  using _timer = systemClock.schedule(timeoutMs, () => answer.reject(noAnswer(timeoutMs)));
  let note: Disposable | undefined;
  socket.on('error', (error) => answer.reject(error));
  socket.on('message', (message) => {
    // Others may come from the same address: late ones, or forged ones.
    if (isAnswerTo(query, message)) answer.resolve(message);
  });
  // The event, no callback: that one would be called for a failure too (no route to the address).
  socket.once('connect', () => {
    note = ownQueries.note('udp', socket.address().port, query.message);
    socket.send(query.message, (error) => {
      if (error !== null) answer.reject(error);
    });
  });
  // Connected: the kernel drops what comes from elsewhere, and tells when nobody listens there.
  socket.connect(upstream.port, upstream.address);
  try {
    return await answer.promise;
  } finally {
    signal.removeEventListener('abort', onAbort);
    await closeUdp(socket);
    note?.[Symbol.dispose]();
  }
}

/** The same over a TCP connection of its own. */
export async function exchangeOverTcp(query: DnsQuery, options: ExchangeOptions): Promise<Buffer> {
  const { upstream, timeoutMs, ownQueries, signal } = options;
  signal.throwIfAborted();
  const socket = connect({ host: upstream.address, port: upstream.port, noDelay: true });
  const answer = Promise.withResolvers<Buffer>();
  const frames = new MessageFrames();
  const onAbort = (): void => answer.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  let timer = systemClock.schedule(timeoutMs, () =>
    answer.reject(new Error(`no connection within ${timeoutMs} ms`)),
  );
  let note: Disposable | undefined;
  socket.on('error', (error) => answer.reject(error));
  socket.once('close', () => answer.reject(new Error('the connection ended before the answer')));
  socket.once('connect', () => {
    timer[Symbol.dispose]();
    timer = systemClock.schedule(timeoutMs, () => answer.reject(noAnswer(timeoutMs)));
    note = ownQueries.note('tcp', socket.localPort ?? 0, query.message);
    socket.write(frameMessage(query.message));
  });
  socket.on('data', (chunk: Buffer) => {
    for (const message of frames.push(chunk)) {
      if (isAnswerTo(query, message)) answer.resolve(message);
      else answer.reject(new Error('the upstream answered something else'));
    }
  });
  try {
    return await answer.promise;
  } finally {
    timer[Symbol.dispose]();
    signal.removeEventListener('abort', onAbort);
    await closeTcp(socket);
    note?.[Symbol.dispose]();
  }
}

function noAnswer(timeoutMs: number): Error {
  return new Error(`no answer within ${timeoutMs} ms`);
}

async function closeUdp(socket: UdpSocket): Promise<void> {
  await new Promise<void>((resolve) => {
    socket.close(() => resolve());
  });
}

async function closeTcp(socket: Socket): Promise<void> {
  const closed = Promise.withResolvers<void>();
  if (socket.closed) return;
  socket.once('close', () => closed.resolve());
  socket.destroy();
  await closed.promise;
}
