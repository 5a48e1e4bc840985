import { type ConfigReport, quoteValue } from './config-report.ts';
import { type Documents, parseDocument } from './document.ts';
import type { EnvironmentValues } from './environment.ts';
import { parseGoDuration } from './go-values.ts';
import type { InstanceAddresses } from './instance-addresses.ts';
import type { ProxyConfig } from './proxy-config.ts';

export interface EnvoyCommandLineInput {
  /** As Envoy finds it from its working folder. */
  readonly configPath: string;
  readonly values: EnvironmentValues;
  readonly proxyConfig: ProxyConfig;
  readonly family: InstanceAddresses['family'];
  /** `--proxyLogLevel`: a level, `component:level` items, or both. */
  readonly logLevel: string;
  /** `--proxyComponentLogLevel`. */
  readonly componentLogLevel: string;
  /** JSON of the bootstrap override; undefined: none. */
  readonly override: string | undefined;
  /** 0: one worker for each CPU of the host. */
  readonly concurrency: number;
}

/** Envoy's arguments in the order of the stock agent (istio/istio `pkg/envoy/proxy.go`). */
export function envoyCommandLine(input: EnvoyCommandLineInput, report: ConfigReport): readonly string[] {
  const { values, proxyConfig } = input;
  const seconds = Math.trunc((parseGoDuration(proxyConfig.drainDuration) ?? 0) / 1000);
  const flushMs = parseGoDuration(proxyConfig.fileFlushInterval ?? '1s') ?? 1000;
  const flushSizeKb = proxyConfig.fileFlushMinSizeKb ?? 0;
  const log = splitLogLevel(input.logLevel, report);
  const components = log.components || input.componentLogLevel;
  return [
    '-c',
    input.configPath,
    '--drain-time-s',
    String(seconds),
    '--drain-strategy',
    'immediate',
    '--local-address-ip-version',
    input.family === 'v6' ? 'v6' : 'v4',
    '--file-flush-interval-msec',
    String(Math.trunc(flushMs)),
    '--disable-hot-restart',
    '--allow-unknown-static-fields',
    ...(flushSizeKb > 0 ? ['--file-flush-min-size-kb', String(flushSizeKb)] : []),
    ...(log.level === '' ? [] : ['-l', log.level]),
    ...(components === '' ? [] : ['--component-log-level', components]),
    ...(values.ENVOY_SKIP_DEPRECATED_LOGS ? ['--skip-deprecated-logs'] : []),
    ...(values.ISTIO_ENVOY_ENABLE_CORE_DUMP ? ['--enable-core-dump'] : []),
    ...(input.override === undefined ? [] : ['--config-yaml', input.override]),
    ...(input.concurrency > 0 ? ['--concurrency', String(input.concurrency)] : []),
  ];
}

/** `info,misc:error` is the level `info` and the component levels `misc:error`. */
function splitLogLevel(
  text: string,
  report: ConfigReport,
): { readonly level: string; readonly components: string } {
  let level = '';
  const components: string[] = [];
  for (const item of text.split(',')) {
    const parts = item.split(':').length;
    if (parts === 1) level = item;
    else if (parts === 2) components.push(item);
    else report.warn(`--proxyLogLevel: ${quoteValue(item)} is not component:level; dropped`);
  }
  return { level, components: components.join(',') };
}

/**
 * The bootstrap override as JSON for `--config-yaml`, with `$(HOST_IP)` replaced; an IPv6 address gets brackets.
 * An unreadable file is a warning, and Envoy starts without it.
 */
export function readOverride(
  text: string,
  path: string,
  hostIp: string,
  documents: Documents,
  report: ConfigReport,
): string | undefined {
  const isV6 = hostIp.includes(':');
  const host = isV6 ? `[${hostIp}]` : hostIp;
  const bracketed = isV6 ? text.replaceAll('[$(HOST_IP)]', () => host) : text;
  const document = parseDocument(
    bracketed.replaceAll('$(HOST_IP)', () => host),
    documents,
  );
  if (document.kind === 'parsed') return JSON.stringify(document.value ?? {});
  report.warn(
    `ISTIO_BOOTSTRAP_OVERRIDE: ${path} is neither YAML nor JSON (${document.reason}); Envoy starts without it`,
  );
  return undefined;
}
