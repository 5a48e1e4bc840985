import type { AppProbeConfig, WorkloadHealthConfig } from './agent-config.ts';
import { parseAppProbers } from './app-probe-config.ts';
import type { ConfigError, ConfigReport } from './config-report.ts';
import type { EnvironmentValues } from './environment.ts';
import type { ProxyConfig } from './proxy-config.ts';
import { parseReadinessProbe } from './readiness-probe.ts';

/** The rewritten probes of the pod's containers (istio/istio `pilot/cmd/pilot-agent/status/server.go`). */
export function readAppProbeConfig(
  values: EnvironmentValues,
  report: ConfigReport,
): AppProbeConfig | undefined {
  const { ok: probes, errors } = parseAppProbers(values.ISTIO_KUBE_APP_PROBERS);
  if (errors !== undefined) return reported(errors, report);
  if (probes.size === 0) return undefined;
  return {
    probes,
    destinationHost: values.REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION ? 'localhost' : values.INSTANCE_IP,
    isHttp2Offered: values.ISTIO_ENABLE_HTTP2_PROBING,
    isConnectionKept: values.ENABLE_PROBE_KEEPALIVE_CONNECTIONS,
  };
}

/** `readinessProbe` of ProxyConfig (istio/istio `pkg/istio-agent/health`). */
export function readWorkloadHealthConfig(
  values: EnvironmentValues,
  { readinessProbe }: ProxyConfig,
  report: ConfigReport,
): WorkloadHealthConfig | undefined {
  const { ok: probe, errors } = parseReadinessProbe(readinessProbe);
  if (errors !== undefined) return reported(errors, report);
  if (probe === undefined) return undefined;
  return { probe, isLocalhostProbed: values.REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION };
}

function reported(errors: readonly ConfigError[], report: ConfigReport): undefined {
  report.errors.push(...errors);
  return undefined;
}
