import { rmdir, stat, unlink } from 'node:fs/promises';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { describeError, type Logger } from '../log.ts';
import { IdentityError } from './identity-error.ts';

/** How long an external provider has to answer (`pkg/istio-agent/agent.go`, socketHealthCheck). */
const probeTimeoutMs = 1000;

/**
 * True when a gRPC server answers at this Unix socket. What is there and does not answer is removed, since after a
 * restart of the agent in the same pod the sockets of before are still there. A regular file is left alone. Throws
 * IdentityError `socket` when it cannot be removed; rejects with the signal's reason when aborted.
 */
export async function probeSocket(
  path: string,
  options: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<boolean> {
  if (!(await isSpecialFile(path))) return false;
  try {
    await greet(path, options.signal);
    return true;
  } catch (error) {
    options.signal.throwIfAborted();
    options.log.debug('SDS socket detected but not healthy', { path, reason: describeError(error) });
  }
  try {
    await unlink(path).catch(async (error: NodeJS.ErrnoException) => {
      // A folder stands there; an empty one goes, as with Go's `os.Remove`.
      if (error.code !== 'EISDIR' && error.code !== 'EPERM') throw error;
      await rmdir(path);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    const message = `existing SDS socket could not be removed: ${path} does not answer, and ${describeError(error)}; remove it or make its folder writable`;
    throw new IdentityError('socket', message, { cause: error });
  }
  return false;
}

async function isSpecialFile(path: string): Promise<boolean> {
  try {
    return !(await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** Resolves when the server has sent its HTTP/2 settings. */
async function greet(path: string, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket: Socket = connect(path);
  let session: ClientHttp2Session | undefined;
  const timer = setTimeout(
    () => reject(new Error(`no HTTP/2 settings within ${probeTimeoutMs} ms`)),
    probeTimeoutMs,
  );
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  // The listener stays: a socket reports errors also when nobody waits for them.
  socket.on('error', reject);
  socket.once('close', () => reject(new Error('closed before any HTTP/2 settings')));
  socket.once('connect', () => {
    session = connectHttp2('http://localhost', { createConnection: () => socket });
    session.on('error', reject);
    session.once('remoteSettings', () => resolve());
  });
  try {
    signal.throwIfAborted();
    await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    await disconnect(socket, session);
  }
}

async function disconnect(socket: Socket, session: ClientHttp2Session | undefined): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once('close', () => resolve());
  });
  // Not at once: Node throws from a session that is destroyed in the tick that made it.
  setImmediate(() => {
    session?.destroy();
    setImmediate(() => socket.destroy());
  });
  await closed;
}
