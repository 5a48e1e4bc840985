import { Agent, request } from 'node:https';
import type { TLSSocket } from 'node:tls';

/** Key, certificate and trusted root, PEM. */
export interface MeshClientOptions {
  readonly port: number;
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}

/** As long as requests to the status port may take. */
const timeoutMs = 20_000;

/** A workload that calls the sidecar over mutual TLS, on a new connection or on one that it keeps. */
export class MeshClient {
  /** Of every certificate that a new connection has seen. */
  readonly serials = new Set<string>();
  readonly #port: number;
  readonly #fresh: Agent;
  readonly #kept: Agent;
  #keptConnectionCount = 0;

  constructor({ port, ...trust }: MeshClientOptions) {
    this.#port = port;
    // Chain and dates are checked; a workload has no host name. As an option of a request, Node.js would not keep
    // the connection.
    const options = { ...trust, checkServerIdentity: () => undefined };
    // A resumed session would not show the certificate of now.
    this.#fresh = new Agent({ ...options, keepAlive: false, maxCachedSessions: 0 });
    this.#kept = new Agent({ ...options, keepAlive: true, maxSockets: 1 });
  }

  /** How many connections it took to keep one. */
  get keptConnectionCount(): number {
    return this.#keptConnectionCount;
  }

  /** A request on a connection of its own: the status. Rejects with what was wrong with connection or certificate. */
  async onNewConnection(): Promise<string> {
    return await this.#get(this.#fresh);
  }

  /** A request on the kept connection: the status. */
  async onKeptConnection(): Promise<string> {
    return await this.#get(this.#kept);
  }

  /** Ends the kept connection. */
  close(): void {
    this.#kept.destroy();
  }

  async #get(agent: Agent): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const where = { host: '127.0.0.1', port: this.#port, path: '/' };
    const sent = request({ ...where, agent, signal: AbortSignal.timeout(timeoutMs) });
    sent.once('error', reject);
    sent.once('response', (response) => {
      if (agent === this.#fresh) {
        this.serials.add((response.socket as TLSSocket).getPeerCertificate().serialNumber);
      } else if (!sent.reusedSocket) this.#keptConnectionCount += 1;
      response.once('error', reject);
      response.once('end', () => resolve(String(response.statusCode)));
      response.resume();
    });
    sent.end();
    return await promise;
  }
}
