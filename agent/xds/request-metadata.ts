import { readFile } from 'node:fs/promises';
import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { OutgoingHttpHeaders } from 'node:http2';
import type { XdsConfig } from '../config/agent-config.ts';
import { reservedNames } from '../config/reserved-headers.ts';
import { describeError, type Logger } from '../log.ts';
import type { StreamKind } from './interceptor.ts';

const servicePath = '/envoy.service.discovery.v3.AggregatedDiscoveryService';

/** HTTP/2 paths of the two ADS methods. */
export const methodPaths: Readonly<Record<StreamKind, string>> = {
  sotw: `${servicePath}/StreamAggregatedResources`,
  delta: `${servicePath}/DeltaAggregatedResources`,
};

/** True for the addresses that never leave the machine. */
export function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
}

/**
 * The bearer token, read anew for every stream so that a rotated one counts; undefined with a warning when there is
 * none: a client certificate or a later token may do for istiod (`pkg/istio-agent/xds_proxy.go`).
 */
export async function readToken(path: string, log: Logger): Promise<string | undefined> {
  let token: string;
  try {
    token = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    log.warn('failed to read the token for istiod: connecting without one', {
      path,
      reason: describeError(error),
    });
    return undefined;
  }
  if (token === '') {
    log.warn('the token file for istiod is empty: connecting without a token', { path });
    return undefined;
  }
  if (isHeader('authorization', `Bearer ${token}`)) return token;
  log.warn('the token file for istiod holds bytes that no header can carry: connecting without a token', {
    path,
  });
  return undefined;
}

/**
 * All request headers of one upstream stream. `remoteAddress` is the address that was really dialled: a token goes
 * out in clear text only to this machine.
 */
export function buildRequestHeaders(
  config: XdsConfig,
  stream: {
    readonly kind: StreamKind;
    readonly token: string | undefined;
    readonly remoteAddress: string | undefined;
  },
  log: Logger,
): OutgoingHttpHeaders {
  const isTokenSafe = config.tls !== undefined || isLoopback(stream.remoteAddress);
  if (stream.token !== undefined && !isTokenSafe) {
    log.warn('the token is not sent to istiod over plaintext: use TLS, or an istiod on this machine', {
      path: config.tokenPath,
    });
  }
  return {
    ':method': 'POST',
    ':scheme': config.tls === undefined ? 'http' : 'https',
    ':authority': config.tls === undefined ? config.discoveryAddress : config.tls.serverName,
    ':path': methodPaths[stream.kind],
    te: 'trailers',
    'content-type': 'application/grpc',
    'user-agent': 'ferry-agent',
    clusterid: config.clusterId,
    ...configuredHeaders(config.headers, log),
    ...(stream.token !== undefined && isTokenSafe ? { authorization: `Bearer ${stream.token}` } : {}),
  };
}

function configuredHeaders(headers: XdsConfig['headers'], log: Logger): Record<string, string> {
  const accepted = Object.entries(headers).filter(([name, value]) => {
    const isUsable = !reservedNames.has(name) && !name.startsWith('grpc-') && isHeader(name, value);
    if (!isUsable) {
      log.warn('a header from XDS_HEADER_* is not sent: its name is reserved or it is no valid header', {
        name,
      });
    }
    return isUsable;
  });
  return Object.fromEntries(accepted.map(([name, value]) => [name, headerValue(name, value)]));
}

/** gRPC metadata whose name ends in `-bin` travels as unpadded base64. */
function headerValue(name: string, value: string): string {
  return name.endsWith('-bin') ? Buffer.from(value, 'utf8').toString('base64').replaceAll('=', '') : value;
}

function isHeader(name: string, value: string): boolean {
  try {
    validateHeaderName(name);
    validateHeaderValue(name, headerValue(name, value));
    return true;
  } catch {
    return false;
  }
}
