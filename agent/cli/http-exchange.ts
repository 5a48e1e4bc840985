import { request as httpRequest, type IncomingMessage } from 'node:http';

/**
 * Sends one request on a new connection and resolves with the response, whose body is not read yet. Rejects when the
 * connection fails or `signal` aborts; aborting also ends a body that is being read.
 */
export async function sendRequest(options: {
  readonly url: URL;
  readonly method: string;
  readonly body?: string;
  readonly signal: AbortSignal;
}): Promise<IncomingMessage> {
  const { url, method, body, signal } = options;
  // https is rare here, so its part is loaded only when asked for.
  const send = url.protocol === 'https:' ? (await import('node:https')).request : httpRequest;
  return new Promise((resolve, reject) => {
    const outgoing = send(url, { method, agent: false, signal }, resolve);
    outgoing.on('error', reject);
    outgoing.end(body === undefined || body === '' ? undefined : body);
  });
}
