import { readFile } from 'node:fs/promises';
import * as z from 'zod';
import type { BenchDocument } from './bench-result.ts';
import { formatSize } from './byte-size.ts';
import { type MetricName, metricCatalog } from './metric-catalog.ts';
import { alignColumns } from './text-columns.ts';

/** What a figure of ferry is divided by, so that fast and slow machines give about the same. */
interface Yardstick {
  readonly subject: 'direct' | 'grpc-js';
  /** Of the same metric and size unless named: then of this metric, which has no size. */
  readonly metric?: MetricName;
  /** Worse by less than this, in ratios, is not looked at: so short a time is noise. Default none. */
  readonly slack?: number;
}

interface Rule {
  readonly metric: MetricName;
  /** One ratio for each. Without any the figure itself is compared: a count. */
  readonly against: readonly Yardstick[];
  /** The larger the better. */
  readonly isGain?: boolean;
}

/** How fast this machine runs Node, for what nobody but ferry does: some 80 ms, so that the slack is 8. */
const nodeSpeed: Yardstick = { subject: 'grpc-js', metric: 'start-to-accept', slack: 0.1 };
const nodeSize: Yardstick = { subject: 'grpc-js', metric: 'idle-rss' };
const direct: Yardstick = { subject: 'direct' };
const grpcJs: Yardstick = { subject: 'grpc-js' };

const rules: readonly Rule[] = [
  { metric: 'start-to-accept', against: [grpcJs] },
  { metric: 'idle-rss', against: [grpcJs] },
  { metric: 'idle-anonymous', against: [grpcJs] },
  { metric: 'latency-p50', against: [direct, grpcJs] },
  { metric: 'throughput', against: [direct, grpcJs], isGain: true },
  { metric: 'cpu-per-push', against: [grpcJs] },
  { metric: 'peak-rss', against: [grpcJs] },
  { metric: 'stalled-peak-rss', against: [grpcJs] },
  { metric: 'ack-storm', against: [direct, grpcJs] },
  { metric: 'ack-storm-peak-rss', against: [grpcJs] },
  { metric: 'conversion-first', against: [nodeSpeed] },
  { metric: 'conversion-cold', against: [nodeSpeed] },
  { metric: 'conversion-warm', against: [nodeSpeed] },
  { metric: 'oci-conversion-cold', against: [nodeSpeed] },
  { metric: 'conversion-of-1', against: [nodeSpeed] },
  { metric: 'conversion-of-10', against: [nodeSpeed] },
  { metric: 'conversion-of-100', against: [nodeSpeed] },
  { metric: 'many-modules-conversion', against: [nodeSpeed] },
  { metric: 'many-modules-peak-rss', against: [nodeSize] },
  { metric: 'shared-url-conversion', against: [nodeSpeed] },
  { metric: 'shared-url-downloads', against: [] },
];

/** From so many times the baseline on a figure is lost: wide, because machines of CI are shared and slow in their own way. */
export const grossLoss = 2;

/** One ratio, as it was and is compared. */
export interface RatioEntry {
  readonly metric: MetricName;
  readonly sizeBytes: number | null;
  /** `direct`, `grpc-js`, `grpc-js start-to-accept`, or `count`. */
  readonly against: string;
  /** Over 1 is worse than the yardstick, whatever the metric. */
  readonly ratio: number;
}

/** A ratio of a run, with what it may move by. */
interface MeasuredRatio extends RatioEntry {
  readonly slack: number;
}

const baselineSchema = z.object({
  kind: z.literal('ferry-bench-baseline'),
  schemaVersion: z.literal(1),
  /** Where and when it was taken; for readers. */
  origin: z.string(),
  entries: z.array(
    z.object({
      metric: z.string().refine((name): name is MetricName => Object.hasOwn(metricCatalog, name)),
      sizeBytes: z.number().nullable(),
      against: z.string(),
      ratio: z.number().positive(),
    }),
  ),
});

/** The committed file. */
export type Baseline = z.infer<typeof baselineSchema>;

/** A baseline file that cannot be used; the message says why and what to do. */
export class BaselineError extends Error {}

/** Throws BaselineError. */
export async function readBaseline(path: string): Promise<Baseline> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new BaselineError(`There is no baseline to compare with: ${path}. Make one with --save-baseline.`, {
      cause: error,
    });
  }
  try {
    return baselineSchema.parse(JSON.parse(text));
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    throw new BaselineError(
      `${path} is no baseline of this bench: ${why}\nMake a new one with --save-baseline.`,
      {
        cause: error,
      },
    );
  }
}

/** The ratios of a run, in the order of the catalog. A figure without its yardstick has none. */
export function ratiosOf(document: BenchDocument): readonly MeasuredRatio[] {
  return rules.flatMap(({ metric, against, isGain = false }) =>
    document.series
      .filter((series) => series.metric === metric && series.subject === 'ferry')
      .flatMap(({ sizeBytes, median: own }) => {
        if (against.length === 0) return [{ metric, sizeBytes, against: 'count', ratio: own, slack: 0 }];
        return against.flatMap((yardstick) => {
          const other = valueOf(document, yardstick, metric, sizeBytes);
          if (other === undefined || other <= 0 || own <= 0) return [];
          const ratio = isGain ? other / own : own / other;
          const against = nameOf(yardstick);
          return [{ metric, sizeBytes, against, ratio: roundRatio(ratio), slack: yardstick.slack ?? 0 }];
        });
      }),
  );
}

function valueOf(
  document: BenchDocument,
  yardstick: Yardstick,
  metric: MetricName,
  sizeBytes: number | null,
): number | undefined {
  const wantedMetric = yardstick.metric ?? metric;
  const wantedSize = yardstick.metric === undefined ? sizeBytes : null;
  return document.series.find(
    (series) =>
      series.subject === yardstick.subject &&
      series.metric === wantedMetric &&
      series.sizeBytes === wantedSize,
  )?.median;
}

function nameOf({ subject, metric }: Yardstick): string {
  return metric === undefined ? subject : `${subject} ${metric}`;
}

/** Three digits are more than any run repeats. */
function roundRatio(ratio: number): number {
  return Number(ratio.toPrecision(3));
}

/** The file for a run. */
export function baselineOf(document: BenchDocument): Baseline {
  const { machine, startedAt } = document;
  return {
    kind: 'ferry-bench-baseline',
    schemaVersion: 1,
    origin: `${startedAt.slice(0, 10)}, ${machine.cpuModel}, ${machine.coreCount} cores, Node ${machine.nodeVersion}, others used ${Math.round(machine.othersCpuShare * 100)} % of the CPUs`,
    entries: ratiosOf(document).map(({ slack: _ours, ...entry }) => entry),
  };
}

/** One line of a comparison. */
export interface Judgement {
  readonly metric: MetricName;
  readonly sizeBytes: number | null;
  readonly against: string;
  /** Undefined: the baseline does not have it. */
  readonly was: number | undefined;
  /** Undefined: the run did not measure it. */
  readonly now: number | undefined;
  readonly verdict: 'ok' | 'lost' | 'new' | 'not-measured';
}

/** Holds ratios against a baseline, line by line. What the run should have measured and did not is no success. */
export function judge(baseline: Baseline, ratios: readonly MeasuredRatio[]): readonly Judgement[] {
  const idOf = (entry: Omit<RatioEntry, 'ratio'>): string =>
    JSON.stringify([entry.metric, entry.sizeBytes, entry.against]);
  const before = new Map(baseline.entries.map((entry) => [idOf(entry), entry.ratio]));
  const seen = new Set(ratios.map(idOf));
  const judged = ratios.map((entry): Judgement => {
    const was = before.get(idOf(entry));
    const { ratio, slack: _ours, ...place } = entry;
    const verdict = was === undefined ? 'new' : isLost(entry, was) ? 'lost' : 'ok';
    return { ...place, was, now: ratio, verdict };
  });
  const missing = baseline.entries
    .filter((entry) => !seen.has(idOf(entry)))
    .map(
      ({ ratio, ...place }): Judgement => ({ ...place, was: ratio, now: undefined, verdict: 'not-measured' }),
    );
  return [...judged, ...missing];
}

/** A count has no noise: one more is one too many. */
function isLost(entry: MeasuredRatio, was: number): boolean {
  if (entry.against === 'count') return entry.ratio > was;
  return entry.ratio > was * grossLoss && entry.ratio - was > entry.slack;
}

/** The better of two looks at the same lines: what is slow once may be the machine. */
export function betterOf(first: readonly Judgement[], second: readonly Judgement[]): readonly Judgement[] {
  return first.map((judgement) => {
    if (judgement.verdict !== 'lost') return judgement;
    const again = second.find(
      ({ metric, sizeBytes, against }) =>
        metric === judgement.metric && sizeBytes === judgement.sizeBytes && against === judgement.against,
    );
    return again?.now !== undefined && again.now < (judgement.now ?? Infinity) ? again : judgement;
  });
}

/** Whether the comparison is a failure. */
export function isFailure(judgements: readonly Judgement[]): boolean {
  return judgements.some(({ verdict }) => verdict === 'lost' || verdict === 'not-measured');
}

/** One line a ratio: the baseline, this run, and how many times worse it is. */
export function renderJudgements(baseline: Baseline, judgements: readonly Judgement[]): string {
  const rows = judgements.map(({ metric, sizeBytes, against, was, now, verdict }) => [
    metric,
    sizeBytes === null ? '' : formatSize(sizeBytes),
    against,
    was === undefined ? '-' : String(was),
    now === undefined ? '-' : String(now),
    was === undefined || now === undefined ? '-' : `${(now / was).toFixed(2)} x`,
    verdict === 'ok' ? '' : verdict.toUpperCase(),
  ]);
  const head = ['ferry', 'size', 'divided by', 'baseline', 'now', 'worse by', ''];
  const lostCount = judgements.filter(({ verdict }) => verdict === 'lost').length;
  const missingCount = judgements.filter(({ verdict }) => verdict === 'not-measured').length;
  return `${alignColumns([head, ...rows], 3)}

Baseline: ${baseline.origin}.
Ratios over 1 are worse than what they are divided by. LOST: over ${grossLoss} times the baseline (a count: over it), twice in a row.
${judgements.length} ratios, ${lostCount} lost, ${missingCount} not measured.
`;
}
