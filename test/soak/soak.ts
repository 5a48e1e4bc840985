/**
 * Runs the agent's whole process with a real Envoy for as long as it is told, while everything around it misbehaves,
 * and looks whether it keeps its promises: it lives, every push is answered once, what is asked for comes into force,
 * its status port answers, and nothing grows. Exit code 1 when a promise was broken.
 *
 *   npm run soak -- --minutes 5
 *   npm run soak                      an hour
 *
 * Linux only: usage is read from /proc.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { httpGet } from '../support/http-get.ts';
import { poll } from '../support/polling.ts';
import { exitOnSignals, holdTemporaryFolder } from '../support/run-end.ts';
import { SeededRandom } from '../support/seeded-random.ts';
import { type Disturbance, disturbances } from './disturbances.ts';
import { type ProcessSample, takeSample } from './process-sample.ts';
import { PushLedger } from './push-ledger.ts';
import { parseSoakOptions, type SoakOptions, SoakUsageError, soakUsage } from './soak-options.ts';
import {
  growthProblems,
  type IdentityReport,
  identityProblems,
  renderSoak,
  type SoakDocument,
  trendsOf,
} from './soak-report.ts';
import { SoakScene } from './soak-scene.ts';
import { Traffic } from './traffic.ts';
import { trafficSources } from './traffic-sources.ts';

const brokenExitCode = 1;
const usageExitCode = 2;
const msPerMinute = 60_000;
/** Envoy waits up to 30 s before it connects again; a fetch and its retries come on top. */
const quietDeadlineMs = 120_000;
const answerDeadlineMs = 60_000;
/** Connections that are no longer used are closed soon after; what is kept longer is to be seen. */
const settleMs = 300;
/** Of the journal, after a failure. */
const shownEntryCount = 60;
const resultsFolder = fileURLToPath(new URL('results/', import.meta.url));

/** A soak under way. */
class Soak {
  readonly samples: ProcessSample[] = [];
  readonly ledger = new PushLedger();
  readonly disturbanceCounts: Record<string, number> = Object.fromEntries(
    disturbances.map(({ name }) => [name, 0]),
  );
  cycleCount = 0;
  readonly #scene: SoakScene;
  readonly #random: SeededRandom;
  readonly #startedAtMs = performance.now();
  #undo: (() => void)[] = [];
  #lastSeq = 0;

  constructor(scene: SoakScene, random: SeededRandom) {
    this.#scene = scene;
    this.#random = random;
  }

  get minutes(): number {
    return (performance.now() - this.#startedAtMs) / msPerMinute;
  }

  /** Disturbs and looks, in turns, until the time is over. Throws Error when the agent does not come to rest. */
  async run(minutes: number): Promise<void> {
    await this.#comeToRest();
    while (this.minutes < minutes) {
      const count = this.#random.integer(3, 6);
      for (let index = 0; index < count; index += 1) {
        await this.#disturb(this.#random.pick(disturbances));
        await sleep(this.#random.integer(0, 700));
        this.#readJournal();
      }
      await this.#comeToRest();
      this.samples.push(await takeSample(this.#scene.agentPid, this.#scene.probeSocketPath, this.minutes));
      this.cycleCount += 1;
      if (this.ledger.problemCount > 0) break;
    }
  }

  async #disturb({ name, run }: Disturbance): Promise<void> {
    this.disturbanceCounts[name] = (this.disturbanceCounts[name] ?? 0) + 1;
    await run({
      scene: this.#scene,
      random: this.#random,
      undo: (action) => this.#undo.push(action),
    });
  }

  /** Undoes what was disturbed, asks for one plugin, and waits until it is in force and every push is answered. */
  async #comeToRest(): Promise<void> {
    const { controlPlane, agent } = this.#scene;
    for (const action of this.#undo) action();
    this.#undo = [];
    this.#scene.pushBallast([]);
    const { url, label } = this.#scene.builds[this.cycleCount % this.#scene.builds.length] ?? {
      url: '',
      label: '',
    };
    const pushed = this.#scene.pushPlugin(url, label);
    await poll(
      async () => {
        this.#readJournal();
        const seen = await this.#scene.shown();
        return seen === pushed.shown ? { done: true, value: undefined } : { done: false, seen };
      },
      { what: `Answers by ${pushed.shown}`, deadlineMs: quietDeadlineMs },
    );
    await controlPlane.waitForAck('ecds', { version: pushed.version, timeoutMs: answerDeadlineMs });
    await poll(
      async () => {
        this.#readJournal();
        const open = this.ledger.unanswered();
        return open.length === 0 ? { done: true, value: undefined } : { done: false, seen: open.join('; ') };
      },
      { what: 'A verdict on every push', deadlineMs: answerDeadlineMs },
    );
    await poll(
      async () => {
        const { status } = await httpGet(`${agent.statusUrl}/healthz/ready`);
        return status === 200 ? { done: true, value: undefined } : { done: false, seen: `status ${status}` };
      },
      { what: 'Readiness', deadlineMs: answerDeadlineMs },
    );
    await sleep(settleMs);
  }

  /** Gives the ledger what has happened since the last look. */
  #readJournal(): void {
    const { entries } = this.#scene.controlPlane.journal;
    const next = entries.findLastIndex(({ seq }) => seq <= this.#lastSeq) + 1;
    const first = entries[next];
    if (first !== undefined && first.seq !== this.#lastSeq + 1) {
      throw new Error(
        `The journal has lost entries ${this.#lastSeq + 1} to ${first.seq - 1}: pushes cannot be accounted for.`,
      );
    }
    for (const entry of entries.slice(next)) {
      this.ledger.take(entry);
      this.#lastSeq = entry.seq;
    }
  }
}

async function main(): Promise<number> {
  const options = parseSoakOptions(process.argv.slice(2));
  const startedAt = new Date();
  process.stdout.write(`soak of ${options.minutes} minutes over ${options.mode}, seed ${options.seed}\n`);
  holdTemporaryFolder('soak');
  await using scene = await SoakScene.start(options);
  process.stdout.write(`the agent runs from its ${scene.programKind}\n`);
  const soak = new Soak(scene, new SeededRandom(options.seed));
  const traffic = new Traffic(trafficSources(scene));
  const ended = scene.agent.exited.then((exit) => {
    throw new Error(`The agent ended by itself: ${exit.signal ?? `exit code ${exit.code}`}`);
  });
  // It ends in any case when the soak is over.
  ended.catch(() => undefined);
  const problems: string[] = [];
  try {
    await Promise.race([soak.run(options.minutes), ended]);
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
    process.stderr.write(`The end of the agent's log:\n${scene.agent.logTail()}\n`);
    process.stderr.write(`The control plane has ${scene.controlPlane.journal.describe(shownEntryCount)}\n`);
  }
  scene.signalEnvoy('SIGCONT');
  await traffic.stop();
  const document = documentOf(options, startedAt, { scene, soak, traffic, problems });
  const outputPath =
    options.outputPath ?? join(resultsFolder, `${document.startedAt.replaceAll(':', '-')}.json`);
  await mkdir(dirname(outputPath), { recursive: true });
  await writeFile(outputPath, `${JSON.stringify(document, undefined, 2)}\n`);
  process.stdout.write(`\n${renderSoak(document)}\nAll samples: ${outputPath}\n`);
  return document.problems.length === 0 ? 0 : brokenExitCode;
}

function documentOf(
  options: SoakOptions,
  startedAt: Date,
  run: {
    readonly scene: SoakScene;
    readonly soak: Soak;
    readonly traffic: Traffic;
    readonly problems: readonly string[];
  },
): SoakDocument {
  const { scene, soak, traffic } = run;
  const trends = trendsOf(soak.samples);
  const identity: IdentityReport = {
    ...scene.mesh.counts,
    certificateCount: scene.meshClient.serials.size,
    keptConnectionCount: scene.meshClient.keptConnectionCount,
  };
  return {
    schemaVersion: 1,
    kind: 'ferry-soak',
    startedAt: startedAt.toISOString(),
    minutes: Math.round(soak.minutes * 10) / 10,
    seed: options.seed,
    mode: options.mode,
    program: scene.programKind,
    cycleCount: soak.cycleCount,
    disturbances: soak.disturbanceCounts,
    pushes: soak.ledger.totals,
    traffic: traffic.counts,
    identity,
    trends,
    samples: soak.samples,
    problems: [
      ...run.problems,
      ...soak.ledger.problems,
      ...traffic.problems,
      ...identityProblems(identity, soak.minutes),
      ...scene.forbiddenLines.map((line) => `the log has a line that must not be there: ${line}`),
      ...growthProblems(trends),
    ],
  };
}

exitOnSignals();

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof SoakUsageError) {
    console.error(`${error.message}\n\n${soakUsage}`);
    process.exit(usageExitCode);
  }
  console.error(error instanceof Error ? error.message : error);
  process.exit(brokenExitCode);
}
