import type { BenchOptions } from './bench-options.ts';
import type { SampleBook } from './bench-result.ts';
import type { Step } from './bench-steps.ts';
import { formatSize } from './byte-size.ts';
import { LoadSide } from './load-side.ts';
import { type Effort, type Measurement, measureRelay } from './relay-scenarios.ts';
import type { Subject, SubjectFiles } from './subject.ts';

/** Runs all rounds, subjects taking turns, and puts the samples of those that count into `book`. */
export async function runAllRounds(run: {
  readonly options: BenchOptions;
  readonly effort: Effort;
  readonly subjects: readonly Subject[];
  readonly files: SubjectFiles;
  readonly steps: readonly Step[];
  readonly book: SampleBook;
}): Promise<void> {
  const { options, effort, subjects, files, steps, book } = run;
  const { mode, isTls, environment, roundCount, warmUpRoundCount } = options;
  await using load = await LoadSide.start({ mode, isTls, files, environment });
  await warmLoadSide(load, steps, effort);
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

/** Server and client live as long as the run: without this the first subject would pay for their compilation. */
async function warmLoadSide(load: LoadSide, steps: readonly Step[], effort: Effort): Promise<void> {
  const sizes = steps.flatMap(({ scenario, sizeBytes }) =>
    scenario === 'relay' && sizeBytes !== null ? [sizeBytes] : [],
  );
  if (sizes.length > 0) console.error('warming the load side');
  for (const sizeBytes of sizes) {
    const push = { sizeBytes, resourceBytes: undefined };
    await measureRelay(load, { name: 'direct', kind: 'direct' }, push, effort);
  }
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
