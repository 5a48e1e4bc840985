import type { HeaderList } from '../health/http-exchange.ts';

/** Fields that belong to one connection (RFC 9110 7.6.1), and those that describe a body that is not passed on. */
const droppedNames: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'expect',
  'content-length',
  // The answer goes back without its headers, so a compressed body could not be read.
  'accept-encoding',
  'host',
]);

/**
 * The headers of the kubelet's request that go on to the application, in order, repeated ones too. `rawHeaders` is
 * Node's list of names and values.
 */
export function forwardedHeaders(rawHeaders: readonly string[]): HeaderList {
  const pairs: (readonly [string, string])[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    pairs.push([rawHeaders[at] ?? '', rawHeaders[at + 1] ?? '']);
  }
  const named = new Set(
    pairs
      .filter(([name]) => name.toLowerCase() === 'connection')
      .flatMap(([, value]) => value.split(',').map((item) => item.trim().toLowerCase())),
  );
  return pairs.filter(([name]) => !droppedNames.has(name.toLowerCase()) && !named.has(name.toLowerCase()));
}

/**
 * The name the application is asked by: the kubelet's own, with the port of the application where it has that of the
 * status server (istio/istio `pilot/cmd/pilot-agent/status/server.go`, handleAppProbeHTTPGet).
 */
export function hostHeaderFor(
  incoming: string | undefined,
  ports: { readonly statusPort: number; readonly appPort: number },
  fallback: string,
): string {
  if (!incoming) return fallback;
  const [, host, port] = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(incoming) ?? [];
  return host !== undefined && Number(port) === ports.statusPort ? `${host}:${ports.appPort}` : incoming;
}
