import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { OutputTail } from './output-tail.ts';

/** How a child ended. */
export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** True when something it had started was still running; that has been killed. */
  readonly hasLeftProcesses: boolean;
}

export interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Sees each line of output as it comes. */
  readonly onLine?: (line: string) => void;
}

/** Groups that must not outlive this process, however it ends (SIGKILL aside). */
const livingGroups = new Set<number>();

process.on('exit', () => {
  for (const group of livingGroups) killGroup(group);
});

/**
 * A program under test with all that it starts: it leads its own process group, so that its children can be ended
 * with it, and so that Ctrl-C in a terminal reaches only us.
 */
export class Child {
  readonly output: OutputTail;
  /** Settles when the process has ended and its output is read. Rejects when it could not be started. */
  readonly exited: Promise<ChildExit>;
  readonly #process: ChildProcess;

  constructor(options: ChildOptions) {
    this.output = new OutputTail(options.onLine);
    const child = spawn(options.command, [...options.args], {
      cwd: options.cwd,
      env: options.env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    this.output.read(child.stdout);
    this.output.read(child.stderr);
    const { pid } = child;
    if (pid !== undefined) livingGroups.add(pid);
    const { promise, resolve, reject } = Promise.withResolvers<ChildExit>();
    child.once('error', reject);
    // What it left behind in its group goes at once: it may hold our end of the pipes open.
    let hasLeftProcesses = false;
    child.once('exit', () => {
      if (pid === undefined) return;
      hasLeftProcesses = killGroup(pid);
      livingGroups.delete(pid);
    });
    child.once('close', (code, signal) => resolve({ code, signal, hasLeftProcesses }));
    this.exited = promise;
    promise.catch(() => undefined);
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get isRunning(): boolean {
    return (
      this.#process.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
    );
  }

  /** Sends a signal to the program alone, not to what it started. */
  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.#process.kill(signal);
  }

  /** SIGTERM, and after `graceMs` SIGKILL for the whole group. Resolves when all of it is gone. Safe twice. */
  async stop(graceMs: number): Promise<ChildExit> {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.kill(), graceMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }

  /** SIGKILL for the whole group. */
  kill(): void {
    if (this.#process.pid !== undefined && this.isRunning) killGroup(this.#process.pid);
  }
}

/** False when the group was empty. */
function killGroup(group: number): boolean {
  try {
    return process.kill(-group, 'SIGKILL');
  } catch {
    // ESRCH: nothing is left of it.
    return false;
  }
}
