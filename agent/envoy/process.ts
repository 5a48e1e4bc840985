import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { CodedError } from '../coded-error.ts';
import type { EnvoyConfig } from '../config/agent-config.ts';
import type { EnvironmentRecord } from '../config/environment.ts';
import { envoyEnvironment } from './environment.ts';

export type EnvoyProcessErrorCode = 'not_found' | 'not_executable' | 'spawn';

/** Envoy could not be started. The message names the binary and what to do. */
export class EnvoyProcessError extends CodedError<EnvoyProcessErrorCode> {
  override readonly name = 'EnvoyProcessError';
}

/** How Envoy ended. */
export type EnvoyExit =
  | { readonly kind: 'exited'; readonly code: number }
  /** `isByAgent`: killed on purpose; else somebody else did, for example the kernel for want of memory. */
  | { readonly kind: 'killed'; readonly signal: NodeJS.Signals; readonly isByAgent: boolean };

type Launch = Pick<EnvoyConfig, 'binaryPath' | 'arguments' | 'extraEnvironment' | 'workingFolder' | 'runAs'>;

/**
 * One running Envoy. It writes to the agent's own stdout and stderr, works in the agent's root folder (the paths of
 * its bootstrap are relative) and is ended by SIGKILL alone: SIGTERM would close listeners while they drain
 * (istio/istio `pkg/envoy/proxy.go`).
 */
export class EnvoyProcess {
  /** Resolves once, when Envoy is gone; never rejects. */
  readonly exited: Promise<EnvoyExit>;
  readonly pid: number;
  readonly #child: ChildProcess;
  #isKillAsked = false;

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
    // Whatever way the agent ends in order, Envoy goes with it.
    const killWithAgent = () => {
      child.kill('SIGKILL');
    };
    process.once('exit', killWithAgent);
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        process.off('exit', killWithAgent);
        resolve(
          signal === null
            ? { kind: 'exited', code: code ?? 0 }
            : { kind: 'killed', signal, isByAgent: this.#isKillAsked },
        );
      });
    });
  }

  /** Starts Envoy; resolves when the process runs. Throws EnvoyProcessError. */
  static async start(launch: Launch, environment: EnvironmentRecord): Promise<EnvoyProcess> {
    // Not before the XDS socket is there.
    const { spawn } = await import('node:child_process');
    const child = spawn(launch.binaryPath, launch.arguments, {
      cwd: launch.workingFolder,
      env: envoyEnvironment(environment, launch.extraEnvironment),
      stdio: 'inherit',
      ...(launch.runAs === undefined ? {} : { uid: launch.runAs.userId, gid: launch.runAs.groupId }),
    });
    // Made before waiting: Envoy may be gone again when `spawn` has been seen.
    const started = child.pid === undefined ? undefined : new EnvoyProcess(child, child.pid);
    try {
      await once(child, 'spawn');
    } catch (error) {
      throw startError(launch.binaryPath, launch.workingFolder, error);
    }
    // A later error event (a failed kill) must not end the agent; the exit event tells what happened.
    child.on('error', () => {});
    return started ?? new EnvoyProcess(child, child.pid ?? -1);
  }

  /** Ends Envoy at once. Safe to call twice and after its end. */
  kill(): void {
    this.#isKillAsked = true;
    this.#child.kill('SIGKILL');
  }

  /** Kills Envoy and resolves when it is gone. */
  async close(): Promise<void> {
    this.kill();
    await this.exited;
  }
}

/** Envoy's arguments for the log, as the stock agent has them; of the override, which may hold secrets, only the size. */
export function describeArguments(given: readonly string[]): string {
  const shown = given.map((argument, index) =>
    given[index - 1] === '--config-yaml' ? `<${Buffer.byteLength(argument)} bytes>` : argument,
  );
  return `[${shown.join(' ')}]`;
}

function startError(binaryPath: string, workingFolder: string, error: unknown): EnvoyProcessError {
  const cause = error as NodeJS.ErrnoException;
  switch (cause.code) {
    case 'ENOENT':
      return new EnvoyProcessError(
        'not_found',
        `cannot start Envoy: there is no ${binaryPath} (or no folder ${workingFolder}); set ProxyConfig binaryPath`,
        { cause },
      );
    case 'EACCES':
      return new EnvoyProcessError(
        'not_executable',
        `cannot start Envoy: ${binaryPath} may not be executed; check its permission bits and its volume`,
        { cause },
      );
    default:
      return new EnvoyProcessError('spawn', `cannot start Envoy: ${binaryPath}: ${cause.message}`, { cause });
  }
}

/** One line on how Envoy ended, and whether it is worth an error. */
export function describeExit(exit: EnvoyExit): { readonly level: 'info' | 'error'; readonly text: string } {
  switch (exit.kind) {
    case 'exited':
      return exit.code === 0
        ? { level: 'info', text: 'Envoy exited normally' }
        : { level: 'error', text: `Envoy exited with error: exit status ${exit.code}` };
    case 'killed': {
      if (exit.isByAgent) return { level: 'info', text: 'Envoy aborted normally' };
      const name = exit.signal === 'SIGKILL' ? 'killed' : exit.signal;
      const hint =
        exit.signal === 'SIGKILL'
          ? '. Envoy may have been out of memory killed: check memory usage and limits'
          : '';
      return { level: 'error', text: `Envoy exited with error: signal: ${name}${hint}` };
    }
    default:
      return exit satisfies never;
  }
}
