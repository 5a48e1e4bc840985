import { DnsMetrics } from '../../metrics/dns-metrics.ts';
import type { Sample } from '../../metrics/exposition-text.ts';
import { IdentityMetrics } from '../../metrics/identity-metrics.ts';
import { ProcessMetrics } from '../../metrics/process-metrics.ts';
import {
  type CollectedFamily,
  type MetricOptions,
  MetricRegistry,
  metricPrefix,
} from '../../metrics/registry.ts';
import { StatusMetrics } from '../../metrics/status-metrics.ts';
import { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import { XdsMetrics } from '../../metrics/xds-metrics.ts';
import { poll } from '../support/polling.ts';

/** A metric as it is defined, whether it has been written yet or not. */
export interface DefinedMetric {
  /** Whole name, prefix included. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Sorted. */
  readonly labelNames: readonly string[];
}

/** A registry that keeps what is defined in it. */
class KeepingRegistry extends MetricRegistry {
  readonly defined: DefinedMetric[] = [];
  readonly #collectors: (() => readonly CollectedFamily[] | Promise<readonly CollectedFamily[]>)[] = [];

  override counter(options: MetricOptions) {
    this.#keep(options, 'counter');
    return super.counter(options);
  }

  override gauge(options: MetricOptions) {
    this.#keep(options, 'gauge');
    return super.gauge(options);
  }

  override histogram(options: MetricOptions & { readonly buckets: readonly number[] }) {
    this.#keep(options, 'histogram');
    return super.histogram(options);
  }

  override computedGauge(
    options: MetricOptions,
    compute: () => number | undefined | readonly Sample[],
  ): void {
    this.#keep(options, 'gauge');
    super.computedGauge(options, compute);
  }

  override watchedCounter(options: MetricOptions, read: () => Promise<readonly Sample[]>): void {
    this.#keep(options, 'counter');
    super.watchedCounter(options, read);
  }

  override collector(
    name: string,
    collect: () => readonly CollectedFamily[] | Promise<readonly CollectedFamily[]>,
  ): void {
    this.#collectors.push(collect);
    super.collector(name, collect);
  }

  /** Families of collectors are known only when they are collected. */
  async collected(): Promise<readonly DefinedMetric[]> {
    const families = await Promise.all(this.#collectors.map(async (collect) => collect()));
    return families.flat().map(({ name, type, samples }) => ({
      name: `${metricPrefix}${name}`,
      type,
      labelNames: [...new Set(samples.flatMap(({ labels }) => Object.keys(labels)))].sort(),
    }));
  }

  #keep({ name, labelNames = [] }: MetricOptions, type: DefinedMetric['type']): void {
    this.defined.push({ name: `${metricPrefix}${name}`, type, labelNames: labelNames.toSorted() });
  }
}

/** What defines the metrics of a file under `metrics/`; `wasm-metrics.ts` makes those of plugins too. */
const subsystems: Readonly<Record<string, (registry: MetricRegistry) => unknown>> = {
  'dns-metrics.ts': (registry) => new DnsMetrics(registry),
  'identity-metrics.ts': (registry) => new IdentityMetrics(registry, () => []),
  'status-metrics.ts': (registry) => new StatusMetrics(registry),
  'wasm-metrics.ts': (registry) => new WasmMetrics(registry),
  'xds-metrics.ts': (registry) => new XdsMetrics(registry),
};

/** The files whose metrics are in the catalogue. */
export const cataloguedFiles: readonly string[] = [
  ...Object.keys(subsystems),
  'plugin-metrics.ts',
  'process-metrics.ts',
];

/** Every metric of the agent, by name. */
export async function metricCatalogue(): Promise<ReadonlyMap<string, DefinedMetric>> {
  const registry = new KeepingRegistry();
  for (const define of Object.values(subsystems)) define(registry);
  const processMetrics = new ProcessMetrics(registry);
  try {
    // The delay of the event loop is there only after its first sample.
    const collected = await poll(
      async () => {
        const families = await registry.collected();
        return families.some(({ name }) => name.endsWith('eventloop_lag_mean_seconds'))
          ? { done: true, value: families }
          : { done: false, seen: families.map(({ name }) => name).join(' ') };
      },
      { what: 'The first sample of the event loop', deadlineMs: 10_000 },
    );
    return new Map([...registry.defined, ...collected].map((metric) => [metric.name, metric]));
  } finally {
    processMetrics.close();
  }
}
