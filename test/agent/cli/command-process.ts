import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The program. */
export const main = fileURLToPath(new URL('../../../agent/cli/main.ts', import.meta.url));

/** What a command left behind. */
export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a command is run. */
export interface CommandOptions {
  /** All it has beside PATH. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Sent to the command when `isDue` resolves. */
  readonly interruption?: { readonly name: NodeJS.Signals; readonly isDue: Promise<void> };
}

/** Runs the command line to its end, with nothing of the test's environment but PATH. */
export async function runCommand(
  words: readonly string[],
  { env, cwd, interruption }: CommandOptions = {},
): Promise<CommandResult> {
  const child = spawn(process.execPath, [main, ...words], {
    ...(cwd === undefined ? {} : { cwd }),
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  const { promise: ended, resolve, reject } = Promise.withResolvers<number | null>();
  child.once('error', reject);
  child.once('close', resolve);
  if (interruption !== undefined) {
    // A command that ends before tells so by its code.
    await Promise.race([interruption.isDue, ended]);
    child.kill(interruption.name);
  }
  return { code: await ended, ...output };
}
