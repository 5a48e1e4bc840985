// node test/support/setup.mjs [--envoy] <script.ts> [arguments...]
//
// Brings what a fresh clone lacks (packages, Node 24, with --envoy an Envoy), then runs the script with Node 24 and
// ENVOY_PATH. Plain JavaScript for Node 20 and newer, without packages: it runs before there are any.
// The script's exit code, or the signal that ended it, becomes ours.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepareEnvoy } from './setup-envoy.mjs';
import { SetupError } from './setup-error.mjs';
import { findNode, preparePackages } from './setup-packages.mjs';
import { Steps } from './steps.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');
const passedSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const badUseExitCode = 2;

async function main() {
  const args = process.argv.slice(2);
  const needsEnvoy = args[0] === '--envoy';
  const [script, ...scriptArgs] = needsEnvoy ? args.slice(1) : args;
  if (script === undefined || script.startsWith('-')) {
    throw new SetupError('Usage: node test/support/setup.mjs [--envoy] <script.ts> [arguments...]');
  }
  if (!existsSync(resolve(script))) throw new SetupError(`There is no script ${resolve(script)}.`);
  const { node, environment } = await prepare(needsEnvoy);
  runScript(node, [script, ...scriptArgs], environment);
}

/** Installs what is missing. A signal ends it after the temporary files are gone. */
async function prepare(needsEnvoy) {
  const stop = new AbortController();
  let received;
  const onSignal = (signal) => {
    received = signal;
    stop.abort();
  };
  for (const signal of passedSignals) process.once(signal, onSignal);
  try {
    const steps = new Steps(process.stderr);
    await preparePackages(root, steps, stop.signal);
    const environment = { ...process.env };
    if (needsEnvoy) environment.ENVOY_PATH = await prepareEnvoy(steps, stop.signal);
    return { node: findNode(root), environment };
  } catch (error) {
    if (received !== undefined) process.exit(128 + constants.signals[received]);
    throw error;
  } finally {
    for (const signal of passedSignals) process.off(signal, onSignal);
  }
}

function runScript(node, args, env) {
  const child = spawn(node, args, { stdio: 'inherit', env });
  // A terminal gives Ctrl-C to the whole group: passed on as well, the script would see it twice.
  const isTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  for (const signal of passedSignals) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !isTerminal) child.kill(signal);
    });
  }
  child.once('error', (error) => fail(new SetupError(`${node} cannot be started: ${error.message}`)));
  child.once('exit', (code, signal) => {
    if (signal === null) {
      process.exit(code ?? 1);
      return;
    }
    for (const each of passedSignals) process.removeAllListeners(each);
    process.kill(process.pid, signal);
    // Signals that do not end us (ignored ones) still have to give an exit code.
    setTimeout(() => process.exit(128 + constants.signals[signal]), 1000);
  });
}

function fail(error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`setup: ${error.message}\n`);
  process.exit(error.message.startsWith('Usage') ? badUseExitCode : 1);
}

main().catch(fail);
