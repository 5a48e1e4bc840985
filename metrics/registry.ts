import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Every metric of the agent carries this prefix, process metrics included (istio/istio `pkg/monitoring`). */
export const metricPrefix = 'istio_agent_';

type Labels = Record<string, string>;

export interface MetricOptions {
  /** Without the prefix. */
  readonly name: string;
  readonly help: string;
  readonly labelNames?: readonly string[];
}

/**
 * A registry whose metrics appear with their first event: the stock agent writes no zero samples, and dashboards
 * and alerts are built on that absence.
 */
export class MetricRegistry {
  readonly #registry = new Registry();

  counter(options: MetricOptions): (labels?: Labels, value?: number) => void {
    let counter: Counter | undefined;
    return (labels = {}, value = 1) => {
      counter ??= new Counter({ ...this.#common(options) });
      counter.inc(labels, value);
    };
  }

  gauge(options: MetricOptions): (value: number, labels?: Labels) => void {
    let gauge: Gauge | undefined;
    return (value, labels = {}) => {
      gauge ??= new Gauge({ ...this.#common(options) });
      gauge.set(labels, value);
    };
  }

  histogram(
    options: MetricOptions & { readonly buckets: readonly number[] },
  ): (value: number, labels?: Labels) => void {
    let histogram: Histogram | undefined;
    return (value, labels = {}) => {
      histogram ??= new Histogram({ ...this.#common(options), buckets: [...options.buckets] });
      histogram.observe(labels, value);
    };
  }

  /** A gauge that is computed when it is scraped. */
  computedGauge(options: MetricOptions, compute: () => number | undefined): void {
    new Gauge({
      ...this.#common(options),
      collect() {
        const value = compute();
        if (value === undefined) this.reset();
        else this.set(value);
      },
    });
  }

  /** Prometheus text format 0.0.4, families sorted by name as the stock agent's are. */
  async exposition(): Promise<string> {
    const names = this.#registry
      .getMetricsAsArray()
      .map((metric) => metric.name)
      .sort();
    const families = await Promise.all(names.map((name) => this.#registry.getSingleMetricAsString(name)));
    return families.map((family) => `${family}\n`).join('');
  }

  #common(options: MetricOptions) {
    return {
      name: `${metricPrefix}${options.name}`,
      help: options.help,
      labelNames: [...(options.labelNames ?? [])],
      registers: [this.#registry],
    };
  }
}
