import type { ProxyRole } from './agent-config.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import type { EnvironmentValues } from './environment.ts';
import { parseHostPort } from './host-port.ts';

/** Where the DNS proxy is to listen, as far as it is known before resolv.conf is read. */
export interface DnsAddress {
  /** A name, an address, or `localhost` for each family that a nameserver has. */
  readonly host: string;
  readonly port: number;
  /** On port 53 of a machine of its own, names are resolved before the first table has come. */
  readonly isForwardedBeforeTable: boolean;
  /** Candidates for resolv.conf, absolute; the first that exists is read, once. */
  readonly resolvConfPaths: readonly string[];
}

/** What the agent was told about DNS. */
export interface DnsConfig {
  readonly address: DnsAddress;
  readonly forwardTimeoutMs: number;
  /** All nameservers are asked at once, the first answer counts. */
  readonly isForwardedInParallel: boolean;
  readonly proxyNamespace: string;
}

const defaultHost = 'localhost';
const defaultPort = 15_053;
const domainPort = 53;
const defaultTimeoutMs = 5_000;
const usualPath = '/etc/resolv.conf';
/** On virtual machines, where /etc/resolv.conf may name the proxy itself. */
const machinePath = '/var/lib/istio/resolv.conf';

/**
 * Whether there is a DNS proxy, and where (istio/istio `pilot/cmd/pilot-agent/options`, `pkg/istio-agent/agent.go`,
 * `pkg/dns/client/dns.go`). Undefined: none.
 */
export function readDnsConfig(
  values: EnvironmentValues,
  options: { readonly role: ProxyRole; readonly isRoot: boolean },
  report: ConfigReport,
): DnsConfig | undefined {
  const isCaptured = values.ISTIO_META_DNS_CAPTURE && options.role === 'sidecar';
  if (!isCaptured && !values.ISTIO_META_ENABLE_DNS_SERVER) return undefined;
  const timeoutMs = values.DNS_FORWARD_TIMEOUT;
  return {
    address: readAddress(values, options.isRoot, report),
    forwardTimeoutMs: timeoutMs > 0 ? timeoutMs : defaultTimeoutMs,
    isForwardedInParallel: values.DNS_FORWARD_PARALLEL,
    proxyNamespace: values.POD_NAMESPACE,
  };
}

function readAddress(values: EnvironmentValues, isRoot: boolean, report: ConfigReport): DnsAddress {
  const text = values.DNS_PROXY_ADDR ?? '';
  const given = values.DNS_RESOLV_CONF;
  const usual = {
    host: defaultHost,
    port: defaultPort,
    isForwardedBeforeTable: false,
    resolvConfPaths: [given || usualPath],
  };
  if (given !== '' && !given.startsWith('/')) {
    report.error('DNS_RESOLV_CONF', `${quoteValue(given)} is not an absolute path`, 'set a path from /');
  }
  if (text === '') return usual;
  if (text.endsWith(`:${domainPort}`) && !isRoot) {
    report.warn(
      `DNS_PROXY_ADDR ${text}: only root may listen on port ${domainPort}, using ${defaultHost}:${defaultPort}`,
    );
    return usual;
  }
  const parsed = parseHostPort(text);
  if (parsed === undefined) {
    report.error('DNS_PROXY_ADDR', `${quoteValue(text)} is not host:port`, 'set a port from 1 to 65535');
    return usual;
  }
  // Without a host: all addresses of both families, as in Go.
  const { port } = parsed;
  const host = parsed.host === '' ? '::' : parsed.host;
  if (port !== domainPort) return { ...usual, host, port };
  return {
    host,
    port,
    isForwardedBeforeTable: true,
    resolvConfPaths: given === '' ? [machinePath, usualPath] : [given],
  };
}
