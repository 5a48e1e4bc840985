import type { HistogramBuckets, StatsConfig } from './bootstrap-config.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import { formatProtoDuration, parseGoDuration } from './go-values.ts';
import { isRecord } from './message-schema.ts';
import type { ProxyConfig } from './proxy-config.ts';

type Annotations = Readonly<Record<string, string>>;

/** Readiness, drain and dashboards need these. */
const requiredPrefixes = ['cluster_manager', 'listener_manager', 'server', 'cluster.xds-grpc', 'wasm'];
const requiredSuffixes = ['rbac.allowed', 'rbac.denied', 'shadow_allowed', 'shadow_denied'];
const requiredRegexes = [String.raw`vhost\..*\.route\..*`];

const defaultFlushMs = 5000;

/** Which stats Envoy keeps and how it names them (istio/istio `pkg/bootstrap/config.go`, getStatsOptions). */
export function readStatsConfig(
  input: {
    readonly proxyConfig: ProxyConfig;
    readonly annotations: Annotations;
    readonly instanceIps: readonly string[];
    readonly exitOnZeroActiveConnections: boolean;
  },
  report: ConfigReport,
): StatsConfig {
  const { annotations, proxyConfig } = input;
  const matcher = proxyConfig.proxyStatsMatcher;
  // The annotation replaces ProxyConfig, they are never merged.
  const inclusion = (name: string, configured: readonly string[] = [], required: readonly string[]) => {
    const annotation = annotations[`sidecar.istio.io/${name}`];
    const chosen = annotation ? annotation.split(',') : configured;
    return expandPodIps([...chosen, ...required], input.instanceIps);
  };
  const tags = [
    ...(proxyConfig.extraStatTags ?? []),
    ...(annotations['sidecar.istio.io/extraStatTags'] ?? '').split(','),
  ];
  return {
    ...readIntervals(annotations, report),
    extraTags: [...new Set(tags.filter((tag) => tag !== ''))],
    histogramBuckets: readBuckets(annotations['sidecar.istio.io/statsHistogramBuckets'], report),
    inclusionPrefixes: inclusion('statsInclusionPrefixes', matcher?.inclusionPrefixes, requiredPrefixes),
    inclusionSuffixes: inclusion('statsInclusionSuffixes', matcher?.inclusionSuffixes, [
      ...requiredSuffixes,
      ...(input.exitOnZeroActiveConnections ? ['downstream_cx_active'] : []),
    ]),
    inclusionRegexes: inclusion('statsInclusionRegexps', matcher?.inclusionRegexps, requiredRegexes),
  };
}

/** `{pod_ip}` in an entry makes one entry for each address. */
function expandPodIps(entries: readonly string[], instanceIps: readonly string[]): readonly string[] {
  return entries.flatMap((entry) =>
    entry.includes('{pod_ip}') ? instanceIps.map((ip) => entry.replaceAll('{pod_ip}', ip)) : [entry],
  );
}

function readIntervals(
  annotations: Annotations,
  report: ConfigReport,
): Pick<StatsConfig, 'flushInterval' | 'evictionInterval'> {
  const read = (name: string): number | undefined => {
    const text = annotations[name];
    const durationMs = text === undefined ? undefined : parseGoDuration(text);
    if (text !== undefined && !(durationMs !== undefined && durationMs > 0)) {
      report.warn(`annotation ${name}: ${quoteValue(text)} is not a duration above zero; ignored`);
      return undefined;
    }
    return durationMs;
  };
  const flushMs = read('sidecar.istio.io/statsFlushInterval');
  const evictionMs = read('sidecar.istio.io/statsEvictionInterval');
  const isMultiple = evictionMs !== undefined && evictionMs % (flushMs ?? defaultFlushMs) === 0;
  if (evictionMs !== undefined && !isMultiple) {
    report.warn(
      'annotation sidecar.istio.io/statsEvictionInterval: is not a multiple of the flush interval ' +
        `(${(flushMs ?? defaultFlushMs) / 1000}s); ignored`,
    );
  }
  return {
    flushInterval: flushMs === undefined ? undefined : formatProtoDuration(flushMs),
    evictionInterval: isMultiple ? formatProtoDuration(evictionMs) : undefined,
  };
}

function readBuckets(text: string | undefined, report: ConfigReport): readonly HistogramBuckets[] {
  if (text === undefined) return [];
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  const entries = isRecord(parsed) ? Object.entries(parsed) : [];
  const isValid = isRecord(parsed) && entries.every(([, value]) => isNumberList(value));
  if (!isValid) {
    report.warn(
      `annotation sidecar.istio.io/statsHistogramBuckets: ${quoteValue(text)} is not an object of number lists; ignored`,
    );
    return [];
  }
  return entries
    .map(([prefix, buckets]) => ({ prefix, buckets: buckets as readonly number[] }))
    .sort((first, second) => (first.prefix < second.prefix ? -1 : 1));
}

function isNumberList(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}
