import { join, resolve } from 'node:path';
import type { EnvoyConfig, ProxyRole } from './agent-config.ts';
import type { AgentInputs } from './agent-inputs.ts';
import type { BootstrapConfig } from './bootstrap-config.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import type { EnvironmentValues } from './environment.ts';
import { envoyCommandLine, readOverride } from './envoy-command-line.ts';
import { parseGoDuration } from './go-values.ts';
import type { InstanceAddresses } from './instance-addresses.ts';
import type { ProxyConfig } from './proxy-config.ts';
import { envoyUserId } from './xds-config.ts';

export interface EnvoyConfigInput {
  readonly inputs: AgentInputs;
  readonly values: EnvironmentValues;
  readonly proxyConfig: ProxyConfig;
  readonly addresses: InstanceAddresses;
  readonly role: ProxyRole;
  readonly bootstrap: BootstrapConfig;
  readonly isEnvoyOtherUser: boolean;
}

/** Cipher suites a FIPS policy leaves to the gRPC library inside Envoy. */
const fipsCipherSuites =
  'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384';

/** How Envoy is started and drained (istio/istio `pkg/envoy`). */
export function readEnvoyConfig(input: EnvoyConfigInput, report: ConfigReport): EnvoyConfig {
  const { inputs, values, proxyConfig, bootstrap } = input;
  const fileName = values.WORKLOAD_IDENTITY_SOCKET_FILE;
  if (fileName === '' || fileName === '.' || fileName === '..' || fileName.includes('/')) {
    const problem = `workload identity socket file override must be a filename, not a path: ${quoteValue(fileName)}`;
    report.error('WORKLOAD_IDENTITY_SOCKET_FILE', problem, 'set a bare file name');
  }
  validatePorts(values, report);
  const customConfigPath = proxyConfig.customConfigFile || undefined;
  const writtenPath = join(proxyConfig.configPath, 'envoy-rev.json');
  const overrideFile = inputs.files.bootstrapOverride;
  if (
    overrideFile.kind === 'unreadable' ||
    (overrideFile.kind === 'absent' && values.ISTIO_BOOTSTRAP_OVERRIDE)
  ) {
    const reason = overrideFile.kind === 'unreadable' ? overrideFile.reason : 'there is no such file';
    report.warn(
      `ISTIO_BOOTSTRAP_OVERRIDE: ${values.ISTIO_BOOTSTRAP_OVERRIDE}: ${reason}; Envoy starts without it`,
    );
  }
  const override =
    overrideFile.kind === 'text'
      ? readOverride(
          overrideFile.text,
          values.ISTIO_BOOTSTRAP_OVERRIDE,
          values.HOST_IP,
          inputs.documents,
          report,
        )
      : undefined;
  const isFips = values.COMPLIANCE_POLICY === 'fips-140-2' || values.COMPLIANCE_POLICY === 'fips-140-3';
  const ports = [
    values.ENVOY_STATUS_PORT,
    values.ENVOY_PROMETHEUS_PORT,
    values.ENVOY_SECURE_METRICS_PORT,
    values.ENVOY_SECURE_MERGED_METRICS_PORT,
  ];
  return {
    isEnabled: !values.DISABLE_ENVOY,
    binaryPath: proxyConfig.binaryPath,
    adminPort: proxyConfig.proxyAdminPort,
    localHost: bootstrap.addresses.localHost,
    customConfigPath,
    bootstrapPath: resolve(inputs.root, writtenPath),
    bootstrap,
    arguments: envoyCommandLine(
      {
        configPath: customConfigPath ?? writtenPath,
        values,
        proxyConfig,
        family: input.addresses.family,
        logLevel: inputs.flags.proxyLogLevel,
        componentLogLevel: inputs.flags.proxyComponentLogLevel,
        override,
        concurrency: proxyConfig.concurrency ?? 0,
      },
      report,
    ),
    extraEnvironment: isFips ? { GRPC_SSL_CIPHER_SUITES: fipsCipherSuites } : {},
    workingFolder: inputs.root,
    runAs: input.isEnvoyOtherUser ? { userId: envoyUserId, groupId: envoyUserId } : undefined,
    terminationDrainMs: parseGoDuration(proxyConfig.terminationDrainDuration) ?? 5000,
    minimumDrainMs: Math.max(0, values.MINIMUM_DRAIN_DURATION),
    exitOnZeroActiveConnections: values.EXIT_ON_ZERO_ACTIVE_CONNECTIONS,
    isInboundDrainOnly: input.role === 'sidecar',
    ownListenerPorts: ports.filter((port) => port !== 0),
    grpcBootstrap: readGrpcBootstrap(input),
  };
}

function readGrpcBootstrap({ inputs, values, proxyConfig }: EnvoyConfigInput): EnvoyConfig['grpcBootstrap'] {
  if (values.GRPC_XDS_BOOTSTRAP === '') return undefined;
  return {
    path: resolve(inputs.root, values.GRPC_XDS_BOOTSTRAP),
    socketPath: resolve(inputs.root, proxyConfig.configPath, 'XDS'),
    certificateFolder: values.OUTPUT_CERTS === '' ? undefined : resolve(inputs.root, values.OUTPUT_CERTS),
  };
}

function validatePorts(values: EnvironmentValues, report: ConfigReport): void {
  for (const name of ['ENVOY_STATUS_PORT', 'ENVOY_PROMETHEUS_PORT'] as const) {
    if (values[name] < 1 || values[name] > 65_535)
      report.error(name, `is ${values[name]}`, 'set a port from 1 to 65535');
  }
  for (const name of ['ENVOY_SECURE_METRICS_PORT', 'ENVOY_SECURE_MERGED_METRICS_PORT'] as const) {
    if (values[name] < 0 || values[name] > 65_535) {
      report.error(name, `is ${values[name]}`, 'set a port from 1 to 65535, or 0 for no listener');
    }
  }
}
