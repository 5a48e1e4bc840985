/**
 * What the agent does for its pod beside Envoy and extension configs: it answers DNS queries and the kubelet's probes,
 * and tells istiod about the workload. A part that is not configured is not even loaded.
 */
import { DnsMetrics } from '../metrics/dns-metrics.ts';
import type { MetricRegistry } from '../metrics/registry.ts';
import type { AgentConfig, AppProbeConfig, WorkloadHealthConfig } from './config/agent-config.ts';
import type { DnsConfig } from './config/dns-config.ts';
import type { DnsProxy } from './dns/dns-proxy.ts';
import { HttpAdminClient } from './envoy/admin.ts';
import { EnvoyReadiness } from './envoy/readiness.ts';
import type { WorkloadHealthChecker } from './health/workload-health.ts';
import type { LogRoot } from './log.ts';
import type { AppProbeRoutes } from './status/app-probe-routes.ts';
import type { ReadinessCheck } from './status/readiness.ts';
import type { Route } from './status/route.ts';
import { unknownProbeRoutes } from './status/unknown-app-probe.ts';
import type { InterceptorFactory } from './xds/interceptor.ts';
import type { HealthReport } from './xds/side-subscription-health.ts';

export interface SidePartsOptions {
  readonly config: AgentConfig;
  readonly registry: MetricRegistry;
  readonly logRoot: LogRoot;
}

/** Whoever gets what istiod sends. */
export interface SideReceivers {
  /** Takes over the roots of the mesh, each in PEM; without any there are none beside those of the CA. */
  readonly applyTrustBundle: (certificates: readonly string[]) => void;
}

/** The parts that are configured. */
interface Opened {
  readonly dns: DnsProxy | undefined;
  readonly appProbes: AppProbeRoutes | undefined;
  readonly health: HealthPart | undefined;
}

/** The checks of a workload and the way their result takes to istiod. */
interface HealthPart {
  readonly config: WorkloadHealthConfig;
  readonly Checker: typeof WorkloadHealthChecker;
  readonly report: HealthReport;
}

/**
 * Opens the DNS proxy, which is bound before all else, and loads the other parts. Throws DnsError: without its DNS
 * the pod would find nothing. Nothing is left open then.
 */
export async function openSideParts(options: SidePartsOptions): Promise<SideParts> {
  const { config } = options;
  const dns = config.dns === undefined ? undefined : await openDns(config.dns, options);
  try {
    const opened = {
      dns,
      appProbes: config.appProbes === undefined ? undefined : await loadAppProbes(config.appProbes, options),
      health:
        config.workloadHealth === undefined ? undefined : await loadHealth(config.workloadHealth, options),
    };
    return new SideParts(opened, options, await loadSubscriptions(opened, options));
  } catch (error) {
    await dns?.close();
    throw error;
  }
}

/** Made by `openSideParts`. Its close ends everything, DNS last. */
export class SideParts implements AsyncDisposable {
  /** The rewritten probes and hooks, to be put beside the agent's own endpoints. */
  readonly routes: readonly Route[];
  /** To be asked after all others, as the stock agent does. */
  readonly readinessChecks: readonly ReadinessCheck[];
  readonly #opened: Opened;
  readonly #options: SidePartsOptions;
  readonly #subscribe: (receivers: SideReceivers) => readonly InterceptorFactory[];
  #checker: WorkloadHealthChecker | undefined;

  constructor(
    opened: Opened,
    options: SidePartsOptions,
    subscribe: (receivers: SideReceivers) => readonly InterceptorFactory[],
  ) {
    this.#opened = opened;
    this.#options = options;
    this.#subscribe = subscribe;
    this.routes = opened.appProbes?.routes ?? unknownProbeRoutes(options.logRoot.scope('probes'));
    this.readinessChecks = opened.dns === undefined ? [] : [opened.dns.readinessCheck];
  }

  /** The agent's own subscriptions, in the order in which the stock agent asks. */
  interceptors(receivers: SideReceivers): readonly InterceptorFactory[] {
    return this.#subscribe(receivers);
  }

  /** What `/debug/ndsz` shows; undefined while there is no table. */
  nameTable(): unknown {
    return this.#opened.dns?.nameTable();
  }

  /** Starts to probe the workload, when told to. For the time when Envoy can reach the relay. */
  startHealthChecks(): void {
    const { health } = this.#opened;
    if (health === undefined) return;
    const { config, logRoot } = this.#options;
    // Has its own: the one of `/healthz/ready` fails on purpose while the agent ends.
    const envoy = config.envoy.isEnabled
      ? new EnvoyReadiness({
          admin: new HttpAdminClient({ host: config.envoy.localHost, port: config.envoy.adminPort }),
        })
      : undefined;
    this.#checker = new health.Checker({
      ...health.config,
      instanceIps: config.instanceIps,
      checkEnvoy: envoy === undefined ? undefined : () => envoy.check(),
      onChange: (state) => health.report.report(state),
      log: logRoot.scope('healthcheck'),
    });
  }

  async close(): Promise<void> {
    await this.#checker?.close();
    await this.#opened.appProbes?.close();
    await this.#opened.dns?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function openDns(dns: DnsConfig, { config, registry, logRoot }: SidePartsOptions): Promise<DnsProxy> {
  const { openDnsProxy } = await import('./dns/dns-part.ts');
  return openDnsProxy({
    config: dns,
    proxyDomain: config.domain,
    instanceIps: config.instanceIps,
    metrics: new DnsMetrics(registry),
    log: logRoot.scope('dns'),
  });
}

async function loadAppProbes(
  appProbes: AppProbeConfig,
  { config, logRoot }: SidePartsOptions,
): Promise<AppProbeRoutes> {
  const { AppProbeRoutes } = await import('./status/app-probe-routes.ts');
  return new AppProbeRoutes({
    ...appProbes,
    instanceIps: config.instanceIps,
    statusPort: config.status.port,
    log: logRoot.scope('probes'),
  });
}

async function loadHealth(config: WorkloadHealthConfig, { logRoot }: SidePartsOptions): Promise<HealthPart> {
  const [{ WorkloadHealthChecker }, { HealthReport }] = await Promise.all([
    import('./health/workload-health.ts'),
    import('./xds/side-subscription-health.ts'),
  ]);
  return {
    config,
    Checker: WorkloadHealthChecker,
    report: new HealthReport({ log: logRoot.scope('xdsproxy') }),
  };
}

async function loadSubscriptions(
  { dns, health }: Opened,
  { config, logRoot }: SidePartsOptions,
): Promise<(receivers: SideReceivers) => readonly InterceptorFactory[]> {
  const reports = health === undefined ? [] : [health.report];
  const { isTrustBundleSubscribed } = config;
  if (dns === undefined && !isTrustBundleSubscribed) return () => reports;
  const log = logRoot.scope('xdsproxy');
  const [{ sideSubscription }, { nameTableTypeUrl }, { decodeTrustBundle, proxyConfigTypeUrl }] =
    await Promise.all([
      import('./xds/side-subscription.ts'),
      import('./dns/name-table-message.ts'),
      import('./xds/side-subscription-trust-bundle.ts'),
    ]);
  return ({ applyTrustBundle }) => [
    ...(dns === undefined
      ? []
      : [sideSubscription({ typeUrl: nameTableTypeUrl, apply: (bytes) => dns.update(bytes), log })]),
    ...(isTrustBundleSubscribed
      ? [
          sideSubscription({
            typeUrl: proxyConfigTypeUrl,
            apply: (bytes) => applyTrustBundle(decodeTrustBundle(bytes)),
            log,
          }),
        ]
      : []),
    ...reports,
  ];
}
