import { accessSync, constants } from 'node:fs';
import { Child, type ChildExit } from './child-process.ts';
import { EnvoyAdmin } from './envoy-admin.ts';
import type { Workspace } from './workspace.ts';

/** Either the Envoy to test with, or why there is none. */
export type EnvoyBinary =
  | { readonly path: string; readonly skipReason: undefined }
  | { readonly path: undefined; readonly skipReason: string };

/**
 * The Envoy named by `ENVOY_PATH`. Use it as `test(name, { skip: envoyBinary().skipReason }, ...)`.
 * A path that is set but not executable is not a reason to skip: throws Error.
 */
export function envoyBinary(environment: NodeJS.ProcessEnv = process.env): EnvoyBinary {
  const path = environment['ENVOY_PATH'];
  if (path === undefined || path === '') {
    return {
      path: undefined,
      skipReason: 'ENVOY_PATH is not set: run with `npm test`, which brings an Envoy',
    };
  }
  try {
    accessSync(path, constants.X_OK);
  } catch (error) {
    throw new Error(`ENVOY_PATH is ${path}, which is not an executable file. Unset it or correct it.`, {
      cause: error,
    });
  }
  return { path, skipReason: undefined };
}

export interface EnvoyOptions {
  readonly path: string;
  readonly workspace: Workspace;
  /** The bootstrap document; its admin address must be 127.0.0.1 with `adminPort`. */
  readonly bootstrap: Readonly<Record<string, unknown>>;
  readonly adminPort: number;
  readonly args?: readonly string[];
}

/** How long Envoy may take to start on a busy machine. */
const startDeadlineMs = 30_000;

/** An Envoy that a test runs by itself, without the agent. */
export class EnvoyProcess implements AsyncDisposable {
  readonly admin: EnvoyAdmin;
  readonly #child: Child;

  private constructor(child: Child, admin: EnvoyAdmin) {
    this.#child = child;
    this.admin = admin;
  }

  /** Starts Envoy and waits until it is live. Throws Error with the tail of its log. */
  static async start(options: EnvoyOptions): Promise<EnvoyProcess> {
    const configPath = await options.workspace.write('envoy.json', JSON.stringify(options.bootstrap));
    const child = new Child({
      command: options.path,
      args: ['-c', configPath, '--disable-hot-restart', '--concurrency', '1', ...(options.args ?? [])],
      cwd: options.workspace.root,
      env: { PATH: process.env['PATH'] },
    });
    const envoy = new EnvoyProcess(child, new EnvoyAdmin(options.adminPort));
    const gone = new AbortController();
    child.exited.then(
      (exit) => gone.abort(new Error(`Envoy ended with ${describeExit(exit)} before it was live.`)),
      (error: unknown) => gone.abort(error),
    );
    try {
      await envoy.admin.waitUntilLive({ deadlineMs: startDeadlineMs, signal: gone.signal });
    } catch (error) {
      await envoy.close();
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`Envoy did not start: ${why}\nThe end of its log:\n${envoy.logTail()}`, {
        cause: error,
      });
    }
    return envoy;
  }

  /** The newest lines of its log. */
  logTail(lineCount?: number): string {
    return this.#child.output.tail(lineCount);
  }

  /** A line of its log, past or to come. Throws Error with the tail when none comes in time. */
  async waitForLog(pattern: RegExp, deadlineMs = 10_000): Promise<string> {
    try {
      return await this.#child.output.waitFor(pattern, { signal: AbortSignal.timeout(deadlineMs) });
    } catch (error) {
      throw new Error(`Envoy logged no line like ${pattern} within ${deadlineMs} ms:\n${this.logTail()}`, {
        cause: error,
      });
    }
  }

  /** Ends Envoy at once. */
  async close(): Promise<void> {
    this.#child.kill();
    await this.#child.exited.catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** `code 1` or `signal SIGKILL`. */
export function describeExit(exit: ChildExit): string {
  return exit.signal === null ? `code ${exit.code}` : `signal ${exit.signal}`;
}
