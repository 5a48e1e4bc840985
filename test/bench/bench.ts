/**
 * Measures the relay and the conversion of extension configs, as whole processes, beside a direct connection and a
 * pass-through made with grpc-js. Prints a table and writes one JSON file with all samples.
 *
 *   npm run bench                                   about ten minutes on two cores
 *   npm run bench -- --quick                        two minutes, to see that all works
 *   npm run bench -- --check                        a short run held against baseline.json
 *   npm run bench -- --scenarios relay --sizes 1MB --sotw --tls
 *
 * Build the bundle first (npm run build): without one the agent is run from its source, which starts later and takes
 * more memory than what users run.
 *
 * A peer is any agent with the stock command line. It is run as `CMD proxy router --domain bench.svc.cluster.local`,
 * with DISABLE_ENVOY=true and PROXY_CONFIG in its environment, in a folder laid out like the proxy container, and
 * must open ./etc/istio/proxy/XDS there:
 *
 *   npm run bench -- --peer stock=/path/to/pilot-agent
 *
 * The stock agent keeps modules in /var/lib/istio/data, whatever its folder is, and does not make that folder: make
 * it before (and empty it afterwards), or give the peer a private one (as root):
 *
 *   npm run bench -- --peer "stock=unshare -m sh -c 'mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/istio/data \
 *     && exec /path/to/pilot-agent \"\$@\"' sh"
 *
 * Agents get CLOUD_PLATFORM=none: without it the stock agent asks the metadata servers of three clouds before it opens
 * its socket, and its start depends on the network (`--env CLOUD_PLATFORM=` takes the variable away).
 *
 * The scenario `ready` starts Envoy: the stock agent then wants its template, `--env ISTIO_BOOTSTRAP=<file>`.
 *
 * Linux only: usage is read from /proc.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { envoyBinary } from '../support/envoy.ts';
import { exitOnSignals, holdTemporaryFolder } from '../support/run-end.ts';
import {
  BaselineError,
  baselineOf,
  betterOf,
  isFailure,
  type Judgement,
  judge,
  ratiosOf,
  readBaseline,
  renderJudgements,
} from './bench-baseline.ts';
import { type BenchOptions, BenchUsageError, benchUsage, parseBenchOptions } from './bench-options.ts';
import { type BenchDocument, SampleBook, writeBenchDocument } from './bench-result.ts';
import { runAllRounds } from './bench-rounds.ts';
import { type Step, stepsOf } from './bench-steps.ts';
import { renderTable } from './bench-table.ts';
import { chooseSubjects } from './chosen-subjects.ts';
import { MachineWatch } from './machine.ts';
import { metricCatalog } from './metric-catalog.ts';
import { manyModulesCount, sharedUrlPluginCount } from './plugin-scenarios.ts';
import { clusterBytes } from './push-payload.ts';
import { checkEffort, type Effort, fullEffort, quickEffort, stalledPushCount } from './relay-scenarios.ts';
import { commandOf, prepareSubjectFiles, type Subject, type SubjectFiles } from './subject.ts';

const lossExitCode = 1;
const usageExitCode = 2;
const resultsFolder = fileURLToPath(new URL('results/', import.meta.url));
/** Their figures of grpc-js are what others are divided by. */
const yardstickScenarios: readonly string[] = ['start', 'idle'];

/** What all measuring of one invocation shares. */
interface Bench {
  readonly options: BenchOptions;
  readonly effort: Effort;
  readonly subjects: readonly Subject[];
  readonly files: SubjectFiles;
  readonly warnings: readonly string[];
}

async function main(): Promise<number> {
  const options = parseBenchOptions(process.argv.slice(2));
  const { purpose } = options;
  const baseline = purpose.kind === 'check' ? await readBaseline(purpose.baselinePath) : undefined;
  const { subjects, warnings } = chooseSubjects(options);
  if (purpose.kind !== 'measure') requireBundle(subjects);
  const envoyPath = envoyBinary().path;
  if (envoyPath === undefined && options.scenarios.includes('ready')) {
    warnings.push('Without ENVOY_PATH there is no start to readiness.');
  }
  const files = await prepareSubjectFiles(holdTemporaryFolder('bench'));
  const bench: Bench = { options, effort: effortOf(options), subjects, files, warnings };
  const steps = stepsOf(options, bench.effort, envoyPath);
  const document = await measure(bench, steps);
  const name = `${document.startedAt.replaceAll(':', '-')}.json`;
  const outputPath = options.outputPath ?? join(resultsFolder, name);
  await writeBenchDocument(outputPath, document);
  process.stdout.write(`${renderTable(document)}\nAll samples: ${outputPath}\n`);
  switch (purpose.kind) {
    case 'measure':
      return 0;
    case 'save-baseline':
      await writeFile(purpose.baselinePath, `${JSON.stringify(baselineOf(document), undefined, 2)}\n`);
      process.stdout.write(`\nBaseline: ${purpose.baselinePath}\n`);
      return 0;
    case 'check': {
      if (baseline === undefined) throw new Error('A check without its baseline.');
      let judgements = judge(baseline, ratiosOf(document));
      const again = stepsToRepeat(steps, judgements);
      if (again.length > 0) {
        console.error('something was lost: a second look');
        judgements = betterOf(judgements, judge(baseline, ratiosOf(await measure(bench, again))));
      }
      process.stdout.write(`\n${renderJudgements(baseline, judgements)}`);
      return isFailure(judgements) ? lossExitCode : 0;
    }
    default:
      return purpose satisfies never;
  }
}

/** A check of the source would be held against a baseline of the bundle. */
function requireBundle(subjects: readonly Subject[]): void {
  const program = subjects.find((subject) => subject.kind === 'ferry')?.program;
  if (program?.kind !== 'bundle' || program.isStale) {
    throw new BenchUsageError('A check measures the bundle as it is in the tree: run npm run build first.');
  }
}

function effortOf({ purpose, isQuick }: BenchOptions): Effort {
  if (purpose.kind !== 'measure') return checkEffort;
  return isQuick ? quickEffort : fullEffort;
}

/** The steps of what was lost, with those that measure its yardsticks. */
function stepsToRepeat(steps: readonly Step[], judgements: readonly Judgement[]): readonly Step[] {
  const lost = judgements.filter(({ verdict }) => verdict === 'lost');
  if (lost.length === 0) return [];
  return steps.filter(
    ({ scenario, sizeBytes }) =>
      yardstickScenarios.includes(scenario) ||
      lost.some((each) => metricCatalog[each.metric].scenario === scenario && each.sizeBytes === sizeBytes),
  );
}

async function measure(bench: Bench, steps: readonly Step[]): Promise<BenchDocument> {
  const { options, effort, subjects, files } = bench;
  const watch = new MachineWatch();
  const warnings = [...bench.warnings, ...watch.startWarnings];
  for (const warning of warnings) console.error(`WARNING: ${warning}`);
  const startedAt = new Date();
  const book = new SampleBook(subjects.map(({ name }) => name));
  await runAllRounds({ options, effort, subjects, files, steps, book });
  const { machine, warnings: machineWarnings } = watch.finish();
  return {
    schemaVersion: 1,
    kind: 'ferry-bench',
    startedAt: startedAt.toISOString(),
    durationSeconds: Math.round((Date.now() - startedAt.getTime()) / 1000),
    machine,
    settings: {
      purpose: options.purpose.kind,
      mode: options.mode,
      upstream: options.isTls ? 'tls' : 'plaintext',
      rounds: options.roundCount,
      warmUpRounds: options.warmUpRoundCount,
      quick: options.isQuick,
      ...(options.resourceCount === undefined ? { clusterBytes } : { resources: options.resourceCount }),
      stalledPushCount,
      stallMs: effort.stallMs,
      idleSettleMs: effort.idleSettleMs,
      ackCount: effort.ackCount,
      sharedUrlPluginCount,
      manyModulesCount,
      ...Object.fromEntries(
        Object.entries(options.environment).map(([name, value]) => [`env.${name}`, value]),
      ),
    },
    subjects: subjects.map((subject) => ({ name: subject.name, command: commandOf(subject) ?? null })),
    metrics: metricCatalog,
    series: book.series(),
    warnings: [...warnings, ...machineWarnings],
  };
}

exitOnSignals();

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof BaselineError) {
    console.error(error.message);
    process.exit(usageExitCode);
  }
  if (error instanceof BenchUsageError) {
    console.error(`${error.message}\n\n${benchUsage}`);
    process.exit(usageExitCode);
  }
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
