import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect as connectTls, type PeerCertificate } from 'node:tls';
import type { XdsConfig, XdsTlsConfig } from '../config/agent-config.ts';
import { type HostPort, parseHostPort } from '../config/host-port.ts';
import { describeError, type Logger } from '../log.ts';
import { DialError } from './dial-error.ts';
import { tlsLimits } from './tls-limits.ts';
import { readClientCertificate, readRoots } from './tls-material.ts';

function parseDiscoveryAddress(address: string): HostPort {
  const target = parseHostPort(address);
  if (target !== undefined && target.host !== '') return target;
  throw new DialError(
    'bad_address',
    `discovery address "${address}" is not host:port: set discoveryAddress in the proxy config`,
  );
}

/**
 * Connects to istiod: look-up, TCP and, with `config.tls`, a verified TLS session that speaks h2. The socket is the
 * caller's; errors of it are heard. Throws DialError; rejects with the signal's reason when aborted.
 */
export async function dial(
  config: Pick<XdsConfig, 'discoveryAddress' | 'tls' | 'keepaliveIntervalMs'>,
  log: Logger,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<Socket> {
  const { timeoutMs, signal } = options;
  const target = parseDiscoveryAddress(config.discoveryAddress);
  const open =
    config.tls === undefined ? () => connectTcp(target) : await prepareTls(target, config.tls, log);
  signal.throwIfAborted();
  const socket = open();
  // Backs up the HTTP/2 PINGs, which end when istiod has announced its going away.
  socket.setKeepAlive(true, config.keepaliveIntervalMs);
  socket.setNoDelay(true);
  await connected(socket, {
    readyEvent: config.tls === undefined ? 'connect' : 'secureConnect',
    address: config.discoveryAddress,
    timeoutMs,
    signal,
  });
  if (config.tls !== undefined && 'alpnProtocol' in socket && socket.alpnProtocol !== 'h2') {
    socket.destroy();
    throw new DialError(
      'tls',
      `istiod at ${config.discoveryAddress} did not agree to HTTP/2 (ALPN h2): is the address that of istiod's gRPC port?`,
    );
  }
  return socket;
}

async function prepareTls(target: HostPort, tls: XdsTlsConfig, log: Logger): Promise<() => Socket> {
  const [roots, client] = await Promise.all([
    readRoots(tls.root),
    readClientCertificate(tls.clientCertificate, log),
  ]);
  return () =>
    connectTls({
      ...target,
      // SNI must not be an address (RFC 6066); the certificate is checked against it all the same.
      servername: isIP(tls.serverName) === 0 ? tls.serverName : '',
      checkServerIdentity: (_host, certificate) => verifyServerName(tls.serverName, certificate),
      rejectUnauthorized: true,
      ...tlsLimits(tls.compliance),
      ALPNProtocols: ['h2'],
      ca: [...roots],
      // A mesh root may itself be an intermediate of a company's PKI: what the file holds is trusted, as in Go.
      allowPartialTrustChain: true,
      ...(client === undefined ? {} : { key: client.key, cert: client.certificate }),
    });
}

/** Subject alternative names only: the common name is not looked at, as in Go. */
function verifyServerName(serverName: string, certificate: PeerCertificate): Error | undefined {
  if (certificate.subjectaltname === undefined) {
    return new Error(`istiod's certificate has no subject alternative name, expected ${serverName}`);
  }
  return checkServerIdentity(serverName, certificate);
}

/** Settles on the first of: ready, error, closed, deadline, abort. Destroys the socket in all cases but the first. */
async function connected(
  socket: Socket,
  options: {
    readonly readyEvent: 'connect' | 'secureConnect';
    readonly address: string;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { readyEvent, address, timeoutMs, signal } = options;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let isTcpConnected = false;
  const onConnect = (): void => {
    isTcpConnected = true;
  };
  const onError = (error: Error): void => {
    reject(isTcpConnected ? tlsError(address, error) : tcpError(address, error));
  };
  const onClose = (): void => onError(new Error('connection closed during the handshake'));
  const onAbort = (): void => reject(signal.reason);
  const timer = setTimeout(() => reject(timeoutError(address, isTcpConnected, timeoutMs)), timeoutMs);
  socket.once('connect', onConnect).once(readyEvent, resolve).on('error', onError).once('close', onClose);
  signal.addEventListener('abort', onAbort);
  try {
    // The error listener stays: a socket reports errors also when nobody waits for them.
    await promise;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    socket.off('close', onClose);
    signal.removeEventListener('abort', onAbort);
  }
}

function tcpError(address: string, cause: Error): DialError {
  return new DialError(
    'connect',
    `failed to connect to istiod at ${address}: ${describeError(cause)}; check discoveryAddress and that istiod is running`,
    { cause },
  );
}

function tlsError(address: string, cause: Error): DialError {
  return new DialError(
    'tls',
    `TLS handshake with istiod at ${address} failed: ${describeError(cause)}; check the root certificate (XDS_ROOT_CA) and the expected name (ISTIOD_SAN)`,
    { cause },
  );
}

function timeoutError(address: string, isTcpConnected: boolean, timeoutMs: number): DialError {
  const seen = isTcpConnected ? 'TCP is connected, but the handshake got no answer' : 'no answer to TCP';
  return new DialError(
    'timeout',
    `failed to connect to istiod at ${address} within ${timeoutMs} ms: ${seen}`,
  );
}
