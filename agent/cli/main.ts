/** Entry point of `ferry-agent`, which is installed as `pilot-agent` too. Each command loads its part only when it runs. */
import { Command, CommanderError } from 'commander';
import {
  type FlagDefinition,
  proxyFlags,
  requestFlags,
  rootFlags,
  versionFlags,
  waitFlags,
} from '../config/flags.ts';
import { parseGoBoolean } from '../config/go-values.ts';
import { operatorCommands, wasmStatusFlags } from '../config/operator-flags.ts';
import { Termination } from '../termination.ts';
import { CommandError } from './command-error.ts';
import { findCommand, normalizeArguments } from './go-arguments.ts';
import { addCacheCommands, addModuleCommands, type OperatorShell } from './operator-commands.ts';

/** `-1` of the stock agent. */
const failureCode = 255;

const allFlags: readonly FlagDefinition[] = [
  ...rootFlags,
  ...proxyFlags,
  ...waitFlags,
  ...requestFlags,
  ...versionFlags,
  ...operatorCommands.flatMap(({ flags }) => flags),
];

type Options = Record<string, string | string[]>;

function addFlags(command: Command, flags: readonly FlagDefinition[]): Command {
  for (const { name, short, type, default: fallback, meaning } of flags) {
    const text = `${short === undefined ? '' : `-${short}, `}--${name} <${type === 'boolean' ? 'true|false' : 'value'}>`;
    if (type !== 'text list') command.option(text, meaning, fallback);
    else {
      // The first value given takes the place of the default.
      const items: string[] = [];
      command.option(text, meaning, (value: string) => (items.push(value), items), [fallback]);
    }
  }
  return command;
}

/** Values by the flag's own name; the command library has them in camelCase where a name has dashes. Throws CommandError. */
function valuesOf(command: Command): Options {
  const options = command.optsWithGlobals<Options>();
  return Object.fromEntries(
    allFlags.flatMap(({ name, type }) => {
      const camelName = name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
      const value = options[name] ?? options[camelName];
      if (value === undefined) return [];
      return [[name, type === 'boolean' ? booleanText(name, String(value)) : value] as const];
    }),
  );
}

function booleanText(name: string, text: string): string {
  const value = parseGoBoolean(text);
  if (value !== undefined) return String(value);
  throw new CommandError([`invalid argument ${JSON.stringify(text)} for "--${name}": use true or false`]);
}

async function main(given: readonly string[]): Promise<number> {
  const commandName = findCommand(given, allFlags);
  if (commandName === 'istio-iptables') {
    const { runStockCommand } = await import('./stock-command.ts');
    return runStockCommand(given);
  }
  using termination = commandName === 'proxy' ? new Termination() : undefined;
  const { arguments: words, unknownFlags } = normalizeArguments(given, allFlags, {
    dropsUnknown: commandName === 'proxy' || commandName === undefined,
  });
  let exitCode = 0;
  const program = addFlags(new Command('pilot-agent'), rootFlags)
    .description('Agent of an Istio data plane: runs beside Envoy, and starts it.')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'Error: ')) })
    .usage('[options] [command]')
    .argument('[command]')
    .helpCommand('help [command]', 'display help for command')
    .allowExcessArguments()
    .action((name: string | undefined) => {
      if (name !== undefined) {
        throw new CommandError([
          `unknown command ${JSON.stringify(name)} for "pilot-agent": see pilot-agent --help`,
        ]);
      }
      program.outputHelp();
    });

  addFlags(program.command('proxy'), proxyFlags)
    .description('run the agent: sidecar (default), router or waypoint')
    .argument('[type]')
    .allowExcessArguments()
    .action(async (type: string | undefined, _, command: Command) => {
      const { runProxy } = await import('./proxy.ts');
      exitCode = await runProxy({
        type,
        flags: valuesOf(command),
        unknownFlags,
        processStartedAt,
        termination: termination ?? new Termination(),
      });
    });

  addFlags(program.command('wait'), waitFlags)
    .description('wait until Envoy is ready')
    .action(async (_, command: Command) => {
      const [{ waitUntilReady }, { LogRoot }, { readNumberOption }] = await Promise.all([
        import('./wait.ts'),
        import('../log.ts'),
        import('./number-option.ts'),
      ]);
      const values = valuesOf(command);
      const number = (name: string) => readNumberOption(name, String(values[name]));
      const log = new LogRoot({
        format: 'text',
        levels: new Map(),
        write: (line) => process.stdout.write(line),
      }).scope('default');
      await waitUntilReady(
        {
          url: String(values['url']),
          timeoutMs: number('timeoutSeconds') * 1000,
          requestTimeoutMs: number('requestTimeoutMillis'),
          periodMs: number('periodMillis'),
        },
        log,
      );
    });

  addFlags(program.command('request'), requestFlags)
    .description('make one HTTP request to a local port and print the body')
    .argument('<method>')
    .argument('<path>')
    .argument('[body]')
    .allowExcessArguments()
    .action(async (method: string, path: string, body: string | undefined, _, command: Command) => {
      const [{ requestLocal }, { readNumberOption }] = await Promise.all([
        import('./request.ts'),
        import('./number-option.ts'),
      ]);
      const port = readNumberOption('debug-port', String(valuesOf(command)['debug-port']));
      await requestLocal({ port, method, path, body: body ?? '' }, process.stdout);
    });

  addFlags(program.command('version'), versionFlags)
    .description('print the version')
    .action(async (_, command: Command) => {
      const [{ formatVersion }, { buildInfo }] = await Promise.all([
        import('./version.ts'),
        import('./build-info.ts'),
      ]);
      const values = valuesOf(command);
      const isShort = values['short'] === 'true';
      process.stdout.write(formatVersion(buildInfo(), { isShort, output: String(values['output']) }));
    });

  const wasm = program.command('wasm').description('look at Wasm plugins');

  addFlags(wasm.command('status'), wasmStatusFlags)
    .description('what the running agent says of each plugin')
    .action(async (_, command: Command) => {
      const [{ wasmStatus }, { readNumberOption }] = await Promise.all([
        import('./wasm-status.ts'),
        import('./number-option.ts'),
      ]);
      const values = valuesOf(command);
      const text = await wasmStatus({
        port: readNumberOption('status-port', String(values['status-port'])),
        isJson: values['json'] === 'true',
        isColoured: process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '',
      });
      process.stdout.write(text);
    });

  const shell: OperatorShell = {
    addFlags,
    valuesOf,
    ended: (code) => {
      exitCode = code;
    },
  };
  addModuleCommands(wasm, shell);
  addCacheCommands(program, shell);

  program
    .command('completion')
    .description('print the completion script of a shell')
    .argument('<shell>', 'bash, zsh or fish')
    .option('--no-descriptions', 'accepted without effect in bash')
    .action(async (shell: string, options: { readonly descriptions: boolean }) => {
      const { completionScript, commandTree } = await import('./completion.ts');
      const tree = commandTree(program);
      process.stdout.write(completionScript(shell, tree, { hasDescriptions: options.descriptions }));
    });

  await program.parseAsync(words, { from: 'user' });
  return exitCode;
}

/** Those that have exit codes of their own (`operator-run.ts`); the others have the stock agent's. */
function isOperatorCommand(given: readonly string[]): boolean {
  const { arguments: words } = normalizeArguments(given, allFlags, { dropsUnknown: false });
  const [first = '', second = ''] = words.filter((word) => !word.startsWith('-'));
  return first === 'cache' || (first === 'wasm' && second !== 'status');
}

function exitCodeOf(error: unknown, given: readonly string[]): number {
  const isOperators = isOperatorCommand(given);
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    return isOperators ? 2 : failureCode;
  }
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
