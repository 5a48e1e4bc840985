import { alignColumns } from '../bench/text-columns.ts';
import { certificateLifeSeconds, type IdentityCounts } from './mesh-identity.ts';
import type { ProcessSample } from './process-sample.ts';
import type { LedgerTotals } from './push-ledger.ts';
import type { TrafficCount } from './traffic.ts';
import { afterWarmUp, isGrowing, type Trend, trendOf } from './trend.ts';

/** A quantity that must not grow. */
interface Watched {
  readonly name: Exclude<keyof ProcessSample, 'atMinutes'>;
  readonly unit: string;
  /** What the least growth over the span may come to: the steps in which the quantity moves by itself. */
  readonly allowance: number;
}

/** Memory of the kernel's kind moves in steps of whole heap pages; descriptors with connections that are kept alive. */
const watchedQuantities: readonly Watched[] = [
  { name: 'anonymousMib', unit: 'MiB', allowance: 10 },
  { name: 'liveMib', unit: 'MiB', allowance: 3 },
  { name: 'descriptorCount', unit: '', allowance: 4 },
  { name: 'timerCount', unit: '', allowance: 4 },
  { name: 'resourceCount', unit: '', allowance: 8 },
];

const secondsPerMinute = 60;

/** A quantity of a run with its verdict. */
export interface QuantityTrend {
  readonly name: string;
  readonly unit: string;
  readonly first: number;
  readonly last: number;
  readonly trend: Trend;
  readonly allowance: number;
  readonly isGrowing: boolean;
}

/** The agent's identity over the run. */
export interface IdentityReport extends IdentityCounts {
  /** Different certificates that clients of Envoy have seen: one more than rotations. */
  readonly certificateCount: number;
  /** Connections that the client which keeps one has opened. */
  readonly keptConnectionCount: number;
}

/** The file of one run. Grows by new members only; anything else gets a new `schemaVersion`. */
export interface SoakDocument {
  readonly schemaVersion: 1;
  readonly kind: 'ferry-soak';
  /** RFC 3339. */
  readonly startedAt: string;
  readonly minutes: number;
  readonly seed: number;
  readonly mode: 'delta' | 'sotw';
  /** What the agent ran from; runs of the source, which has a compiler in its process, do not say. */
  readonly program?: 'bundle' | 'source';
  readonly cycleCount: number;
  /** How often each disturbance was picked. */
  readonly disturbances: Readonly<Record<string, number>>;
  readonly pushes: LedgerTotals;
  readonly traffic: Readonly<Record<string, TrafficCount>>;
  readonly identity: IdentityReport;
  readonly trends: readonly QuantityTrend[];
  readonly samples: readonly ProcessSample[];
  /** Broken promises. None: the soak has passed. */
  readonly problems: readonly string[];
}

/** The trend of each watched quantity after the warm-up. */
export function trendsOf(samples: readonly ProcessSample[]): readonly QuantityTrend[] {
  return watchedQuantities.map(({ name, unit, allowance }) => {
    const values = afterWarmUp(
      samples.map((sample) => ({ atMinutes: sample.atMinutes, value: sample[name] })),
    );
    const trend = trendOf(values);
    return {
      name,
      unit,
      first: values[0]?.value ?? 0,
      last: values.at(-1)?.value ?? 0,
      trend,
      allowance,
      isGrowing: isGrowing(trend, allowance),
    };
  });
}

/** Quantities that grow, in words. */
export function growthProblems(trends: readonly QuantityTrend[]): readonly string[] {
  return trends
    .filter((each) => each.isGrowing)
    .map(
      ({ name, unit, trend, allowance }) =>
        `${name} grows: by ${number(trend.growth)} ${unit} in ${number(trend.spanMinutes)} minutes, with 99 % confidence by more than ${number(trend.lowestGrowth)}; up to ${allowance} is allowed`,
    );
}

/** What was promised of the identity and is not so, in words. */
export function identityProblems(identity: IdentityReport, minutes: number): readonly string[] {
  const { certificateCount, keptConnectionCount, replacedTokenCount, tokenCount } = identity;
  // A certificate that lives half a minute cannot serve longer.
  const leastCount = Math.floor((minutes * secondsPerMinute) / certificateLifeSeconds);
  return [
    ...(certificateCount < leastCount
      ? [
          `clients saw ${certificateCount} certificates in ${number(minutes)} minutes; ${leastCount} are the least`,
        ]
      : []),
    ...(keptConnectionCount > 1
      ? [`the connection that a client kept was cut ${keptConnectionCount - 1} times`]
      : []),
    ...(replacedTokenCount > 0 && minutes > 1 && tokenCount < 2
      ? [`${replacedTokenCount} new tokens, and the CA saw only the first`]
      : []),
  ];
}

/** The run as text. */
export function renderSoak(document: SoakDocument): string {
  const { pushes, identity, trends, traffic, disturbances, problems } = document;
  const trendRows = trends.map(({ name, unit, first, last, trend, allowance, isGrowing: grows }) => [
    `${name}${unit === '' ? '' : ` (${unit})`}`,
    number(first),
    number(last),
    number(trend.slopePerHour),
    Number.isFinite(trend.lowestSlopePerHour) ? number(trend.lowestSlopePerHour) : 'too few samples',
    String(allowance),
    grows ? 'GROWS' : '',
  ]);
  const trendHead = [
    'at quiet times',
    'first',
    'last',
    'slope per hour',
    'at least (99 %)',
    'may grow by',
    '',
  ];
  const trafficRows = Object.entries(traffic).map(([name, { requestCount, outcomes }]) => [
    name,
    String(requestCount),
    Object.entries(outcomes)
      .map(([outcome, count]) => `${outcome}: ${count}`)
      .join(', '),
  ]);
  const happened = Object.entries(disturbances).map(([name, count]) => `${count} x ${name}`);
  return `${document.minutes} minutes over ${document.mode}, seed ${document.seed}, ${document.cycleCount} quiet times, ${document.samples.length} samples

${alignColumns([trendHead, ...trendRows], 1)}

Pushes: ${pushes.pushCount}, of them ${pushes.ackCount} acknowledged and ${pushes.nackCount} refused first (${pushes.healedCount} healed later), ${pushes.supersededCount} extension pushes overtaken by a newer one, ${pushes.cutCount} cut by the end of their stream, ${pushes.openCount} unanswered

Identity: ${identity.certificateCount} certificates seen by clients, so ${Math.max(0, identity.certificateCount - 1)} rotations; ${identity.signingRequestCount} requests to the CA with ${identity.tokenCount} tokens; replaced: ${identity.replacedTokenCount} x token, ${identity.replacedRootCount} x root, ${identity.replacedIntermediateCount} x intermediate; ${identity.keptConnectionCount} connection(s) to keep one

${alignColumns([['requests', 'count', 'answers'], ...trafficRows], 3)}

Happened: ${happened.join(', ')}

${problems.length === 0 ? 'No promise was broken.' : ['Broken promises:', ...problems.map((problem) => `- ${problem}`)].join('\n')}
`;
}

function number(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(2);
}
