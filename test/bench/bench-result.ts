import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type MetricDefinition, type MetricName, metricCatalog, type Scenario } from './metric-catalog.ts';
import { median } from './statistics.ts';

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
