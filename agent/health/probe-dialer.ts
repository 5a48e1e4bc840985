import { lookup } from 'node:dns/promises';
import { BlockList, connect, isIP, type Socket } from 'node:net';
import { unlessAborted } from '../clock.ts';
import { formatHostPort } from '../config/host-port.ts';
import { describeError } from '../log.ts';
import { ProbeError } from './probe-error.ts';

/** Where a probe goes. */
export interface ProbeDestination {
  /** A name or an address without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * The traffic rules of the pod let connections from these addresses pass without capture (istio/istio
 * `tools/istio-iptables`, `pilot/cmd/pilot-agent/status/server.go`). The first is there on every Linux; the second is
 * put on the loopback interface together with the rules.
 */
const sourceAddresses = { ipv4: '127.0.0.6', ipv6: '::6' } as const;

/** A name with more addresses than a probe has time for. */
const maxAddressCount = 8;

/**
 * Opens the connections of probes. The stock agent also sets SO_LINGER to 1 s, which shortens TIME_WAIT; Node has no
 * such option, so a closed connection stays in that state for the usual time. A reset instead would be seen as a
 * failure by the application.
 */
export class ProbeDialer {
  readonly #own = new BlockList();

  /** `ownAddresses`: all addresses of this pod or machine. */
  constructor(options: { readonly ownAddresses: readonly string[] }) {
    this.#own.addSubnet('127.0.0.0', 8, 'ipv4');
    this.#own.addAddress('::1', 'ipv6');
    for (const address of options.ownAddresses) {
      const [plain = ''] = address.split('%');
      if (isIP(plain) !== 0) this.#own.addAddress(plain, familyOf(plain));
    }
  }

  /** What a connection to `address` is bound to; undefined for an address of another machine. */
  sourceFor(address: string): string | undefined {
    const [plain = ''] = address.split('%');
    if (isIP(plain) === 0) return undefined;
    const family = familyOf(plain);
    return this.#own.check(plain, family) ? sourceAddresses[family] : undefined;
  }

  /**
   * A connected socket, the caller's to close. The addresses of a name are tried in order. Throws ProbeError
   * `connect`, or the reason of the signal.
   */
  async dial(destination: ProbeDestination, options: { readonly signal: AbortSignal }): Promise<Socket> {
    const { signal } = options;
    const what = formatHostPort(destination);
    const addresses = await resolveHost(destination.host, what, signal);
    const failures: string[] = [];
    for (const address of addresses) {
      const source = this.sourceFor(address);
      try {
        return await openSocket(address, destination.port, source, signal);
      } catch (error) {
        signal.throwIfAborted();
        failures.push(describeDialFailure(error, source));
      }
    }
    throw new ProbeError('connect', `cannot connect to ${what}: ${[...new Set(failures)].join('; ')}`);
  }
}

/** A host as a setting gives it, without brackets; an empty one is the local host. */
export function plainHost(host: string): string {
  if (host === '') return 'localhost';
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 4 ? 'ipv4' : 'ipv6';
}

async function resolveHost(host: string, what: string, signal: AbortSignal): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    const found = await unlessAborted(lookup(host, { all: true, order: 'ipv4first' }), { signal });
    return found.slice(0, maxAddressCount).map(({ address }) => address);
  } catch (error) {
    signal.throwIfAborted();
    throw new ProbeError('connect', `cannot connect to ${what}: ${describeError(error)}`, { cause: error });
  }
}

function describeDialFailure(error: unknown, source: string | undefined): string {
  const isSourceMissing = error instanceof Error && 'code' in error && error.code === 'EADDRNOTAVAIL';
  if (!isSourceMissing || source === undefined) return describeError(error);
  return `${describeError(error)} (probes come from ${source}, which the set-up of the traffic rules puts on the loopback interface)`;
}

async function openSocket(
  host: string,
  port: number,
  source: string | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  signal.throwIfAborted();
  const socket = connect({
    host,
    port,
    noDelay: true,
    ...(source === undefined ? {} : { localAddress: source }),
  });
  const opened = Promise.withResolvers<void>();
  const onConnect = (): void => opened.resolve();
  const onClose = (): void => opened.reject(new Error('the connection was closed'));
  const onAbort = (): void => void socket.destroy();
  socket.once('connect', onConnect);
  socket.once('close', onClose);
  // Stays: a late error without a listener ends the process. The close event that follows is what counts.
  socket.on('error', (error) => opened.reject(error));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await opened.promise;
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    socket.off('connect', onConnect);
    socket.off('close', onClose);
    signal.removeEventListener('abort', onAbort);
  }
}
