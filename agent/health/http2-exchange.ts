import {
  type ClientHttp2Session,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import type { Socket } from 'node:net';
import { type HttpExchangeOutcome, type HttpExchangeRequest, readBodyStart } from './http-exchange.ts';

/** An HTTP/2 session over a socket that is connected; it owns the socket from here on. */
export function openSession(socket: Socket): ClientHttp2Session {
  // The address is not used: the socket is there, and every request names its authority.
  const session = connect('https://probe', {
    createConnection: () => socket,
    settings: { enablePush: false },
  });
  // The requests on it fail too, and are looked at.
  session.on('error', ignore);
  return session;
}

/** Closes a session and its socket; resolves when both are gone. */
export async function closeSession(session: ClientHttp2Session, socket: Socket): Promise<void> {
  const closed = Promise.withResolvers<void>();
  if (socket.closed) closed.resolve();
  else socket.once('close', () => closed.resolve());
  // Not at once: Node throws from a session that is destroyed in the tick that made it.
  setImmediate(() => {
    session.destroy();
    setImmediate(() => socket.destroy());
  });
  await closed.promise;
}

/**
 * One GET over HTTP/2. Throws what broke the stream, or the signal's reason. `isKept`: the session has served an
 * earlier probe, so that a failure before the answer is `stale`.
 */
export async function getHttp2(
  session: ClientHttp2Session,
  { url, hostHeader, headers, maxBodyBytes }: HttpExchangeRequest,
  options: { readonly isKept: boolean; readonly signal: AbortSignal },
): Promise<HttpExchangeOutcome> {
  const { signal, isKept } = options;
  signal.throwIfAborted();
  if (session.closed || session.destroyed) return 'stale';
  const stream = session.request({
    ':method': 'GET',
    ':scheme': 'https',
    ':authority': hostHeader,
    ':path': url.target,
    ...asHttp2Headers(headers),
  });
  const onAbort = (): void => stream.close(constants.NGHTTP2_CANCEL);
  signal.addEventListener('abort', onAbort, { once: true });
  let isAnswered = false;
  try {
    const answer = await new Promise<IncomingHttpHeaders & IncomingHttpStatusHeader>((resolve, reject) => {
      stream.once('response', resolve);
      stream.on('error', reject);
      stream.once('close', () =>
        reject(new Error(`the stream ended with code ${stream.rstCode} before the answer`)),
      );
      stream.end();
    });
    isAnswered = true;
    const body = await readBodyStart(stream, maxBodyBytes);
    signal.throwIfAborted();
    return { status: answer[':status'] ?? 0, location: answer.location, body };
  } catch (error) {
    signal.throwIfAborted();
    if (isKept && !isAnswered) return 'stale';
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    stream.close(constants.NGHTTP2_CANCEL);
  }
}

/** Lower-case names; values of one name together (RFC 9113 8.2). */
function asHttp2Headers(headers: HttpExchangeRequest['headers']): OutgoingHttpHeaders {
  const byName = Map.groupBy(headers, ([name]) => name.toLowerCase());
  return Object.fromEntries(
    [...byName].map(([name, pairs]) => {
      const values = pairs.map(([, value]) => value);
      return [name, values.length === 1 ? values[0] : values];
    }),
  );
}

function ignore(): void {
  // See openSession.
}
