/** Entry point of `ferry-agent`, which is installed as `pilot-agent` too. Each command loads its part only when it runs. */
import { Termination } from '../termination.ts';
import { allFlags } from './all-flags.ts';
import { CommandError } from './command-error.ts';
import { findCommand, normalizeArguments } from './go-arguments.ts';
import { readPlainProxy } from './plain-proxy.ts';

/** `-1` of the stock agent. */
const failureCode = 255;

/** Those of the traffic rules. Images of Istio before 1.25 have the second too. */
const stockCommands: ReadonlySet<string> = new Set(['istio-iptables', 'istio-clean-iptables']);

async function main(given: readonly string[]): Promise<number> {
  const commandName = findCommand(given, allFlags);
  if (commandName !== undefined && stockCommands.has(commandName)) {
    const { runStockCommand } = await import('./stock-command.ts');
    return runStockCommand(given);
  }
  using termination = commandName === 'proxy' ? new Termination() : undefined;
  const { arguments: words, unknownFlags } = normalizeArguments(given, allFlags, {
    dropsUnknown: commandName === 'proxy' || commandName === undefined,
  });
  const plainProxy = commandName === 'proxy' ? readPlainProxy(words) : undefined;
  if (plainProxy !== undefined) {
    const { runProxy } = await import('./proxy.ts');
    return await runProxy({
      ...plainProxy,
      unknownFlags,
      processStartedAt,
      termination: termination ?? new Termination(),
    });
  }
  const { runProgram } = await import('./program.ts');
  const code = await runProgram({ words, unknownFlags, processStartedAt, termination });
  return code ?? (isOperatorCommand(given) ? 2 : failureCode);
}

/** Those that have exit codes of their own (`operator-run.ts`); the others have the stock agent's. */
function isOperatorCommand(given: readonly string[]): boolean {
  const { arguments: words } = normalizeArguments(given, allFlags, { dropsUnknown: false });
  const [first = '', second = ''] = words.filter((word) => !word.startsWith('-'));
  return first === 'cache' || (first === 'wasm' && second !== 'status');
}

function exitCodeOf(error: unknown, given: readonly string[]): number {
  const isOperators = isOperatorCommand(given);
  const lines =
    error instanceof CommandError ? error.lines : [error instanceof Error ? error.message : String(error)];
  process.stderr.write(lines.map((line) => `Error: ${line}\n`).join(''));
  if (error instanceof CommandError) return error.exitCode;
  return isOperators ? 1 : failureCode;
}

const processStartedAt = Date.now() - Math.round(process.uptime() * 1000);
// A reader that has gone away must not end the agent by an unhandled event.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});
/** The agent itself must end although nobody reads its log any more; a person may read a dump for hours. */
const logPatienceMs = 5_000;
const given = process.argv.slice(2);
main(given).then(leave, (error: unknown) => leave(exitCodeOf(error, given)));

/**
 * Leaves even when something still holds the event loop, but not before all output is taken: what a full pipe has not
 * taken yet waits in the process, and istioctl would read a dump that is cut.
 */
function leave(code: number): void {
  if (findCommand(given, allFlags) === 'proxy') setTimeout(() => process.exit(code), logPatienceMs);
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
}
