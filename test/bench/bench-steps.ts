import type { BenchOptions } from './bench-options.ts';
import { measureFetch } from './fetch-scenario.ts';
import type { LoadSide } from './load-side.ts';
import type { Scenario } from './metric-catalog.ts';
import {
  manyModulesBytes,
  measureConversion,
  measureImageConversion,
  measureManyModules,
  measureResourceCounts,
  measureSharedUrl,
  sharedUrlModuleBytes,
} from './plugin-scenarios.ts';
import { measureReady } from './ready-scenario.ts';
import {
  type Effort,
  type Measurement,
  measureAckStorm,
  measureFirstPushes,
  measureIdle,
  measureNeighbours,
  measureRelay,
  measureSettled,
  measureStall,
  measureStart,
} from './relay-scenarios.ts';
import type { AgentSubject, Subject } from './subject.ts';

/** Starts in one round: one alone says little. */
const startsPerRound = 3;
/** Sizes of pushes after which memory is looked at, in bytes: smaller ones leave nothing, larger ones are rare. */
const settledSizes = { min: 100_000, max: 10_000_000 } as const;

/** One thing to measure for every subject that takes part, in every round. */
export interface Step {
  readonly scenario: Scenario;
  readonly sizeBytes: number | null;
  readonly measure: (load: LoadSide, subject: Subject) => Promise<readonly Measurement[]>;
}

/** An agent that rewrites extension configs. */
type Converter = Extract<Subject, { readonly kind: 'ferry' | 'peer' }>;

/** The steps of a run, in order. Without an Envoy there is no `ready`. */
export function stepsOf(
  options: BenchOptions,
  effort: Effort,
  envoyPath: string | undefined,
): readonly Step[] {
  const { moduleSizes, resourceCount } = options;
  const pushSizes = options.pushSizes.map((sizeBytes) => sizeBytes * (resourceCount ?? 1));
  const resourceBytes = (sizeBytes: number): number | undefined =>
    resourceCount === undefined ? undefined : Math.floor(sizeBytes / resourceCount);
  const restingSizes = pushSizes.filter((size) => size >= settledSizes.min && size <= settledSizes.max);
  const all: readonly Step[] = [
    agentStep('start', null, async (load, subject) => {
      const found: Measurement[] = [];
      for (let i = 0; i < startsPerRound; i += 1) found.push(await measureStart(load, subject));
      return found;
    }),
    ...(envoyPath === undefined
      ? []
      : [converterStep('ready', null, (load, subject) => measureReady(load, subject, envoyPath))]),
    agentStep('idle', null, async (load, subject) => [await measureIdle(load, subject, effort)]),
    ...[null, ...restingSizes].map((sizeBytes) =>
      agentStep('ten-agents', sizeBytes, async (load, subject) => [
        await measureNeighbours(load, subject, sizeBytes, effort),
      ]),
    ),
    ...restingSizes.map((sizeBytes) =>
      agentStep('settled', sizeBytes, async (load, subject) => [
        await measureSettled(load, subject, sizeBytes, effort),
      ]),
    ),
    ...pushSizes.map((sizeBytes) =>
      step('relay', sizeBytes, (load, subject) =>
        measureRelay(load, subject, { sizeBytes, resourceBytes: resourceBytes(sizeBytes) }, effort),
      ),
    ),
    step('first-pushes', null, (load, subject) => measureFirstPushes(load, subject, effort)),
    ...pushSizes
      .slice(-1)
      .map((sizeBytes) =>
        agentStep('stall', sizeBytes, async (load, subject) => [
          await measureStall(load, subject, sizeBytes, effort),
        ]),
      ),
    step('ack-storm', null, (load, subject) => measureAckStorm(load, subject, effort)),
    ...moduleSizes.map((sizeBytes) =>
      converterStep('ecds', sizeBytes, (load, subject) =>
        measureConversion(load, subject, sizeBytes, effort),
      ),
    ),
    ...moduleSizes.map((sizeBytes) =>
      converterStep('ecds-oci', sizeBytes, (load, subject) =>
        measureImageConversion(load, subject, sizeBytes),
      ),
    ),
    converterStep('ecds-count', null, (load, subject) => measureResourceCounts(load, subject, effort)),
    converterStep('many-modules', manyModulesBytes, measureManyModules),
    converterStep('shared-url', sharedUrlModuleBytes, measureSharedUrl),
    ...moduleSizes
      .slice(-1)
      .map((sizeBytes) =>
        converterStep('fetch', sizeBytes, (load, subject) => measureFetch(load, subject, sizeBytes)),
      ),
  ];
  return all.filter(({ scenario }) => options.scenarios.includes(scenario));
}

function step(
  scenario: Scenario,
  sizeBytes: number | null,
  measure: (load: LoadSide, subject: Subject) => Promise<Measurement>,
): Step {
  return { scenario, sizeBytes, measure: async (load, subject) => [await measure(load, subject)] };
}

function agentStep(
  scenario: Scenario,
  sizeBytes: number | null,
  measure: (load: LoadSide, subject: AgentSubject) => Promise<readonly Measurement[]>,
): Step {
  return {
    scenario,
    sizeBytes,
    measure: async (load, subject) => (subject.kind === 'direct' ? [] : await measure(load, subject)),
  };
}

function converterStep(
  scenario: Scenario,
  sizeBytes: number | null,
  measure: (load: LoadSide, subject: Converter) => Promise<Measurement>,
): Step {
  return {
    scenario,
    sizeBytes,
    measure: async (load, subject) =>
      subject.kind === 'ferry' || subject.kind === 'peer' ? [await measure(load, subject)] : [],
  };
}
