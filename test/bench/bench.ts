/**
 * Measures the relay and the conversion of extension configs, as whole processes, beside a direct connection and a
 * pass-through made with grpc-js. Prints a table and writes one JSON file with all samples.
 *
 *   npm run bench                                   about 6 minutes on two cores
 *   npm run bench -- --quick                        under two minutes, to see that all works
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
 * Linux only: usage is read from /proc.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BenchOptions, BenchUsageError, benchUsage, parseBenchOptions } from './bench-options.ts';
import {
  type BenchDocument,
  metricCatalog,
  SampleBook,
  type Scenario,
  writeBenchDocument,
} from './bench-result.ts';
import { renderTable } from './bench-table.ts';
import { formatSize } from './byte-size.ts';
import { measureFetch } from './fetch-scenario.ts';
import { LoadSide } from './load-side.ts';
import { MachineWatch } from './machine.ts';
import {
  measureConversion,
  measureSharedUrl,
  sharedUrlModuleBytes,
  sharedUrlPluginCount,
} from './plugin-scenarios.ts';
import { clusterBytes } from './push-payload.ts';
import {
  type Effort,
  fullEffort,
  type Measurement,
  measureIdle,
  measureRelay,
  measureStall,
  measureStart,
  quickEffort,
  stalledPushCount,
} from './relay-scenarios.ts';
import {
  commandOf,
  ferrySubject,
  findFerrySubject,
  prepareSubjectFiles,
  type Subject,
  type SubjectFiles,
} from './subject.ts';

/** Starts in one round: one alone says little. */
const startsPerRound = 3;
const usageExitCode = 2;
const signalExitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
const resultsFolder = fileURLToPath(new URL('results/', import.meta.url));

/** One thing to measure for every subject that takes part, in every round. */
interface Step {
  readonly scenario: Scenario;
  readonly sizeBytes: number | null;
  readonly measure: (load: LoadSide, subject: Subject) => Promise<readonly Measurement[]>;
}

async function main(): Promise<void> {
  const options = parseBenchOptions(process.argv.slice(2));
  const { subjects, warnings } = chooseSubjects(options);
  const watch = new MachineWatch();
  warnings.push(...watch.startWarnings);
  for (const warning of warnings) console.error(`WARNING: ${warning}`);

  const startedAt = new Date();
  const files = await prepareSubjectFiles(makeTemporaryFolder());
  const book = new SampleBook(subjects.map(({ name }) => name));
  const effort = options.isQuick ? quickEffort : fullEffort;
  await runAllRounds({ options, effort, subjects, files, book });
  const { machine, warnings: machineWarnings } = watch.finish();

  const document: BenchDocument = {
    schemaVersion: 1,
    kind: 'ferry-bench',
    startedAt: startedAt.toISOString(),
    durationSeconds: Math.round((Date.now() - startedAt.getTime()) / 1000),
    machine,
    settings: {
      mode: options.mode,
      upstream: options.isTls ? 'tls' : 'plaintext',
      rounds: options.roundCount,
      warmUpRounds: options.warmUpRoundCount,
      quick: options.isQuick,
      clusterBytes,
      stalledPushCount,
      stallMs: effort.stallMs,
      idleSettleMs: effort.idleSettleMs,
      sharedUrlPluginCount,
      ...Object.fromEntries(
        Object.entries(options.environment).map(([name, value]) => [`env.${name}`, value]),
      ),
    },
    subjects: subjects.map((subject) => ({ name: subject.name, command: commandOf(subject) ?? null })),
    metrics: metricCatalog,
    series: book.series(),
    warnings: [...warnings, ...machineWarnings],
  };
  const outputPath =
    options.outputPath ?? join(resultsFolder, `${startedAt.toISOString().replaceAll(':', '-')}.json`);
  await writeBenchDocument(outputPath, document);
  process.stdout.write(`${renderTable(document)}\nAll samples: ${outputPath}\n`);
}

async function runAllRounds(run: {
  readonly options: BenchOptions;
  readonly effort: Effort;
  readonly subjects: readonly Subject[];
  readonly files: SubjectFiles;
  readonly book: SampleBook;
}): Promise<void> {
  const { options, effort, subjects, files, book } = run;
  const { mode, isTls, environment, roundCount, warmUpRoundCount } = options;
  await using load = await LoadSide.start({ mode, isTls, files, environment });
  await warmLoadSide(load, options, effort);
  const steps = stepsOf(options, effort);
  for (let round = 0; round < warmUpRoundCount + roundCount; round += 1) {
    const isWarmUp = round < warmUpRoundCount;
    const label = isWarmUp ? 'warm-up' : `round ${round - warmUpRoundCount + 1}/${roundCount}`;
    await runRound({
      label,
      load,
      steps,
      subjects: rotate(subjects, round),
      book: isWarmUp ? undefined : book,
    });
  }
}

function chooseSubjects(options: BenchOptions): {
  readonly subjects: readonly Subject[];
  readonly warnings: string[];
} {
  const warnings: string[] = [];
  const subjects: Subject[] = [];
  const isWanted = (name: string): boolean => options.subjectNames?.includes(name) ?? true;
  if (isWanted('direct')) subjects.push({ name: 'direct', kind: 'direct' });
  else warnings.push('Without the subject direct there is no added latency.');
  if (isWanted('grpc-js')) subjects.push({ name: 'grpc-js', kind: 'grpc-js' });
  if (isWanted('ferry')) {
    const ferry = options.subjectNames === undefined ? findFerrySubject() : ferrySubject();
    if (ferry === undefined)
      warnings.push('ferry is left out: there is neither a bundle nor agent/cli/main.ts.');
    else subjects.push(ferry);
    if (ferry?.program.isStale === true) {
      warnings.push('dist/ferry-agent.cjs is older than its sources: run npm run build.');
    }
    if (ferry?.program.kind === 'source') {
      warnings.push(
        'ferry runs from its source: users run the bundle (npm run build), which starts sooner and is smaller.',
      );
    }
  }
  for (const peer of options.peers) subjects.push({ ...peer, kind: 'peer' });
  if (options.isQuick) warnings.push('A quick run shows that all works; its figures are not to be quoted.');
  return { subjects, warnings };
}

function stepsOf(options: BenchOptions, effort: Effort): readonly Step[] {
  const { pushSizes, moduleSizes } = options;
  const all: readonly Step[] = [
    {
      scenario: 'start',
      sizeBytes: null,
      measure: async (load, subject) => {
        const found: Measurement[] = [];
        if (subject.kind === 'direct') return found;
        for (let i = 0; i < startsPerRound; i += 1) found.push(await measureStart(load, subject));
        return found;
      },
    },
    {
      scenario: 'idle',
      sizeBytes: null,
      measure: async (load, subject) =>
        subject.kind === 'direct' ? [] : [await measureIdle(load, subject, effort)],
    },
    ...pushSizes.map(
      (sizeBytes): Step => ({
        scenario: 'relay',
        sizeBytes,
        measure: async (load, subject) => [await measureRelay(load, subject, sizeBytes, effort)],
      }),
    ),
    ...pushSizes.slice(-1).map(
      (sizeBytes): Step => ({
        scenario: 'stall',
        sizeBytes,
        measure: async (load, subject) =>
          subject.kind === 'direct' ? [] : [await measureStall(load, subject, sizeBytes, effort)],
      }),
    ),
    ...moduleSizes.map(
      (sizeBytes): Step => ({
        scenario: 'ecds',
        sizeBytes,
        measure: async (load, subject) =>
          isConverter(subject) ? [await measureConversion(load, subject, sizeBytes, effort)] : [],
      }),
    ),
    {
      scenario: 'shared-url',
      sizeBytes: sharedUrlModuleBytes,
      measure: async (load, subject) => (isConverter(subject) ? [await measureSharedUrl(load, subject)] : []),
    },
    ...moduleSizes.slice(-1).map(
      (sizeBytes): Step => ({
        scenario: 'fetch',
        sizeBytes,
        measure: async (load, subject) =>
          isConverter(subject) ? [await measureFetch(load, subject, sizeBytes)] : [],
      }),
    ),
  ];
  return all.filter(({ scenario }) => options.scenarios.includes(scenario));
}

/** Server and client live as long as the run: without this the first subject would pay for their compilation. */
async function warmLoadSide(load: LoadSide, options: BenchOptions, effort: Effort): Promise<void> {
  if (!options.scenarios.includes('relay')) return;
  console.error('warming the load side');
  for (const sizeBytes of options.pushSizes) {
    await measureRelay(load, { name: 'direct', kind: 'direct' }, sizeBytes, effort);
  }
}

/** Only agents rewrite extension configs. */
function isConverter(subject: Subject): subject is Extract<Subject, { readonly kind: 'ferry' | 'peer' }> {
  return subject.kind === 'ferry' || subject.kind === 'peer';
}

async function runRound(run: {
  readonly label: string;
  readonly load: LoadSide;
  readonly steps: readonly Step[];
  readonly subjects: readonly Subject[];
  /** Undefined in a warm-up round. */
  readonly book: SampleBook | undefined;
}): Promise<void> {
  const { load, book } = run;
  for (const { scenario, sizeBytes, measure } of run.steps) {
    console.error(`${run.label}: ${scenario}${sizeBytes === null ? '' : ` ${formatSize(sizeBytes)}`}`);
    const found = new Map<Subject, readonly Measurement[]>();
    for (const subject of run.subjects) found.set(subject, await measure(load, subject));
    if (book === undefined) continue;
    const direct = [...found].find(([subject]) => subject.kind === 'direct')?.[1][0];
    for (const [subject, measurements] of found) {
      for (const measurement of measurements) {
        const all = subject.kind === 'direct' ? measurement : withAddedLatency(measurement, direct);
        for (const [metric, value] of Object.entries(all)) {
          book.add({ metric: metric as keyof typeof all, subject: subject.name, sizeBytes }, value);
        }
      }
    }
  }
}

/** What the subject adds to the direct way, in the same round. */
function withAddedLatency(measurement: Measurement, direct: Measurement | undefined): Measurement {
  const { 'latency-p50': p50, 'latency-p99': p99 } = measurement;
  const { 'latency-p50': directP50, 'latency-p99': directP99 } = direct ?? {};
  if (p50 === undefined || p99 === undefined || directP50 === undefined || directP99 === undefined)
    return measurement;
  return { ...measurement, 'added-latency-p50': p50 - directP50, 'added-latency-p99': p99 - directP99 };
}

/** Each round begins with another subject, so that none always follows the same one. */
function rotate<Item>(items: readonly Item[], by: number): readonly Item[] {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}

/** One folder for all files of the run, sockets and module caches included; gone when the process ends. */
function makeTemporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ferry-bench-'));
  process.env['TMPDIR'] = folder;
  process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

// Exit handlers kill the agents and remove the files.
for (const [signal, code] of Object.entries(signalExitCodes)) {
  process.once(signal, () => process.exit(code));
}

try {
  await main();
} catch (error) {
  if (error instanceof BenchUsageError) {
    console.error(`${error.message}\n\n${benchUsage}`);
    process.exit(usageExitCode);
  }
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
