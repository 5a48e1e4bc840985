// node test/demo/demo.ts [--keep]
//
// The whole story on one machine: a control plane, a registry, Ferry and a real Envoy. Exit code 0: all was as
// promised; 1: something was not; 2: bad use; 130 and so on: ended by a signal. Nothing is left behind.
import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import type { AgentProcess } from '../support/agent-process.ts';
import { describeExit } from '../support/envoy.ts';
import { Steps } from '../support/steps.mjs';
import { showAddresses, showMetrics } from './closing.ts';
import { expectAnswer } from './expectation.ts';
import { setStage } from './stage.ts';
import { basicAuth, firstUser, playStory } from './story.ts';

const usage = 'Usage: npm run demo -- [--keep]\n  --keep  leave everything running until Ctrl-C';

/** Ends the demo early; carries the signal that did it. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
    this.signal = signal;
  }
}

async function main(): Promise<number> {
  let isKept: boolean;
  try {
    isKept = parseArgs({ options: { keep: { type: 'boolean', default: false } } }).values.keep;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}\n`);
    return 2;
  }
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Also the second Ctrl-C is taken: the clean-up has a deadline of its own.
    process.on(signal, () => stop.abort(new Interrupted(signal)));
  }
  const steps = new Steps(process.stdout);
  const startMs = performance.now();
  let exitCode = 0;
  let agent: AgentProcess | undefined;
  const cleanup = new AsyncDisposableStack();
  try {
    steps.heading('Ferry: Wasm plugins from a registry to Envoy');
    const stage = await setStage({
      cleanup,
      steps,
      signal: stop.signal,
      onAgent: (started) => {
        agent = started;
        // Without the agent no promise can come true: the step that waits for one ends at once.
        started.exited.then(
          (exit) => stop.abort(new Error(`The agent ended by itself with ${describeExit(exit)}.`)),
          (error: unknown) => stop.abort(error),
        );
      },
    });
    await playStory(stage, steps, stop.signal);
    await showMetrics(stage, steps, stop.signal);
    if (isKept) {
      stage.apply(basicAuth(stage, [firstUser]));
      await expectAnswer(stage.gatewayUrl, { path: '/productpage', status: 401 }, { signal: stop.signal });
    }
    showAddresses(stage, steps, isKept);
    if (isKept) await untilInterrupted(stop.signal);
  } catch (error) {
    exitCode = report(error, agent);
  }
  try {
    await steps.run('Everything ended', () => cleanup.disposeAsync());
  } catch (error) {
    process.stderr.write(`The clean-up failed: ${error instanceof Error ? error.message : String(error)}\n`);
    exitCode ||= 1;
  }
  steps.line(
    `${exitCode === 0 ? 'All as promised' : 'Not finished'}, ${((performance.now() - startMs) / 1000).toFixed(1)} s.`,
  );
  return exitCode;
}

/** Resolves at Ctrl-C. Rejects when the demo ends for another reason. */
async function untilInterrupted(signal: AbortSignal): Promise<void> {
  // A listener alone does not keep the process; the servers on the stage do.
  const aborted = Promise.withResolvers<void>();
  if (signal.aborted) aborted.resolve();
  signal.addEventListener('abort', () => aborted.resolve(), { once: true });
  await aborted.promise;
  if (!(signal.reason instanceof Interrupted)) throw signal.reason;
}

/** Says what went wrong and returns the exit code for it. */
function report(error: unknown, agent: AgentProcess | undefined): number {
  if (error instanceof Interrupted) {
    process.stderr.write(`Interrupted (${error.signal}).\n`);
    return 128 + constants.signals[error.signal];
  }
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`\n${message}\n`);
  // What fails while the agent starts brings the log with it.
  if (agent !== undefined && !message.includes(agent.logTail(1))) {
    process.stderr.write(`\nThe end of the agent's log:\n${agent.logTail()}\n`);
  }
  return 1;
}

process.exitCode = await main();
