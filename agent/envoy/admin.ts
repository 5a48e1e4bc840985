import { Agent, type IncomingMessage, request } from 'node:http';
import { timeoutSignal } from '../clock.ts';
import { CodedError } from '../coded-error.ts';
import { describeError } from '../log.ts';

export type AdminErrorCode =
  /** Nothing listens, or the connection broke. */
  | 'network'
  | 'timeout'
  | 'aborted'
  /** Another status than 200. */
  | 'status'
  /** The body is over the cap. */
  | 'too_large';

/** Envoy's admin interface did not answer as asked. The message names method, URL and what was seen. */
export class AdminError extends CodedError<AdminErrorCode> {
  override readonly name = 'AdminError';
}

export interface AdminRequestOptions {
  /** For the whole exchange, body included. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** What the agent needs of Envoy's admin interface. Both resolve with the body of a 200; throw AdminError. */
export interface AdminClient {
  get(pathAndQuery: string, options: AdminRequestOptions): Promise<string>;
  post(pathAndQuery: string, options: AdminRequestOptions): Promise<string>;
}

/** A config dump of a large mesh is tens of MB; more than this is no answer worth keeping. */
const maxBodyBytes = 256 * 1024 * 1024;

/** Admin client over a new connection for each request: they are rare, and Envoy may be gone at any time. */
export class HttpAdminClient implements AdminClient {
  readonly #host: string;
  readonly #port: number;
  readonly #maxBodyBytes: number;
  readonly #agent = new Agent({ keepAlive: false });

  constructor(address: { readonly host: string; readonly port: number; readonly maxBodyBytes?: number }) {
    this.#host = address.host;
    this.#port = address.port;
    this.#maxBodyBytes = address.maxBodyBytes ?? maxBodyBytes;
  }

  get(pathAndQuery: string, options: AdminRequestOptions): Promise<string> {
    return this.#exchange('GET', pathAndQuery, options);
  }

  post(pathAndQuery: string, options: AdminRequestOptions): Promise<string> {
    return this.#exchange('POST', pathAndQuery, options);
  }

  async #exchange(
    method: 'GET' | 'POST',
    path: string,
    { timeoutMs, signal }: AdminRequestOptions,
  ): Promise<string> {
    const host = this.#host.includes(':') ? `[${this.#host}]` : this.#host;
    const what = `${method} http://${host}:${this.#port}${path}`;
    const deadline = timeoutSignal(timeoutMs);
    const either = signal === undefined ? deadline : AbortSignal.any([deadline, signal]);
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const outgoing = request(
          { host: this.#host, port: this.#port, path, method, agent: this.#agent, signal: either },
          resolve,
        );
        outgoing.on('error', reject);
        outgoing.end();
      });
      const body = await this.#readBody(response, what);
      if (response.statusCode === 200) return body;
      throw new AdminError('status', `${what}: status ${response.statusCode}, expected 200`);
    } catch (error) {
      if (error instanceof AdminError) throw error;
      if (signal?.aborted) throw new AdminError('aborted', `${what}: aborted`, { cause: error });
      if (deadline.aborted) {
        throw new AdminError('timeout', `${what}: no full answer within ${timeoutMs} ms`, { cause: error });
      }
      throw new AdminError('network', `${what}: ${describeError(error)}`, { cause: error });
    }
  }

  async #readBody(response: IncomingMessage, what: string): Promise<string> {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > this.#maxBodyBytes) {
        response.destroy();
        throw new AdminError('too_large', `${what}: the answer is over ${this.#maxBodyBytes} bytes`);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString();
  }
}
