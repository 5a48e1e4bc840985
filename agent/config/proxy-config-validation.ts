import type { ConfigReport } from './config-report.ts';
import { quoteValue } from './config-report.ts';
import { parseGoDuration } from './go-values.ts';
import { isHost, parseHostPort } from './host-port.ts';
import type { ProxyConfig } from './proxy-config.ts';

/**
 * Reports everything in the merged ProxyConfig that the agent or Envoy cannot work with
 * (istio/istio `pkg/config/validation/agent`, ValidateMeshConfigProxyConfig).
 */
export function validateProxyConfig(config: ProxyConfig, report: ConfigReport): void {
  const field = (name: string): string => `ProxyConfig.${name}`;
  if (config.configPath === '') report.error(field('configPath'), 'is empty', 'set a folder Envoy can read');
  if (config.binaryPath === '') report.error(field('binaryPath'), 'is empty', 'set the path of Envoy');
  if (config.tracingServiceName === undefined && config.serviceCluster === '') {
    report.error(field('serviceCluster'), 'is empty', 'set it, or --serviceCluster, or tracingServiceName');
  }
  validateWholeSeconds(field('drainDuration'), config.drainDuration, report);
  const terminationDrainMs = parseGoDuration(config.terminationDrainDuration) ?? 0;
  if (terminationDrainMs < 0) {
    report.error(field('terminationDrainDuration'), 'is negative', 'set a duration of 0s or more');
  }
  validateAddress(field('discoveryAddress'), config.discoveryAddress, report);
  validatePort(field('proxyAdminPort'), config.proxyAdminPort, report);
  validatePort(field('statusPort'), config.statusPort, report);
  if (config.controlPlaneAuthPolicy === 'INHERIT') {
    report.error(field('controlPlaneAuthPolicy'), 'is INHERIT', 'set NONE or MUTUAL_TLS');
  }
  validateTracing(config, report);
  for (const name of ['envoyMetricsService', 'envoyAccessLogService'] as const) {
    const address = config[name]?.address;
    if (address) validateAddress(field(`${name}.address`), address, report);
  }
  if (config.envoyMetricsServiceAddress) {
    validateAddress(field('envoyMetricsServiceAddress'), config.envoyMetricsServiceAddress, report);
    report.warn('ProxyConfig.envoyMetricsServiceAddress is deprecated; use envoyMetricsService');
  }
  validateKeyProvider(config, report);
  validateConnectionSettings(config, report);
  if (config.proxyMetadata?.['ISTIO_META_DNS_AUTO_ALLOCATE'] !== undefined) {
    report.warn('ProxyConfig.proxyMetadata.ISTIO_META_DNS_AUTO_ALLOCATE is deprecated in Istio');
  }
}

function validateTracing({ tracing }: ProxyConfig, report: ConfigReport): void {
  if (tracing === undefined) return;
  for (const name of ['zipkin', 'datadog'] as const) {
    const tracer = tracing[name];
    if (tracer === undefined) continue;
    validateAddress(`ProxyConfig.tracing.${name}.address`, tracer.address ?? '', report);
  }
  if (tracing.lightstep !== undefined) {
    const remedy = 'use an OpenTelemetry provider with the Telemetry API';
    report.error('ProxyConfig.tracing.lightstep', 'Envoy has no Lightstep tracer any more', remedy);
  }
  if (tracing.stackdriver !== undefined) {
    const remedy = 'use an OpenTelemetry provider with the Telemetry API';
    report.error('ProxyConfig.tracing.stackdriver', 'needs a cloud project, which is not looked up', remedy);
  }
  const tls = tracing.tlsSettings;
  if (tls?.mode === 'MUTUAL' && !tls.credentialName) {
    for (const name of ['clientCertificate', 'privateKey'] as const) {
      if (tls[name]) continue;
      const remedy = 'set its path, or another mode';
      report.error(`ProxyConfig.tracing.tlsSettings.${name}`, 'is empty with mode MUTUAL', remedy);
    }
  }
}

function validateKeyProvider({ privateKeyProvider: provider }: ProxyConfig, report: ConfigReport): void {
  if (provider === undefined) return;
  const name = 'ProxyConfig.privateKeyProvider';
  const chosen = provider.cryptomb ?? provider.qat;
  if (chosen === undefined) report.error(name, 'names no provider', 'set cryptomb or qat, or remove it');
  else if (!parseGoDuration(chosen.pollDelay ?? '0s')) {
    report.error(`${name}: pollDelay`, 'is missing or zero', 'set a duration such as 0.02s');
  }
}

/** Smallest value of each number of `connectionSettings`; durations must not be negative. */
const connectionMinimums: Readonly<Record<string, number>> = {
  listenerPerConnectionBufferLimitBytes: 0,
  clusterPerConnectionBufferLimitBytes: 0,
  httpMaxConcurrentStreams: 1,
  http2InitialStreamWindowSize: 65_535,
  http2InitialConnectionWindowSize: 65_535,
  listenerConnectionLimit: 1,
  globalDownstreamConnectionLimit: 1,
};

function validateConnectionSettings({ connectionSettings }: ProxyConfig, report: ConfigReport): void {
  for (const [name, value] of Object.entries(connectionSettings ?? {})) {
    const field = `ProxyConfig.connectionSettings.${name}`;
    const minimum = connectionMinimums[name];
    if (minimum !== undefined && typeof value === 'number' && value < minimum) {
      report.error(field, `is ${value}`, `set ${minimum} or more`);
    }
    const durationMs = typeof value === 'string' ? parseGoDuration(value) : undefined;
    if (durationMs !== undefined && durationMs < 0) report.error(field, 'is negative', 'set 0s or more');
  }
}

function validateWholeSeconds(name: string, text: string, report: ConfigReport): void {
  const durationMs = parseGoDuration(text) ?? 0;
  if (durationMs < 1 || durationMs % 1000 !== 0) {
    report.error(name, `is ${quoteValue(text)}`, 'set whole seconds, 1s or more');
  }
}

function validatePort(name: string, port: number, report: ConfigReport): void {
  if (port < 1 || port > 65_535) report.error(name, `is ${port}`, 'set a port from 1 to 65535');
}

/** Reports an address that is not `host:port`; `$(HOST_IP)` may stand for the host. */
export function validateAddress(name: string, address: string, report: ConfigReport): void {
  const parsed = parseHostPort(address.replace('$(HOST_IP)', '127.0.0.1'));
  if (parsed !== undefined && isHost(parsed.host)) return;
  const problem = address === '' ? 'is empty' : `is ${quoteValue(address)}`;
  report.error(name, problem, 'set host:port with a DNS name or an IP address, and a port from 1 to 65535');
}
