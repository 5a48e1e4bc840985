import { resolve } from 'node:path';
import type { AgentConfig, ProxyRole } from './agent-config.ts';
import type { AgentInputs, FileContent } from './agent-inputs.ts';
import { expandHostIp, readBootstrapConfig } from './bootstrap-settings.ts';
import { readCompliancePolicy } from './compliance-policy.ts';
import { type ConfigError, ConfigReport, quoteValue } from './config-report.ts';
import { readDnsConfig } from './dns-config.ts';
import { parseDownwardFile } from './downward-api.ts';
import { type EnvironmentValues, readEnvironment } from './environment.ts';
import { readEnvoyConfig } from './envoy-config.ts';
import { parseGoInteger } from './go-values.ts';
import { formatHostPort, type HostPort, parseHostPort } from './host-port.ts';
import { readIdentityConfig } from './identity-settings.ts';
import { findInstanceAddresses } from './instance-addresses.ts';
import { ipFamily } from './ip-family.ts';
import { readLogConfig } from './log-config.ts';
import { buildNodeMetadata } from './node-metadata.ts';
import { readAppProbeConfig, readWorkloadHealthConfig } from './probe-config.ts';
import { type ProxyConfig, writeProxyConfig } from './proxy-config.ts';
import { mergeLayers, readProxyConfig } from './proxy-config-layers.ts';
import { nameServiceCluster } from './service-cluster.ts';
import { readStatusConfig } from './status-config.ts';
import { readWasmConfig } from './wasm-config.ts';
import { readXdsConfig } from './xds-config.ts';

/** Exactly one of the two: a configuration, or everything that is wrong. */
export type ParsedAgentConfig =
  | { readonly ok: AgentConfig; readonly errors?: never }
  | { readonly ok?: never; readonly errors: readonly ConfigError[] };

/** The stock image's template, whose document the agent builds itself. */
const defaultTemplatePath = 'var/lib/istio/envoy/envoy_bootstrap_tmpl.json';

/** Turns all inputs into the agent's configuration. Pure; reports every error at once. */
export function parseAgentConfig(inputs: AgentInputs): ParsedAgentConfig {
  const report = new ConfigReport();
  const role = readRole(inputs.type, report);
  const log = readLogConfig(inputs.logFlags, report);
  const values = readEnvironment(inputs.environment, report);
  const podLabels = readDownward(inputs.files.podLabels, 'pod labels file', report);
  const annotations = readDownward(inputs.files.podAnnotations, 'pod annotations file', report);
  const numbers = readNumberFlags(inputs, report);
  const givenProxyConfig = readProxyConfig(inputs, values, annotations ?? {}, numbers.concurrency, report);
  const statsd = resolveStatsd(givenProxyConfig, values.HOST_IP, inputs, report);
  const proxyConfig = withStatsd(givenProxyConfig, statsd);

  const addresses = findInstanceAddresses({
    instanceIp: values.INSTANCE_IP,
    interfaces: inputs.interfaces,
    excludedInterfaces: (annotations?.['traffic.sidecar.istio.io/excludeInterfaces'] ?? '').split(','),
  });
  const domain = inputs.flags.domain || `${values.POD_NAMESPACE}.svc.cluster.local`;
  const name = `${values.POD_NAME}.${values.POD_NAMESPACE}`;
  const nodeId = [role, addresses.all[0] ?? '', name, domain].join('~');
  const metadata = buildNodeMetadata(
    {
      environment: inputs.environment,
      values,
      proxyConfig,
      instanceIps: addresses.all,
      podLabels,
      podAnnotations: annotations,
      pilotSan: proxyConfig.controlPlaneAuthPolicy === 'MUTUAL_TLS' ? pilotSan(proxyConfig) : undefined,
      outlierLogPath: inputs.flags.outlierLogPath,
      stsPort: numbers.stsPort,
    },
    report,
  );
  const bootstrap = readBootstrapConfig(
    {
      values,
      proxyConfig,
      nodeId,
      nodeCluster: nameServiceCluster(proxyConfig, {
        labels: metadata.labels,
        workloadName: metadata.workloadName,
        namespace: metadata.namespace,
      }),
      metadata,
      addresses,
      annotations: annotations ?? {},
      logFormat: log.format,
      isWaypoint: role === 'waypoint',
      outlierLogPath: inputs.flags.outlierLogPath,
      statsd,
    },
    report,
  );
  const isEnvoyOtherUser = inputs.userId === 0 && (values.DNS_PROXY_ADDR ?? '').endsWith(':53');
  const envoy = readEnvoyConfig(
    { inputs, values, proxyConfig, addresses, role, bootstrap, isEnvoyOtherUser },
    report,
  );
  const compliance = readCompliancePolicy(values.COMPLIANCE_POLICY, report);
  const { areWorkloadCertificatesPresent, isLegacyRootPresent } = inputs.files;
  const { environment, root } = inputs;
  const xds = readXdsConfig(
    {
      values,
      environment,
      proxyConfig,
      root,
      isLegacyRootPresent,
      areWorkloadCertificatesPresent,
      isEnvoyOtherUser,
      compliance,
    },
    report,
  );
  const identity = readIdentityConfig(
    { values, environment, proxyConfig, root, areWorkloadCertificatesPresent, compliance },
    report,
  );
  const wasm = readWasmConfig(values, inputs.environment, inputs.root, report);
  const isProfilingOn = inputs.flags.profiling === 'true';
  const status = readStatusConfig(values, proxyConfig.statusPort, { role, isProfilingOn }, report);
  const dns = readDnsConfig(values, { role, isRoot: inputs.userId === 0 }, report);
  const appProbes = readAppProbeConfig(values, report);
  const workloadHealth = readWorkloadHealthConfig(values, proxyConfig, report);
  warnAboutIgnored(inputs, values, proxyConfig, report);
  if (report.errors.length > 0) return { errors: report.errors };
  return {
    ok: {
      role,
      nodeId,
      instanceIps: addresses.all,
      domain,
      effectiveProxyConfig: writeProxyConfig(proxyConfig),
      log,
      xds,
      identity,
      compliance,
      wasm,
      status,
      envoy,
      dns,
      appProbes,
      workloadHealth,
      isTrustBundleSubscribed: values.PROXY_CONFIG_XDS_AGENT,
      warnings: report.warnings,
    },
  };
}

/**
 * The host of the statsd address when it is a name: Envoy needs an address, so the caller resolves it before parsing
 * (`AgentInputs.resolvedHosts`).
 */
export function findStatsdHost(inputs: AgentInputs): string | undefined {
  const report = new ConfigReport();
  const values = readEnvironment(inputs.environment, report);
  const annotations = readDownward(inputs.files.podAnnotations, 'pod annotations file', report);
  const address = mergeLayers(inputs, values, annotations ?? {}, report).statsdUdpAddress;
  const parsed = address ? expandHostIp(address, values.HOST_IP) : undefined;
  return parsed === undefined || ipFamily(parsed.host) !== 0 ? undefined : parsed.host;
}

function readRole(type: string | undefined, report: ConfigReport): ProxyRole {
  switch (type) {
    case undefined:
    case 'sidecar':
    case 'router':
    case 'waypoint':
      return type ?? 'sidecar';
    case 'ztunnel':
    case 'agentgateway':
      report.error(
        'proxy type',
        `${type} runs without Envoy and is not served by this agent`,
        'use its own image',
      );
      return 'sidecar';
    default:
      report.error('proxy type', `invalid proxy Type: ${type}`, 'use sidecar, router or waypoint');
      return 'sidecar';
  }
}

function readDownward(
  file: FileContent,
  name: string,
  report: ConfigReport,
): Readonly<Record<string, string>> | undefined {
  switch (file.kind) {
    case 'absent':
      return undefined;
    case 'unreadable':
      report.warn(`${name}: ${file.reason}; ignored`);
      return undefined;
    case 'text': {
      const parsed = parseDownwardFile(file.text);
      if (parsed.kind === 'parsed') return parsed.values;
      report.warn(`${name}: ${parsed.reason}; ignored`);
      return undefined;
    }
    default:
      return file satisfies never;
  }
}

function readNumberFlags(
  { flags }: AgentInputs,
  report: ConfigReport,
): { readonly concurrency: number; readonly stsPort: number } {
  const read = (name: 'concurrency' | 'stsPort'): number => {
    const value = parseGoInteger(flags[name]);
    if (value === undefined)
      report.error(`--${name}`, `${quoteValue(flags[name])} is not an integer`, 'set a number');
    return value ?? 0;
  };
  return { concurrency: read('concurrency'), stsPort: read('stsPort') };
}

/** The name istiod is expected to have, for node metadata. */
function pilotSan({ discoveryAddress }: ProxyConfig): string {
  const host = parseHostPort(discoveryAddress)?.host ?? discoveryAddress;
  return host === 'localhost' ? 'istiod.istio-system.svc' : host;
}

/** Where statistics go to; without an address that can be used there is no sink, as in the stock agent. */
function resolveStatsd(
  { statsdUdpAddress }: ProxyConfig,
  hostIp: string,
  inputs: AgentInputs,
  report: ConfigReport,
): HostPort | undefined {
  if (!statsdUdpAddress) return undefined;
  const name = 'ProxyConfig.statsdUdpAddress';
  const parsed = expandHostIp(statsdUdpAddress, hostIp);
  if (parsed === undefined) {
    report.warn(`${name}: ${quoteValue(statsdUdpAddress)} is not host:port; no statsd sink`);
    return undefined;
  }
  if (ipFamily(parsed.host) !== 0) return parsed;
  const address = inputs.resolvedHosts.get(parsed.host);
  if (address !== undefined) return { ...parsed, host: address };
  report.warn(`${name}: host ${quoteValue(parsed.host)} could not be resolved; no statsd sink`);
  return undefined;
}

/** ProxyConfig as istiod is told it: with the address that was found for statsd, or without any. */
function withStatsd(config: ProxyConfig, statsd: HostPort | undefined): ProxyConfig {
  const { statsdUdpAddress: _, ...others } = config;
  return statsd === undefined ? others : { ...others, statsdUdpAddress: formatHostPort(statsd) };
}

/** Settings that are accepted but change nothing here, so that nobody waits for an effect. */
function warnAboutIgnored(
  inputs: AgentInputs,
  values: EnvironmentValues,
  proxyConfig: ProxyConfig,
  report: ConfigReport,
): void {
  const template = values.ISTIO_BOOTSTRAP || (proxyConfig.proxyBootstrapTemplatePath ?? '');
  const stockTemplates = [inputs.root, '/'].map((folder) => resolve(folder, defaultTemplatePath));
  if (
    template !== '' &&
    !proxyConfig.customConfigFile &&
    !stockTemplates.includes(resolve(inputs.root, template))
  ) {
    report.warn(
      `bootstrap template ${quoteValue(template)} is not read; put the differences into a file for ` +
        'ISTIO_BOOTSTRAP_OVERRIDE, or set customConfigFile in ProxyConfig',
    );
  }
  if (inputs.flags.tokenManagerPlugin !== '') report.warn('--tokenManagerPlugin has no effect any more');
  if (values.FERRY_IGNORED_VARIABLES !== '') {
    report.warn(
      `ignored: ${values.FERRY_IGNORED_VARIABLES.split(' ').join(', ')}; variables for Node.js applications do not change the ` +
        'agent (only NODE_EXTRA_CA_CERTS counts): keep them out of the proxy container',
    );
  }
  for (const name of ['XDS_AUTH_PROVIDER', 'CLOUD_PLATFORM'] as const) {
    if (values[name] !== '' && values[name] !== 'none') report.warn(`${name} has no effect in this agent`);
  }
}
