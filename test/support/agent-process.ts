import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Child, type ChildExit } from './child-process.ts';
import { describeExit } from './envoy.ts';
import { EnvoyAdmin } from './envoy-admin.ts';
import { freePorts } from './free-ports.ts';
import { httpGet } from './http-get.ts';
import { poll } from './polling.ts';
import type { Workspace } from './workspace.ts';

export interface AgentOptions {
  /** Its root is the agent's working directory, as `/` is in the container. */
  readonly workspace: Workspace;
  readonly role?: 'sidecar' | 'router' | 'waypoint';
  /** `host:port` of the control plane, spoken to in plaintext unless `proxyConfig` says otherwise. */
  readonly discoveryAddress: string;
  /** Absolute path of Envoy; absent: the agent runs with DISABLE_ENVOY. */
  readonly envoyPath: string | undefined;
  /** Variables beside those a pod gets; undefined takes one of those away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Members of PROXY_CONFIG beside the ones this fixture sets; they win. */
  readonly proxyConfig?: Readonly<Record<string, unknown>>;
  /** Command line after the role. */
  readonly args?: readonly string[];
  /** Arguments of Node that run the agent: its flags, then the script. Default: the source. */
  readonly nodeArguments?: readonly string[];
  /** Program and arguments that start the agent in their turn, such as `unshare`. */
  readonly launcher?: readonly string[];
  /** Ports of an earlier agent, to start it anew as the same pod. */
  readonly ports?: AgentPorts;
  /** The end of the log is written to this test's diagnostics when it fails, and the agent is stopped with it. */
  readonly test?: TestContextWithVerdict;
  /** Sees each line of the log as it comes. */
  readonly onLine?: (line: string) => void;
}

/** `passed` exists since Node 20.12 (nodejs.org/api/test.html, context.passed); the type definitions lack it. */
export type TestContextWithVerdict = TestContext & { readonly passed?: boolean };

/** TCP ports of one agent and its Envoy. */
export interface AgentPorts {
  /** 15020: the agent's own. */
  readonly status: number;
  /** 15000: Envoy's admin. */
  readonly admin: number;
  /** 15021: Envoy's listener for readiness. */
  readonly envoyStatus: number;
  /** 15090: Envoy's listener for its metrics. */
  readonly envoyPrometheus: number;
}

const agentMain = fileURLToPath(new URL('../../agent/cli/main.ts', import.meta.url));
/** An agent that is told to end drains for a moment, then must be gone. */
const defaultDrain = '0.1s';
const stopGraceMs = 15_000;
const readyDeadlineMs = 30_000;

/** The agent under test as a child process, with the Envoy that it starts. */
export class AgentProcess implements AsyncDisposable {
  readonly ports: AgentPorts;
  /** `http://127.0.0.1:<status port>` */
  readonly statusUrl: string;
  /** Its Envoy's admin. */
  readonly admin: EnvoyAdmin;
  readonly #child: Child;

  private constructor(child: Child, ports: AgentPorts) {
    this.#child = child;
    this.ports = ports;
    this.statusUrl = `http://127.0.0.1:${ports.status}`;
    this.admin = new EnvoyAdmin(ports.admin);
  }

  /** Starts `proxy <role>`; wait for readiness or a log line before use. */
  static async start(options: AgentOptions): Promise<AgentProcess> {
    const { nodeArguments = [agentMain] } = options;
    const script = nodeArguments.at(-1) ?? '';
    if (!existsSync(script)) throw new Error(`There is no agent to start: ${script} does not exist.`);
    const ports = options.ports ?? (await choosePorts());
    const role = options.role ?? 'router';
    const words = [process.execPath, ...nodeArguments, 'proxy', role, ...(options.args ?? [])];
    const [command = process.execPath, ...args] = [...(options.launcher ?? []), ...words];
    const child = new Child({
      command,
      args,
      cwd: options.workspace.root,
      env: agentEnvironment(options, ports),
      ...(options.onLine === undefined ? {} : { onLine: options.onLine }),
    });
    const agent = new AgentProcess(child, ports);
    options.test?.after(async () => {
      await agent.stop();
      if (options.test?.passed === false)
        options.test.diagnostic(`The end of the agent's log:\n${agent.logTail()}`);
    });
    return agent;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Settles when it has ended and its output is read. */
  get exited(): Promise<ChildExit> {
    return this.#child.exited;
  }

  /** Its log with its Envoy's, newest lines. */
  logTail(lineCount?: number): string {
    return this.#child.output.tail(lineCount);
  }

  /** All kept lines of the log. */
  get logLines(): readonly string[] {
    return this.#child.output.lines;
  }

  /** A line of the log, past or to come. Throws Error with the end of the log when none comes in time. */
  async waitForLog(pattern: RegExp, deadlineMs = 10_000): Promise<string> {
    return this.#orExit(`A log line like ${pattern}`, deadlineMs, (signal) =>
      this.#child.output.waitFor(pattern, { signal }),
    );
  }

  /** Resolves once `/healthz/ready` answers 200. Throws Error with the end of the log. */
  async waitUntilReady(deadlineMs = readyDeadlineMs): Promise<void> {
    await this.#orExit('Readiness', deadlineMs, (signal) =>
      poll(
        async (lookSignal) => {
          const { status } = await httpGet(`${this.statusUrl}/healthz/ready`, { signal: lookSignal });
          return status === 200
            ? { done: true, value: undefined }
            : { done: false, seen: `status ${status}` };
        },
        { what: `A 200 from ${this.statusUrl}/healthz/ready`, deadlineMs, signal },
      ),
    );
  }

  /** The merged metrics of agent and Envoy. */
  async metrics(): Promise<string> {
    return (await httpGet(`${this.statusUrl}/stats/prometheus`)).text;
  }

  /** Sends a signal to the agent alone. */
  signal(signal: NodeJS.Signals): void {
    this.#child.signal(signal);
  }

  /** SIGTERM, and SIGKILL for it and its Envoy after a deadline. Safe twice. */
  async stop(graceMs = stopGraceMs): Promise<ChildExit> {
    return this.#child.stop(graceMs);
  }

  /** Ends its Envoy alone, as the kernel does for want of memory. Resolves when the agent has followed. */
  async killEnvoy(): Promise<ChildExit> {
    const { pid } = this;
    if (pid !== undefined) {
      const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
      for (const child of children.split(' ').filter((text) => text !== '')) {
        // It may have ended by itself.
        if (isRunning(Number(child))) process.kill(Number(child), 'SIGKILL');
      }
    }
    return this.#child.exited;
  }

  /** Ends the agent alone; its Envoy goes with it, as all of a container goes with its first process. */
  async killAlone(): Promise<ChildExit> {
    this.signal('SIGKILL');
    return this.#child.exited;
  }

  /** Ends it and its Envoy at once, as a node that loses power. */
  async kill(): Promise<ChildExit> {
    this.#child.kill();
    return this.#child.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Runs a wait that fails early, and with the log, when the agent ends. */
  async #orExit<Value>(
    what: string,
    deadlineMs: number,
    wait: (signal: AbortSignal) => Promise<Value>,
  ): Promise<Value> {
    const ended = new AbortController();
    this.#child.exited.then(
      (exit) => ended.abort(new Error(`the agent ended with ${describeExit(exit)}`)),
      (error: unknown) => ended.abort(error),
    );
    try {
      return await wait(AbortSignal.any([AbortSignal.timeout(deadlineMs), ended.signal]));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`${what} did not come: ${why}\nThe end of the agent's log:\n${this.logTail()}`, {
        cause: error,
      });
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function choosePorts(): Promise<AgentPorts> {
  const [status = 0, admin = 0, envoyStatus = 0, envoyPrometheus = 0] = await freePorts(4);
  return { status, admin, envoyStatus, envoyPrometheus };
}

/** What a pod's container has, and nothing of the environment the tests run in but PATH. */
function agentEnvironment(options: AgentOptions, ports: AgentPorts): NodeJS.ProcessEnv {
  const { workspace, envoyPath } = options;
  const proxyConfig = {
    discoveryAddress: options.discoveryAddress,
    controlPlaneAuthPolicy: 'NONE',
    binaryPath: envoyPath ?? '/usr/local/bin/envoy',
    statusPort: ports.status,
    proxyAdminPort: ports.admin,
    terminationDrainDuration: defaultDrain,
    concurrency: 1,
    ...options.proxyConfig,
  };
  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    HOME: workspace.root,
    POD_NAME: 'gateway-0',
    POD_NAMESPACE: 'default',
    SERVICE_ACCOUNT: 'gateway',
    INSTANCE_IP: '127.0.0.1',
    PROXY_CONFIG: JSON.stringify(proxyConfig),
    ENVOY_STATUS_PORT: String(ports.envoyStatus),
    ENVOY_PROMETHEUS_PORT: String(ports.envoyPrometheus),
    WASM_DATA_DIR: workspace.path('var/lib/istio/data'),
    CLOUD_PLATFORM: 'none',
    // A plaintext control plane has no CA beside it: certificates are files, of which there are none.
    FILE_MOUNTED_CERTS: 'true',
    ...(envoyPath === undefined ? { DISABLE_ENVOY: 'true' } : {}),
  };
  for (const [name, value] of Object.entries(options.env ?? {})) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  return env;
}
