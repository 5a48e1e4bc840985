import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Histogram from 'prom-client/lib/histogram.js';
import {
  formatFamilies,
  formatValue,
  type Labels,
  type MetricFamily,
  type Sample,
} from './exposition-text.ts';

/** Every metric of the agent carries this prefix, process metrics included (istio/istio `pkg/monitoring`). */
export const metricPrefix = 'istio_agent_';

/** What a metric is called and which labels it takes. */
export interface MetricOptions {
  /** Without the prefix. */
  readonly name: string;
  readonly help: string;
  readonly labelNames?: readonly string[];
}

/** A family of a collector: like MetricFamily, its name without the prefix. */
export type CollectedFamily = MetricFamily;

/** One source could not be read at scrape time. The message names the source; `cause` is what it threw. */
export class MetricError extends Error {
  override readonly name = 'MetricError';
}

/** Gives the families of one source; an empty list, or families without samples, while there is nothing to say. */
type Source = () => readonly MetricFamily[] | Promise<readonly MetricFamily[]>;

/**
 * A registry whose metrics appear with their first event: the stock agent writes no zero samples, and dashboards
 * and alerts are built on that absence.
 */
export class MetricRegistry {
  /** By name of the metric, or of the collector. */
  readonly #sources = new Map<string, Source>();

  /** A recorder that adds `value` (1 when left out, never negative). */
  counter(options: MetricOptions): (labels?: Labels, value?: number) => void {
    let counter: Counter | undefined;
    this.#add(options.name, async () =>
      counter === undefined ? [] : [family(options, 'counter', (await counter.get()).values)],
    );
    return (labels = {}, value = 1) => {
      counter ??= new Counter(common(options));
      counter.inc(labels, value);
    };
  }

  /** A recorder that sets the value. */
  gauge(options: MetricOptions): (value: number, labels?: Labels) => void {
    let gauge: Gauge | undefined;
    this.#add(options.name, async () =>
      gauge === undefined ? [] : [family(options, 'gauge', (await gauge.get()).values)],
    );
    return (value, labels = {}) => {
      gauge ??= new Gauge(common(options));
      gauge.set(labels, value);
    };
  }

  /** A recorder of single values; `buckets` are upper bounds in rising order, without infinity. */
  histogram(
    options: MetricOptions & { readonly buckets: readonly number[] },
  ): (value: number, labels?: Labels) => void {
    let histogram: Histogram | undefined;
    this.#add(options.name, async () =>
      histogram === undefined ? [] : [family(options, 'histogram', (await histogram.get()).values)],
    );
    return (value, labels = {}) => {
      histogram ??= new Histogram({ ...common(options), buckets: [...options.buckets] });
      histogram.observe(labels, value);
    };
  }

  /**
   * A gauge that is computed when it is scraped: one value, or samples with labels. It is absent while `compute`
   * gives undefined or an empty list.
   */
  computedGauge(options: MetricOptions, compute: () => number | undefined | readonly Sample[]): void {
    this.#add(options.name, () => {
      const computed = compute();
      const samples = typeof computed === 'number' ? [{ labels: {}, value: computed }] : (computed ?? []);
      return [{ name: `${metricPrefix}${options.name}`, help: options.help, type: 'gauge', samples }];
    });
  }

  /** A counter that somebody else keeps, read when it is scraped. It is absent while `read` gives an empty list. */
  watchedCounter(options: MetricOptions, read: () => Promise<readonly Sample[]>): void {
    this.#add(options.name, async () => [
      {
        name: `${metricPrefix}${options.name}`,
        help: options.help,
        type: 'counter',
        samples: await read(),
      },
    ]);
  }

  /** Families that are read together at scrape time. `name` is for error texts. */
  collector(
    name: string,
    collect: () => readonly CollectedFamily[] | Promise<readonly CollectedFamily[]>,
  ): void {
    this.#add(name, async () =>
      (await collect()).map((collected) => ({ ...collected, name: `${metricPrefix}${collected.name}` })),
    );
  }

  /**
   * Prometheus text format 0.0.4, families sorted by name as the stock agent's are. A source that fails is left out
   * and given to `onFailure`; without `onFailure` the first failure is thrown (MetricError).
   */
  async exposition(onFailure?: (error: MetricError) => void): Promise<string> {
    const families = await Promise.all(
      [...this.#sources].map(async ([name, source]) => {
        try {
          return await source();
        } catch (cause) {
          const text = cause instanceof Error ? cause.message : String(cause);
          const error = new MetricError(`metric source ${name} cannot be read: ${text}`, { cause });
          if (onFailure === undefined) throw error;
          onFailure(error);
          return [];
        }
      }),
    );
    return formatFamilies(families.flat());
  }

  #add(name: string, source: Source): void {
    if (this.#sources.has(name)) throw new MetricError(`metric ${name} is defined twice in one registry`);
    this.#sources.set(name, source);
  }
}

/** The empty list keeps a metric out of prom-client's global registry: this class is the registry. */
function common(options: MetricOptions) {
  return {
    name: `${metricPrefix}${options.name}`,
    help: options.help,
    labelNames: [...(options.labelNames ?? [])],
    registers: [],
  };
}

interface PromValue {
  readonly labels: Partial<Record<string, string | number>>;
  readonly value: number;
  readonly metricName?: string | undefined;
}

function family(
  options: MetricOptions,
  type: MetricFamily['type'],
  values: readonly PromValue[],
): MetricFamily {
  const name = `${metricPrefix}${options.name}`;
  const samples = values.map(({ labels, value, metricName = name }): Sample => {
    const texts = Object.entries(labels).map(([label, text = '']) => [label, labelText(text)]);
    return { labels: Object.fromEntries(texts), value, suffix: suffixOf(metricName.slice(name.length)) };
  });
  return { name, help: options.help, type, samples };
}

/** prom-client keeps `le` as a number. */
function labelText(value: string | number): string {
  return typeof value === 'number' ? formatValue(value) : value;
}

function suffixOf(text: string): NonNullable<Sample['suffix']> {
  return text === '_bucket' || text === '_sum' || text === '_count' ? text : '';
}
