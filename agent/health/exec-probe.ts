import { type ChildProcess, spawn } from 'node:child_process';
import { describeError } from '../log.ts';
import { ProbeError } from './probe-error.ts';

/**
 * Succeeds when the command ends with code 0. It gets no input and its output is thrown away. When the signal is
 * aborted, it and what it has started are killed. Throws ProbeError `exec`, or the signal's reason.
 */
export async function probeExec(
  command: readonly [string, ...string[]],
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const { signal } = options;
  signal.throwIfAborted();
  const [program, ...args] = command;
  // A group of its own, so that a shell's children can be killed with it.
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  const onAbort = (): void => killGroup(child);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const exit = await new Promise<string | undefined>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signalName) =>
        resolve(code === 0 ? undefined : signalName === null ? `exit code ${code}` : `signal ${signalName}`),
      );
    });
    signal.throwIfAborted();
    if (exit !== undefined) throw new ProbeError('exec', `command ${program} ended with ${exit}`);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ProbeError) throw error;
    throw new ProbeError('exec', `command ${program} cannot be run: ${describeError(error)}`, {
      cause: error,
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has ended in the meantime.
  }
}
