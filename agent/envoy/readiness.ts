import { describeError } from '../log.ts';
import type { AdminClient } from './admin.ts';
import { parseStats } from './stats-text.ts';

const configStatsPath = String.raw`/stats?usedonly&filter=^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$`;
const liveStatsPath = String.raw`/stats?usedonly&filter=^(server\.state|listener_manager\.workers_started)`;
const configTimeoutMs = 1000;
const liveTimeoutMs = 3000;

/** Envoy's `ServerInfo.State` by number. */
const stateNames = ['LIVE', 'DRAINING', 'PRE_INITIALIZING', 'INITIALIZING'];

/**
 * Whether Envoy has its first configuration and serves. Each of the two holds for good once it was true, as in the
 * stock agent (istio/istio `pilot/cmd/pilot-agent/status/ready/probe.go`): later trouble shows on Envoy's own
 * listener, which is what the kubelet asks.
 */
export class EnvoyReadiness {
  /** What the status server calls this check. */
  readonly name = 'envoy';
  readonly #admin: AdminClient;
  #hasConfig = false;
  #isLive = false;
  #terminationCause: string | undefined;
  #check: Promise<string | undefined> | undefined;

  constructor(options: { readonly admin: AdminClient }) {
    this.#admin = options.admin;
  }

  /** From now on nothing is ready any more: the agent is shutting down. */
  terminate(cause: string): void {
    this.#terminationCause ??= cause;
  }

  /** Why Envoy is not ready; undefined when it is. Calls at the same time share one look. */
  check(): Promise<string | undefined> {
    this.#check ??= this.#look().finally(() => {
      this.#check = undefined;
    });
    return this.#check;
  }

  async #look(): Promise<string | undefined> {
    const configReason = this.#hasConfig ? undefined : await this.#lookForConfig();
    if (configReason !== undefined) return configReason;
    this.#hasConfig = true;
    const endReason = this.#terminationReason();
    if (endReason !== undefined) return endReason;
    const liveReason = this.#isLive ? undefined : await this.#lookForLife();
    if (liveReason !== undefined) return liveReason;
    this.#isLive = true;
    // The signal may have come while Envoy was asked.
    return this.#terminationReason();
  }

  #terminationReason(): string | undefined {
    const cause = this.#terminationCause;
    return cause === undefined ? undefined : `server is terminated: ${cause}`;
  }

  async #lookForConfig(): Promise<string | undefined> {
    let body: string;
    try {
      body = await this.#admin.get(configStatsPath, { timeoutMs: configTimeoutMs });
    } catch (error) {
      return describeError(error);
    }
    const stats = new Map(parseStats(body).map(({ name, value }) => [name, value]));
    const cds = countsOf(stats, 'cluster_manager.cds');
    const lds = countsOf(stats, 'listener_manager.lds');
    if (cds.success > 0 && lds.success > 0) return undefined;
    const counts =
      `cds updates: ${cds.success} successful, ${cds.rejected} rejected; ` +
      `lds updates: ${lds.success} successful, ${lds.rejected} rejected`;
    if (cds.success === 0 && lds.success === 0) {
      return `config not received from XDS server (is Istiod running?): ${counts}`;
    }
    return cds.rejected > 0 || lds.rejected > 0
      ? `config received from XDS server, but was rejected: ${counts}`
      : `config not fully received from XDS server: ${counts}`;
  }

  async #lookForLife(): Promise<string | undefined> {
    let body: string;
    try {
      body = await this.#admin.get(liveStatsPath, { timeoutMs: liveTimeoutMs });
    } catch (error) {
      return `failed to get readiness stats: ${describeError(error)}`;
    }
    const stats = parseStats(body);
    const find = (name: string) => stats.find((stat) => stat.name.startsWith(name))?.value;
    const state = find('server.state');
    const startedCount = find('listener_manager.workers_started');
    if (state === undefined) return `failed to get readiness stats: server.state is not yet updated: ${body}`;
    if (startedCount === undefined) {
      return `failed to get readiness stats: listener_manager.workers_started is not yet updated: ${body}`;
    }
    if (state !== 0) return `server is not live, current state is: ${stateNames[state] ?? 'UNKNOWN'}`;
    return startedCount === 1 ? undefined : 'workers have not yet started';
  }
}

function countsOf(stats: ReadonlyMap<string, number>, prefix: string): { success: number; rejected: number } {
  return {
    success: stats.get(`${prefix}.update_success`) ?? 0,
    rejected: stats.get(`${prefix}.update_rejected`) ?? 0,
  };
}
