import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { median } from './statistics.ts';

/** What is measured, in the order of the table. Sizes are decimal: 1 KB is 1000 bytes. */
export const metricCatalog = {
  'start-to-accept': {
    scenario: 'start',
    unit: 'ms',
    meaning: 'Process start to the first HTTP/2 bytes on the XDS socket.',
  },
  'idle-rss': { scenario: 'idle', unit: 'MiB', meaning: 'RSS with one quiet ADS stream.' },
  'idle-pss': {
    scenario: 'idle',
    unit: 'MiB',
    meaning: 'PSS with one quiet ADS stream; no other process maps its binary.',
  },
  'idle-anonymous': { scenario: 'idle', unit: 'MiB', meaning: 'Anonymous memory with one quiet ADS stream.' },
  'latency-p50': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'ACK sent to last byte of the next push, median of a round.',
  },
  'latency-p99': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'The same, 99th percentile of a round; the largest where a round has under 100 pushes.',
  },
  'added-latency-p50': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'latency-p50 minus that of direct in the same round.',
  },
  'added-latency-p99': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'latency-p99 minus that of direct in the same round.',
  },
  throughput: {
    scenario: 'relay',
    unit: 'MB/s',
    meaning: 'Pushed bytes over time with one push outstanding, 10^6 bytes per second.',
  },
  'cpu-per-gb': { scenario: 'relay', unit: 's/GB', meaning: 'CPU time of the agent for 10^9 pushed bytes.' },
  'cpu-per-push': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'CPU time of the agent for one push and its ACK.',
  },
  'peak-rss': {
    scenario: 'relay',
    unit: 'MiB',
    meaning: 'Largest RSS of a fresh agent over its warm-up and one round.',
  },
  'stalled-peak-rss': {
    scenario: 'stall',
    unit: 'MiB',
    meaning: 'Largest RSS of a fresh agent whose client stands still amid the outstanding pushes.',
  },
  'conversion-first': {
    scenario: 'ecds',
    unit: 'ms',
    meaning:
      'Push sent to rewritten config received, for the first extension config of a process, module not cached.',
  },
  'conversion-cold': {
    scenario: 'ecds',
    unit: 'ms',
    meaning: 'The same for a later one, module not cached.',
  },
  'conversion-warm': {
    scenario: 'ecds',
    unit: 'ms',
    meaning: 'The same with the module cached and another plugin configuration, median of a round.',
  },
  'conversion-peak-rss-rise': {
    scenario: 'ecds',
    unit: 'MiB',
    meaning: 'Largest RSS during a cold conversion minus the RSS before it.',
  },
  'shared-url-downloads': {
    scenario: 'shared-url',
    unit: 'count',
    meaning: 'Downloads when one push holds many plugins that name one URL.',
  },
  'shared-url-conversion': {
    scenario: 'shared-url',
    unit: 'ms',
    meaning: 'Push sent to the last of those configs received.',
  },
  'fetch-throughput': {
    scenario: 'fetch',
    unit: 'MB/s',
    meaning: 'Bytes of a module over the time from push to rewritten config, fetched over HTTP, not cached.',
  },
  'fetch-to-curl': {
    scenario: 'fetch',
    unit: 'x',
    meaning: 'That speed over the speed of curl | sha256sum for the same URL in the same round.',
  },
  'fetch-to-digest': {
    scenario: 'fetch',
    unit: 'x',
    meaning: 'That speed over the speed of SHA-256 alone, over the same bytes in memory.',
  },
} as const satisfies Readonly<Record<string, MetricDefinition>>;

/** A metric as the document describes it. */
export interface MetricDefinition {
  readonly scenario: Scenario;
  readonly unit: 'ms' | 'MiB' | 'MB/s' | 's/GB' | 'count' | 'x';
  readonly meaning: string;
}

export type MetricName = keyof typeof metricCatalog;

/** Parts of the bench that can be run alone, in the order in which they run. */
export const scenarios = ['start', 'idle', 'relay', 'stall', 'ecds', 'shared-url', 'fetch'] as const;
export type Scenario = (typeof scenarios)[number];

/** One metric of one subject at one size: all samples, one a round (some scenarios give several). */
export interface Series {
  readonly scenario: Scenario;
  readonly metric: MetricName;
  readonly unit: string;
  readonly subject: string;
  /** Of a push or of a module; null where there is none. */
  readonly sizeBytes: number | null;
  readonly median: number;
  /** In the order in which they were measured, warm-up rounds left out. */
  readonly samples: readonly number[];
}

/** Where and how it was measured: figures of different machines or settings are not to be compared. */
export interface MachineDescription {
  readonly cpuModel: string;
  readonly coreCount: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly architecture: string;
  readonly nodeVersion: string;
  /** One-minute load average before the run. */
  readonly loadBefore: number;
  /** Part of all CPU time of the run that went to processes that are not the bench's; 0 to 1. */
  readonly othersCpuShare: number;
}

/** The file of one run. Grows by new members only; anything else gets a new `schemaVersion`. */
export interface BenchDocument {
  readonly schemaVersion: 1;
  readonly kind: 'ferry-bench';
  /** RFC 3339. */
  readonly startedAt: string;
  readonly durationSeconds: number;
  readonly machine: MachineDescription;
  /** Every choice that changes figures. */
  readonly settings: Readonly<Record<string, string | number | boolean>>;
  readonly subjects: readonly { readonly name: string; readonly command: readonly string[] | null }[];
  readonly metrics: Readonly<Record<string, MetricDefinition>>;
  readonly series: readonly Series[];
  readonly warnings: readonly string[];
}

/** Collects samples. The order of the series does not depend on the order of measuring. */
export class SampleBook {
  readonly #samples = new Map<string, { readonly key: SampleKey; readonly values: number[] }>();
  readonly #subjectNames: readonly string[];

  constructor(subjectNames: readonly string[]) {
    this.#subjectNames = subjectNames;
  }

  /** Throws RangeError for a value that is no finite number: such a sample would spoil the median in silence. */
  add(key: SampleKey, value: number): void {
    const id = JSON.stringify([key.metric, key.subject, key.sizeBytes]);
    if (!Number.isFinite(value)) throw new RangeError(`The sample ${value} of ${id} is no finite number.`);
    const entry = this.#samples.get(id) ?? { key, values: [] };
    entry.values.push(value);
    this.#samples.set(id, entry);
  }

  /** By metric as in the catalog, then by size, then by subject. */
  series(): readonly Series[] {
    const metricNames = Object.keys(metricCatalog);
    return [...this.#samples.values()]
      .map(({ key, values }): Series => {
        const { scenario, unit } = metricCatalog[key.metric];
        return {
          scenario,
          metric: key.metric,
          unit,
          subject: key.subject,
          sizeBytes: key.sizeBytes,
          median: median(values),
          samples: values,
        };
      })
      .sort(
        (a, b) =>
          metricNames.indexOf(a.metric) - metricNames.indexOf(b.metric) ||
          (a.sizeBytes ?? 0) - (b.sizeBytes ?? 0) ||
          this.#subjectNames.indexOf(a.subject) - this.#subjectNames.indexOf(b.subject),
      );
  }
}

/** What a sample belongs to. */
export interface SampleKey {
  readonly metric: MetricName;
  readonly subject: string;
  readonly sizeBytes: number | null;
}

/** Writes the document as JSON, whole or not at all; makes the folder. */
export async function writeBenchDocument(path: string, document: BenchDocument): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporaryPath = `${path}.${process.pid}.tmp`;
  await writeFile(temporaryPath, `${JSON.stringify(document, undefined, 2)}\n`);
  await rename(temporaryPath, path);
}
