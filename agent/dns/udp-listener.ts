import { createSocket, type Socket } from 'node:dgram';
import { isIPv4 } from 'node:net';
import { describeError, type Logger } from '../log.ts';
import type { DnsEndpoint } from './dns-settings.ts';

/** Answers one message; undefined: no answer. Never rejects. */
export type MessageHandler = (message: Buffer, remotePort: number) => Promise<Buffer | undefined>;

export interface DnsListenerOptions {
  readonly endpoint: DnsEndpoint;
  readonly handle: MessageHandler;
  readonly log: Logger;
}

/** Answers that a client does not take are dropped beyond this, as a network would. */
const maxQueuedBytes = 4 * 1024 * 1024;

/** DNS over UDP on one address. */
export class UdpListener {
  readonly #options: DnsListenerOptions;
  readonly #socket: Socket;
  #isOpen = false;

  constructor(options: DnsListenerOptions) {
    this.#options = options;
    this.#socket = createSocket(isIPv4(options.endpoint.address) ? 'udp4' : 'udp6');
  }

  /** The port that is open. */
  get port(): number {
    return this.#socket.address().port;
  }

  /** Throws what the system says. */
  async listen(): Promise<void> {
    const { endpoint, log } = this.#options;
    const bound = Promise.withResolvers<void>();
    this.#socket.once('error', bound.reject);
    this.#socket.bind({ address: endpoint.address, port: endpoint.port }, () => bound.resolve());
    try {
      await bound.promise;
    } catch (error) {
      this.#socket.close();
      throw error;
    }
    this.#isOpen = true;
    this.#socket.off('error', bound.reject);
    this.#socket.on('error', (error) =>
      log.warn('DNS listener error', { protocol: 'udp', error: describeError(error) }),
    );
    this.#socket.on('message', (message, peer) => void this.#answer(message, peer));
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await new Promise<void>((resolve) => {
      this.#socket.close(() => resolve());
    });
  }

  async #answer(message: Buffer, peer: { readonly address: string; readonly port: number }): Promise<void> {
    // Who sends from port 0 wants no answer (RFC 768), and Node throws where one is sent there.
    if (peer.port === 0) return;
    const answer = await this.#options.handle(message, peer.port);
    if (answer === undefined || !this.#isOpen) return;
    if (this.#socket.getSendQueueSize() > maxQueuedBytes) return;
    // A client that is gone is no news.
    this.#socket.send(answer, peer.port, peer.address, () => undefined);
  }
}
