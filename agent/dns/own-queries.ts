import type { DnsProtocol } from './dns-answer.ts';

/**
 * The queries that are on their way upstream, by the local port they were sent from. Where the traffic rules do not
 * exempt the agent, its own queries are redirected to it: they come in byte for byte, from the port they left by.
 */
export class OwnQueries {
  readonly #byPort = new Map<string, Buffer>();

  /** Until disposed, `message` is known to have been sent from `localPort`. */
  note(protocol: DnsProtocol, localPort: number, message: Buffer): Disposable {
    const key = `${protocol}:${localPort}`;
    this.#byPort.set(key, message);
    return {
      [Symbol.dispose]: () => {
        if (this.#byPort.get(key) === message) this.#byPort.delete(key);
      },
    };
  }

  /** True for a query of our own that has come back. */
  has(protocol: DnsProtocol, remotePort: number, message: Buffer): boolean {
    return this.#byPort.get(`${protocol}:${remotePort}`)?.equals(message) ?? false;
  }
}
