import type { Command } from 'commander';
import type { FlagDefinition } from '../config/flags.ts';
import {
  cacheCollectFlags,
  cacheExportFlags,
  cacheListFlags,
  cacheVerifyFlags,
  wasmInspectFlags,
  wasmPullFlags,
} from '../config/operator-flags.ts';
import type { OperatorFlags } from './operator-run.ts';

/** How the entry point makes and ends commands. */
export interface OperatorShell {
  readonly addFlags: (command: Command, flags: readonly FlagDefinition[]) => Command;
  readonly valuesOf: (command: Command) => OperatorFlags;
  /** Notes the exit code of a command that has ended. */
  readonly ended: (exitCode: number) => void;
}

/** Adds `cache` and its commands. Each loads its part only when it runs. */
export function addCacheCommands(program: Command, shell: OperatorShell): void {
  const { addFlags, valuesOf, ended } = shell;
  const cache = program.command('cache').description('look at the module cache, check and clear it');

  addFlags(cache.command('ls'), cacheListFlags)
    .description('list the cached modules: size, last use, who needs them, names')
    .action(async (_, command: Command) => {
      const { listCache } = await import('./cache-ls.ts');
      ended(await listCache(valuesOf(command)));
    });

  addFlags(cache.command('verify'), cacheVerifyFlags)
    .description('hash every cached module again and say what is broken')
    .action(async (_, command: Command) => {
      const [{ verifyCache }, { interruptible }] = await Promise.all([
        import('./cache-verify.ts'),
        import('./operator-run.ts'),
      ]);
      ended(await interruptible(async (signal) => verifyCache(valuesOf(command), signal)));
    });

  addFlags(cache.command('gc'), cacheCollectFlags)
    .description('delete cached modules that nobody needs, and damaged ones')
    .action(async (_, command: Command) => {
      const [{ collectCache }, { interruptible }] = await Promise.all([
        import('./cache-gc.ts'),
        import('./operator-run.ts'),
      ]);
      ended(await interruptible(async (signal) => collectCache(valuesOf(command), signal)));
    });

  addFlags(cache.command('export'), cacheExportFlags)
    .description('write cached modules as images into a new OCI layout folder')
    .argument('<folder>')
    .argument('[modules...]', 'digests (8 digits or more) or names, as cache ls shows them; none: all')
    .action(async (folder: string, modules: readonly string[], _, command: Command) => {
      const [{ exportCache }, { interruptible }] = await Promise.all([
        import('./cache-export.ts'),
        import('./operator-run.ts'),
      ]);
      ended(
        await interruptible(async (signal) => exportCache({ folder, modules }, valuesOf(command), signal)),
      );
    });
}

/** Adds the commands of `wasm` that fetch. Each loads its part only when it runs. */
export function addModuleCommands(wasm: Command, shell: OperatorShell): void {
  const { addFlags, valuesOf, ended } = shell;

  addFlags(wasm.command('inspect'), wasmInspectFlags)
    .description('fetch a module, say how it was found and whether Envoy would be given it; keeps nothing')
    .argument('<reference>', 'oci://, https:// or http:// URL, OCI layout folder, or .wasm file')
    .action(async (reference: string, _, command: Command) => {
      const [{ inspectWasm }, { interruptible }] = await Promise.all([
        import('./wasm-inspect.ts'),
        import('./operator-run.ts'),
      ]);
      ended(await interruptible(async (signal) => inspectWasm(reference, valuesOf(command), signal)));
    });

  addFlags(wasm.command('pull'), wasmPullFlags)
    .description('fetch a module into the module cache, with all checks of the agent')
    .argument('<url>', 'oci://, https:// or http:// URL')
    .action(async (url: string, _, command: Command) => {
      const [{ pullWasm }, { interruptible }] = await Promise.all([
        import('./wasm-pull.ts'),
        import('./operator-run.ts'),
      ]);
      ended(await interruptible(async (signal) => pullWasm(url, valuesOf(command), signal)));
    });
}
