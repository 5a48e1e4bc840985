import type { AgentInputs } from './agent-inputs.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import type { EnvironmentValues } from './environment.ts';
import { parseGoInteger } from './go-values.ts';
import { parseHostPort } from './host-port.ts';
import { mergeProxyConfig, type ProxyConfig } from './proxy-config.ts';
import { validateProxyConfig } from './proxy-config-validation.ts';

/** ProxyConfig from the mesh config file, `PROXY_CONFIG` and the annotation, not yet checked. */
export function mergeLayers(
  inputs: AgentInputs,
  values: EnvironmentValues,
  annotations: Readonly<Record<string, string>>,
  report: ConfigReport,
): ProxyConfig {
  const { meshConfig } = inputs.files;
  const path = inputs.flags.meshConfig;
  if (meshConfig.kind === 'unreadable') {
    report.error(
      `mesh config file ${path}`,
      meshConfig.reason,
      'make it readable, or name another with --meshConfig',
    );
  }
  return mergeProxyConfig(
    {
      meshConfig: meshConfig.kind === 'text' ? { path, text: meshConfig.text } : undefined,
      environment: values.PROXY_CONFIG || undefined,
      annotation: annotations['proxy.istio.io/config'] || undefined,
    },
    inputs.documents,
    report,
  );
}

/** The merged ProxyConfig after concurrency, service cluster, validation and the annotations that come last. */
export function readProxyConfig(
  inputs: AgentInputs,
  values: EnvironmentValues,
  annotations: Readonly<Record<string, string>>,
  concurrencyFlag: number,
  report: ConfigReport,
): ProxyConfig {
  const merged = mergeLayers(inputs, values, annotations, report);
  const limit = values.ISTIO_CPU_LIMIT;
  const concurrency = concurrencyFlag === 0 ? (merged.concurrency ?? (limit || undefined)) : concurrencyFlag;
  if (concurrencyFlag !== 0) {
    report.warn(`legacy --concurrency=${concurrencyFlag} flag detected; prefer to use ProxyConfig`);
  }
  if (!concurrency && limit < inputs.cpuCount) {
    report.warn(
      'concurrency is set to 0, which will use a thread per CPU on the host. However, CPU limit is set lower. ' +
        'This is not recommended and may lead to performance issues. ' +
        `CPU count: ${inputs.cpuCount}, CPU Limit: ${limit}.`,
    );
  }
  const template = merged.customConfigFile ? '' : inputs.flags.templateFile;
  const config: ProxyConfig = {
    ...merged,
    ...(template === '' ? {} : { proxyBootstrapTemplatePath: template }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(merged.serviceCluster === '' ? { serviceCluster: inputs.flags.serviceCluster } : {}),
  };
  validateProxyConfig(config, report);
  return applyAnnotations(config, annotations, report);
}

function applyAnnotations(
  config: ProxyConfig,
  annotations: Readonly<Record<string, string>>,
  report: ConfigReport,
): ProxyConfig {
  const discoveryAddress = annotations['sidecar.istio.io/discoveryAddress'] ?? config.discoveryAddress;
  if (discoveryAddress !== config.discoveryAddress && parseHostPort(discoveryAddress) === undefined) {
    const name = 'annotation sidecar.istio.io/discoveryAddress';
    report.error(name, `${quoteValue(discoveryAddress)} is not host:port`, 'set host:port');
  }
  const portName = 'status.sidecar.istio.io/port';
  const portText = annotations[portName];
  if (portText === undefined) return { ...config, discoveryAddress };
  const port = parseGoInteger(portText);
  if (port === undefined) {
    report.warn(`annotation ${portName}: ${quoteValue(portText)} is not a number; there is no status server`);
  } else if (port < 0 || port > 65_535) {
    report.error(`annotation ${portName}`, `is ${port}`, 'set a port, or 0 for no status server');
  }
  return { ...config, discoveryAddress, statusPort: port ?? 0 };
}
