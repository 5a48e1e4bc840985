import type { Sample } from './exposition-text.ts';
import type { MetricRegistry } from './registry.ts';

/** One plugin at scrape time. */
export interface PluginFacts {
  /** `namespace.name`; plugins that share one are counted together. */
  readonly plugin: string;
  /** How far its newest config has come. */
  readonly state: string;
  /** What the stand-in filter does; undefined while none is in force. */
  readonly fallbackAction: 'allow' | 'deny' | undefined;
  /** Envoy runs it although the policy of now would refuse it. */
  readonly isRefusedByPolicy: boolean;
  /** Since Envoy accepted the config that is kept on disk; undefined while none is. */
  readonly lastKnownGoodAgeSeconds: number | undefined;
}

/** The module cache at scrape time. */
export interface CacheFacts {
  readonly sizeBytes: number;
  /** Undefined: only the volume limits it. */
  readonly limitBytes: number | undefined;
}

/** The policy file at scrape time. */
export interface PolicyFacts {
  /** Policies that were in force since the start, that of now included. */
  readonly generation: number;
  /** Epoch seconds: when the policy in force was read. */
  readonly loadedAtSeconds: number;
  /** Faults of the file as it is now; above 0 the last good policy is in force. */
  readonly problemCount: number;
}

/** What Envoy says of the VM of one plugin that failed while it served, since Envoy's start. */
export interface VmFacts {
  /** `namespace.name`. */
  readonly plugin: string;
  readonly reloadCount: number;
  readonly failedReloadCount: number;
  readonly refusedCount: number;
}

/** Where the bytes of a module were looked for. */
export type FetchOrigin = 'cache' | 'layout' | 'http' | 'oci' | 'none';

/** `expired`: nobody used it for the expiry time; `quota`: it made room for another. */
export type EvictionReason = 'expired' | 'quota';

/** More plugins than one proxy runs; what is above it is counted under `other`, so that the page stays bounded. */
const maxPluginCount = 100;
/** Namespace and name of a Kubernetes object are shorter together, as a rule. */
const maxLabelLength = 128;
const otherPlugins = 'other';

/**
 * What Ferry counts about Wasm plugins beyond the stock agent. The names have a prefix of their own
 * (`istio_agent_ferry_`): they say which pods run Ferry, and no later metric of Istio can mean something else by them.
 */
export class PluginMetrics {
  /** Each background try of a failed download. */
  readonly retried: () => void;
  /** Each look whether the tag of a running plugin names another module. */
  readonly rechecked: (result: 'unchanged' | 'changed' | 'failed') => void;
  /** Each config that Envoy refused. */
  readonly envoyRejected: () => void;
  /** Each module that came but was not what was asked for. `reason` is an error code, never free text. */
  readonly refused: (reason: string) => void;
  /** Each module that Envoy could not run, found before it was offered. `code` is an error code, never free text. */
  readonly preflightRefused: (code: string) => void;
  /** One try to have a module: from the plugin's question to the file, or to the failure. */
  readonly fetchEnded: (origin: FetchOrigin, seconds: number) => void;
  /** One try that failed, with its time. `reason` is an error code, never free text. */
  readonly fetchFailed: (origin: FetchOrigin, seconds: number, reason: string) => void;
  /** Bytes read from an origin, of failed downloads too. */
  readonly fetchedBytes: (origin: FetchOrigin, byteCount: number) => void;
  readonly evicted: (reason: EvictionReason, count: number) => void;
  #plugins: () => readonly PluginFacts[] = () => [];
  #vms: () => Promise<readonly VmFacts[]> = async () => [];
  #cache: (() => CacheFacts) | undefined;
  #policy: (() => PolicyFacts) | undefined;

  /** `registry` must not hold these metrics yet. */
  constructor(registry: MetricRegistry) {
    const retries = registry.counter({
      name: 'ferry_wasm_retries_total',
      help: 'Background tries of failed Wasm module downloads.',
    });
    this.retried = () => retries();
    const rechecks = registry.counter({
      name: 'ferry_wasm_rechecks_total',
      help: 'Looks whether the tags of running plugins name other Wasm modules.',
      labelNames: ['result'],
    });
    this.rechecked = (result) => rechecks({ result });
    const rejects = registry.counter({
      name: 'ferry_wasm_envoy_rejects_total',
      help: 'Extension configs that Envoy refused.',
    });
    this.envoyRejected = () => rejects();
    const refusals = registry.counter({
      name: 'ferry_wasm_refusals_total',
      help: 'Wasm modules that failed verification.',
      labelNames: ['reason'],
    });
    this.refused = (reason) => refusals({ reason: codeLabel(reason) });
    const preflight = registry.counter({
      name: 'ferry_wasm_preflight_refusals_total',
      help: 'Wasm modules that Envoy could not run, found before they were offered.',
      labelNames: ['code'],
    });
    this.preflightRefused = (code) => preflight({ code: codeLabel(code) });
    const durations = registry.histogram({
      name: 'ferry_wasm_fetch_duration_seconds',
      help: 'Time until a plugin had its Wasm module, or its failure.',
      labelNames: ['source', 'result'],
      buckets: [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60],
    });
    this.fetchEnded = (source, seconds) => durations(seconds, { source, result: 'success' });
    const failures = registry.counter({
      name: 'ferry_wasm_fetch_failures_total',
      help: 'Failed tries to have a Wasm module.',
      labelNames: ['source', 'reason'],
    });
    this.fetchFailed = (source, seconds, reason) => {
      durations(seconds, { source, result: 'failure' });
      failures({ source, reason: codeLabel(reason) });
    };
    const bytes = registry.counter({
      name: 'ferry_wasm_fetch_bytes_total',
      help: 'Bytes of Wasm modules read from their origins.',
      labelNames: ['source'],
    });
    this.fetchedBytes = (source, byteCount) => bytes({ source }, byteCount);
    const evictions = registry.counter({
      name: 'ferry_wasm_cache_evictions_total',
      help: 'Wasm modules deleted from the cache.',
      labelNames: ['reason'],
    });
    this.evicted = (reason, count) => {
      if (count > 0) evictions({ reason }, count);
    };
    this.#addPluginGauges(registry);
    this.#addVmCounter(registry);
    this.#addCacheGauges(registry);
    this.#addPolicyGauges(registry);
  }

  /** From now on each scrape asks `plugins`, in place of what was given before. */
  watchPlugins(plugins: () => readonly PluginFacts[]): void {
    this.#plugins = plugins;
  }

  /** From now on each scrape asks `vms`, in place of what was given before. */
  watchVms(vms: () => Promise<readonly VmFacts[]>): void {
    this.#vms = vms;
  }

  /** From now on each scrape asks `cache`, in place of what was given before. */
  watchCache(cache: () => CacheFacts): void {
    this.#cache = cache;
  }

  /** From now on each scrape asks `policy`, in place of what was given before. */
  watchPolicy(policy: () => PolicyFacts): void {
    this.#policy = policy;
  }

  #addPluginGauges(registry: MetricRegistry): void {
    registry.computedGauge(
      {
        name: 'ferry_wasm_plugin_state',
        help: 'Plugins by how far their newest config has come; a plugin has the series of its state only.',
        labelNames: ['plugin', 'state'],
      },
      () =>
        gather(
          this.#labelled().map(({ plugin, state }) => ({ labels: { plugin, state }, value: 1 })),
          (left, right) => left + right,
        ),
    );
    registry.computedGauge(
      {
        name: 'ferry_wasm_fallback_in_force',
        help: 'Plugins in whose place Envoy runs a filter that allows or denies everything.',
        labelNames: ['plugin', 'action'],
      },
      () =>
        gather(
          this.#labelled().flatMap(({ plugin, fallbackAction: action }) =>
            action === undefined ? [] : [{ labels: { plugin, action }, value: 1 }],
          ),
          (left, right) => left + right,
        ),
    );
    registry.computedGauge(
      {
        name: 'ferry_wasm_policy_kept',
        help: 'Plugins that Envoy runs although the policy would refuse them now.',
        labelNames: ['plugin'],
      },
      () =>
        gather(
          this.#labelled().flatMap(({ plugin, isRefusedByPolicy }) =>
            isRefusedByPolicy ? [{ labels: { plugin }, value: 1 }] : [],
          ),
          (left, right) => left + right,
        ),
    );
    registry.computedGauge(
      {
        name: 'ferry_wasm_last_known_good_age_seconds',
        help: 'Time since Envoy accepted the config that is kept on disk.',
        labelNames: ['plugin'],
      },
      () =>
        gather(
          this.#labelled().flatMap(({ plugin, lastKnownGoodAgeSeconds: value }) =>
            value === undefined ? [] : [{ labels: { plugin }, value }],
          ),
          Math.max,
        ),
    );
  }

  #addVmCounter(registry: MetricRegistry): void {
    registry.watchedCounter(
      {
        name: 'ferry_wasm_vm_reloads_total',
        help: 'What Envoy did about the VMs of plugins that failed while they served.',
        labelNames: ['plugin', 'result'],
      },
      async () => {
        const samples = (await this.#vms()).flatMap((vm, index) => {
          const plugin = index < maxPluginCount ? vm.plugin.slice(0, maxLabelLength) : otherPlugins;
          const values = {
            success: vm.reloadCount,
            failure: vm.failedReloadCount,
            refused_request: vm.refusedCount,
          };
          return Object.entries(values)
            .filter(([, value]) => value > 0)
            .map(([result, value]) => ({ labels: { plugin, result }, value }));
        });
        return gather(samples, (left, right) => left + right);
      },
    );
  }

  #addCacheGauges(registry: MetricRegistry): void {
    registry.computedGauge(
      { name: 'ferry_wasm_cache_bytes', help: 'Size of all Wasm modules in the cache.' },
      () => this.#cache?.().sizeBytes,
    );
    registry.computedGauge(
      {
        name: 'ferry_wasm_cache_limit_bytes',
        help: 'Largest size of the cache; absent when only the volume limits it.',
      },
      () => this.#cache?.().limitBytes,
    );
  }

  #addPolicyGauges(registry: MetricRegistry): void {
    registry.computedGauge(
      { name: 'ferry_wasm_policy_generation', help: 'Wasm policies that were in force since the start.' },
      () => this.#policy?.().generation,
    );
    registry.computedGauge(
      {
        name: 'ferry_wasm_policy_loaded_timestamp_seconds',
        help: 'When the Wasm policy in force was read, in seconds since 1970.',
      },
      () => this.#policy?.().loadedAtSeconds,
    );
    registry.computedGauge(
      {
        name: 'ferry_wasm_policy_problems',
        help: 'Faults of the Wasm policy file as it is now; above 0 the last good policy is in force.',
      },
      () => this.#policy?.().problemCount,
    );
  }

  #labelled(): readonly PluginFacts[] {
    return this.#plugins().map((facts, index) => ({
      ...facts,
      plugin: index < maxPluginCount ? facts.plugin.slice(0, maxLabelLength) : otherPlugins,
    }));
  }
}

/** One sample for each set of labels: a page with a series twice is refused by Prometheus as a whole. */
function gather(
  samples: readonly Sample[],
  join: (left: number, right: number) => number,
): readonly Sample[] {
  const byLabels = new Map<string, Sample>();
  for (const sample of samples) {
    const key = JSON.stringify(sample.labels);
    const before = byLabels.get(key);
    byLabels.set(key, before === undefined ? sample : { ...sample, value: join(before.value, sample.value) });
  }
  return [...byLabels.values()];
}

/** Keeps free text, of which there is no end, out of a label. */
function codeLabel(text: string): string {
  return /^[a-z][a-z0-9_-]{0,40}$/.test(text) ? text : 'other';
}
