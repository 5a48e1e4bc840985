import type { ProxyRole, ScrapeTarget, StatusConfig } from './agent-config.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import type { EnvironmentValues } from './environment.ts';
import { parseGoInteger } from './go-values.ts';
import { isRecord, parseRecord } from './message-schema.ts';

/** Ports that belong to the agent or Envoy and so hold no application metrics. */
const reservedPorts: ReadonlyMap<number, string> = new Map([
  [15_000, 'Envoy admin'],
  [15_001, 'outbound traffic capture'],
  [15_004, 'pilot debug'],
  [15_006, 'inbound traffic capture'],
  [15_008, 'HBONE tunnel'],
  [15_020, 'pilot-agent status / merged Prometheus'],
  [15_021, 'Envoy health'],
  [15_053, 'DNS proxy'],
  [15_090, 'Envoy Prometheus (already merged)'],
]);

/** The status server's settings (istio/istio `pilot/cmd/pilot-agent/status/server.go`). */
export function readStatusConfig(
  values: EnvironmentValues,
  statusPort: number,
  given: { readonly role: ProxyRole; readonly isProfilingOn: boolean },
  report: ConfigReport,
): StatusConfig {
  const annotations = values.ISTIO_PROMETHEUS_ANNOTATIONS;
  return {
    port: statusPort,
    envoyPrometheusPort: values.ENVOY_PROMETHEUS_PORT,
    isEnvoyStatsMerged: values.PILOT_AGENT_MERGE_ENVOY_STATS,
    isMetricsLocalOnly: values.METRICS_LOCALHOST_ACCESS_ONLY,
    isProfilingOn: given.isProfilingOn,
    applicationTargets:
      given.role === 'sidecar' && annotations !== undefined
        ? readScrapeTargets(annotations, statusPort, report)
        : [],
  };
}

const name = 'ISTIO_PROMETHEUS_ANNOTATIONS';
const remedy = 'correct the prometheus.io or prometheus.istio.io annotations of the pod';

/**
 * Which application endpoints are scraped. `targets` win over the single `port` and `path`; a path without a slash
 * gets one.
 */
export function readScrapeTargets(
  text: string,
  statusPort: number,
  report: ConfigReport,
): readonly ScrapeTarget[] {
  const parsed = parseRecord(text);
  if (parsed === undefined) {
    report.error(name, `failed to unmarshal ${name}: ${quoteValue(text)} is not a JSON object`, remedy);
    return [];
  }
  const { scrape, port, path, targets } = parsed;
  if (scrape === 'false') return [];
  const isList = Array.isArray(targets) && targets.length > 0;
  const given = isList ? (targets as readonly unknown[]) : [{ port: port || '80', path }];
  return given.flatMap((item) => readTarget(item, isList, statusPort, report) ?? []);
}

function readTarget(
  item: unknown,
  isListed: boolean,
  statusPort: number,
  report: ConfigReport,
): ScrapeTarget | undefined {
  const refuse = (problem: string): undefined => {
    report.error(name, `invalid prometheus scrape configuration: ${problem}`, remedy);
    return undefined;
  };
  const { port: portText, path = '' } = isRecord(item) ? item : {};
  const port = typeof portText === 'string' ? parseGoInteger(portText) : undefined;
  if (port === undefined || port < 1 || port > 65_535)
    return refuse(`invalid target port ${quoteValue(portText ?? '')}`);
  if (port === statusPort) {
    return refuse(
      isListed
        ? `target port ${port} is the same as agent port, which may lead to a recursive loop`
        : 'application port is the same as agent port, which may lead to a recursive loop',
    );
  }
  const reason = reservedPorts.get(port);
  if (reason !== undefined)
    return refuse(`target port ${port} is reserved for Istio (${reason}) and cannot be scraped`);
  if (typeof path !== 'string') return refuse(`the path of target port ${port} is not a text`);
  if (path === '') return { port, path: '/metrics' };
  return { port, path: path.startsWith('/') ? path : `/${path}` };
}
