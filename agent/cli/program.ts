import { Command, CommanderError } from 'commander';
import {
  type FlagDefinition,
  proxyFlags,
  requestFlags,
  rootFlags,
  versionFlags,
  waitFlags,
} from '../config/flags.ts';
import { wasmStatusFlags } from '../config/operator-flags.ts';
import { Termination } from '../termination.ts';
import { allFlags, booleanText } from './all-flags.ts';
import { CommandError } from './command-error.ts';
import { addCacheCommands, addModuleCommands, type OperatorShell } from './operator-commands.ts';

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

/**
 * Runs any command line. Resolves with the exit code; `undefined` when the line itself is wrong, which is then written.
 * Throws what the command throws.
 */
export async function runProgram(given: {
  /** As `normalizeArguments` gives them. */
  readonly words: readonly string[];
  readonly unknownFlags: readonly string[];
  /** Epoch ms. */
  readonly processStartedAt: number;
  /** For `proxy`. */
  readonly termination: Termination | undefined;
}): Promise<number | undefined> {
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
        unknownFlags: given.unknownFlags,
        processStartedAt: given.processStartedAt,
        termination: given.termination ?? new Termination(),
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

  try {
    await program.parseAsync(given.words, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : undefined;
  }
  return exitCode;
}
