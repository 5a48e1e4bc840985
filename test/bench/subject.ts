import { constants, copyFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { Child } from '../support/child-process.ts';
import { freePorts } from '../support/free-ports.ts';
import { createWorkspace, type Workspace } from '../support/workspace.ts';
import { type FerryProgram, findFerry } from './ferry-program.ts';
import { listenerOf } from './process-usage.ts';

/** What is measured. */
export type Subject =
  /** The client straight to the server: what the machine and the load side cost. */
  | { readonly name: string; readonly kind: 'direct' }
  /** The pass-through of grpc-js-proxy.ts. */
  | { readonly name: string; readonly kind: 'grpc-js' }
  /** Our agent. */
  | { readonly name: string; readonly kind: 'ferry'; readonly program: FerryProgram }
  /** An agent with the stock command line, given as a shell command. */
  | { readonly name: string; readonly kind: 'peer'; readonly command: string };

/** The server, as an agent must be told of it. */
export interface Upstream {
  readonly port: number;
  /** Undefined: plaintext. */
  readonly tls: UpstreamTls | undefined;
}

export interface UpstreamTls {
  readonly authorityPem: string;
  readonly serverName: string;
}

/** A started subject that accepts on its socket. */
export interface RunningAgent extends AsyncDisposable {
  /** The process that owns the socket: the one whose usage counts. */
  readonly pid: number;
  readonly socketPath: string;
  /** `http://127.0.0.1:<port>`: the status server; undefined for a subject that has none. */
  readonly statusUrl: string | undefined;
  /** `performance.now()` from just before the process was made. */
  readonly startedAtMs: number;
  /** From just before the process was made to the first bytes that came on its socket. */
  readonly startMs: number;
  /** False when it has ended by itself. */
  isRunning(): boolean;
  /** The newest lines it has written. */
  outputTail(): string;
  /** Kills it with all that it started, and removes its files. */
  close(): Promise<void>;
}

/** Files the subjects run from, made once for a run of the bench. */
export interface SubjectFiles {
  readonly grpcJsBundle: string;
  /** A copy of Node that no other process of the bench maps. */
  readonly nodeCopy: string;
}

/** What all subjects of a run have in common. */
export interface SubjectContext {
  readonly upstream: Upstream;
  readonly files: SubjectFiles;
  /** Over the environment of the agents; an empty value takes a variable away. */
  readonly environment: Readonly<Record<string, string>>;
}

/** The stock agent's socket, below its working directory. */
const agentSocket = 'etc/istio/proxy/XDS';
/** An agent that has not opened its socket by then is broken. */
const startDeadlineMs = 30_000;
const connectIntervalMs = 1;
/** The CA client of the stock agent goes by this port: with another one it insists on TLS. Nothing listens there. */
const plaintextCaAddress = '127.0.0.1:15010';

/** How an agent is started, beside what all of a run have in common. */
export interface AgentStart {
  /** It runs from a copy of Node, so that it shares no page with the processes of the bench. */
  readonly isNodeCopied?: boolean;
  /** The Envoy that it starts; absent: none. */
  readonly envoyPath?: string;
  /** The folder it runs in, kept when it ends: what it has cached there is found again. Absent: one of its own. */
  readonly workspace?: Workspace;
}

type FerrySubject = Extract<Subject, { readonly kind: 'ferry' }>;

/** A subject with a process of its own. */
export type AgentSubject = Exclude<Subject, { readonly kind: 'direct' }>;

/** Our agent as a subject, or undefined when it is not in the tree. */
export function findFerrySubject(): FerrySubject | undefined {
  const program = findFerry();
  return program === undefined ? undefined : { name: 'ferry', kind: 'ferry', program };
}

/** Our agent as a subject. Throws Error when it is not in the tree. */
export function ferrySubject(): FerrySubject {
  const subject = findFerrySubject();
  if (subject === undefined) {
    throw new Error(
      'There is neither dist/ferry-agent.cjs nor agent/cli/main.ts: leave ferry out of --subjects.',
    );
  }
  return subject;
}

/** Makes the files that subjects run from, in `folder`. */
export async function prepareSubjectFiles(folder: string): Promise<SubjectFiles> {
  const grpcJsBundle = join(folder, 'grpc-js-proxy.cjs');
  const nodeCopy = join(folder, 'node');
  // The asynchronous form would leave its service process behind.
  buildSync({
    entryPoints: [fileURLToPath(new URL('grpc-js-proxy.ts', import.meta.url))],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    outfile: grpcJsBundle,
    logLevel: 'error',
  });
  await copyFile(process.execPath, nodeCopy, constants.COPYFILE_FICLONE);
  return { grpcJsBundle, nodeCopy };
}

/** The command line of a subject, for the record; undefined for `direct`. */
export function commandOf(subject: Subject): readonly string[] | undefined {
  switch (subject.kind) {
    case 'direct':
      return undefined;
    case 'grpc-js':
      return ['node', 'test/bench/grpc-js-proxy.ts'];
    case 'ferry':
      return ['node', ...subject.program.nodeArguments, ...agentArguments];
    case 'peer':
      return [subject.command, ...agentArguments];
    default:
      return subject satisfies never;
  }
}

const agentArguments = ['proxy', 'router', '--domain', 'bench.svc.cluster.local'];

/**
 * Starts a subject and waits until it speaks HTTP/2 on its socket. Throws Error with the subject's output when it ends
 * or stays silent.
 */
export async function startAgent(
  subject: AgentSubject,
  options: AgentStart & { readonly context: SubjectContext },
): Promise<RunningAgent> {
  const workspace = options.workspace ?? (await createWorkspace());
  const release = async (): Promise<void> => {
    if (options.workspace === undefined) await workspace.close();
  };
  let child: Child | undefined;
  try {
    const launch = await launchOf(subject, workspace, options);
    const startedAtMs = performance.now();
    child = new Child({ ...launch, cwd: workspace.root });
    const started = child;
    const socketPath = workspace.path(agentSocket);
    const firstByteAtMs = await firstByte(socketPath, started);
    const pid = listenerOf(started.pid ?? 0, 'XDS');
    const close = async (): Promise<void> => {
      started.kill();
      await started.exited;
      await release();
    };
    return {
      pid,
      socketPath,
      statusUrl: launch.statusUrl,
      startedAtMs,
      startMs: firstByteAtMs - startedAtMs,
      isRunning: () => started.isRunning,
      outputTail: () => started.output.tail(),
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    child?.kill();
    await child?.exited.catch(() => undefined);
    await release();
    const output = child === undefined ? '' : `\nIts output:\n${child.output.tail()}`;
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`The subject ${subject.name} cannot be started: ${reason}${output}`, { cause: error });
  }
}

interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly statusUrl: string | undefined;
}

async function launchOf(
  subject: AgentSubject,
  workspace: Workspace,
  options: AgentStart & { readonly context: SubjectContext },
): Promise<Launch> {
  const { upstream, files } = options.context;
  const node = options.isNodeCopied === true ? files.nodeCopy : process.execPath;
  const address = `${upstream.tls === undefined ? '127.0.0.1' : 'localhost'}:${upstream.port}`;
  if (subject.kind === 'grpc-js') {
    const args = [files.grpcJsBundle, workspace.path(agentSocket), address];
    if (upstream.tls !== undefined) {
      args.push(await writeAuthority(workspace, upstream.tls), upstream.tls.serverName);
    }
    return { command: node, args, env: { PATH: process.env['PATH'] }, statusUrl: undefined };
  }
  const [statusPort = 0, ...envoyPorts] = await freePorts(4);
  const statusUrl = `http://127.0.0.1:${statusPort}`;
  const ports = { statusPort, envoyPorts };
  const env = await agentEnvironment(workspace, options, address, ports);
  if (subject.kind === 'ferry') {
    const { nodeArguments, environment } = subject.program;
    const args = [...nodeArguments, ...agentArguments];
    return { command: node, args, env: { ...environment, ...env }, statusUrl };
  }
  // The shell splits and quotes the command as its writer expects, then becomes it.
  const args = ['-c', `exec ${subject.command} "$@"`, 'peer', ...agentArguments];
  return { command: '/bin/sh', args, env, statusUrl };
}

/** What injection sets, without what this machine's environment holds. */
async function agentEnvironment(
  workspace: Workspace,
  options: AgentStart & { readonly context: SubjectContext },
  discoveryAddress: string,
  ports: { readonly statusPort: number; readonly envoyPorts: readonly number[] },
): Promise<NodeJS.ProcessEnv> {
  const { context, envoyPath } = options;
  const { upstream } = context;
  const [adminPort = 0, envoyStatusPort = 0, envoyPrometheusPort = 0] = ports.envoyPorts;
  if (upstream.tls !== undefined) {
    await writeAuthority(workspace, upstream.tls);
    await writeFile(workspace.path('var/run/secrets/tokens/istio-token'), 'bench-token');
  }
  const proxyConfig = {
    discoveryAddress,
    statusPort: ports.statusPort,
    proxyAdminPort: adminPort,
    concurrency: 1,
    ...(envoyPath === undefined ? {} : { binaryPath: envoyPath }),
    ...(upstream.tls === undefined ? { controlPlaneAuthPolicy: 'NONE' } : {}),
  };
  const environment = {
    PATH: process.env['PATH'],
    HOME: workspace.root,
    ...(envoyPath === undefined ? { DISABLE_ENVOY: 'true' } : {}),
    ENVOY_STATUS_PORT: String(envoyStatusPort),
    ENVOY_PROMETHEUS_PORT: String(envoyPrometheusPort),
    PROXY_CONFIG: JSON.stringify(proxyConfig),
    POD_NAME: 'bench-0',
    POD_NAMESPACE: 'bench',
    INSTANCE_IP: '127.0.0.1',
    HOST_IP: '127.0.0.1',
    SERVICE_ACCOUNT: 'bench',
    TRUST_DOMAIN: 'cluster.local',
    PILOT_CERT_PROVIDER: 'istiod',
    // Otherwise the stock agent asks the metadata servers of three clouds before it opens its socket.
    CLOUD_PLATFORM: 'none',
    ISTIO_META_CLUSTER_ID: 'Kubernetes',
    ISTIO_META_MESH_ID: 'cluster.local',
    ISTIO_META_WORKLOAD_NAME: 'bench',
    // Ours alone: the stock agent always uses /var/lib/istio/data.
    WASM_DATA_DIR: workspace.path('var/lib/istio/data'),
    ...(upstream.tls === undefined ? { CA_ADDR: plaintextCaAddress } : {}),
    ...context.environment,
  };
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
}

function writeAuthority(workspace: Workspace, tls: UpstreamTls): Promise<string> {
  return workspace.write('var/run/secrets/istio/root-cert.pem', tls.authorityPem);
}

/** The time at which the first bytes came: a server sends its HTTP/2 settings to whoever connects. */
async function firstByte(socketPath: string, child: Child): Promise<number> {
  const deadlineMs = performance.now() + startDeadlineMs;
  let exitText: string | undefined;
  child.exited
    .then((exit) => `it ended (${exit.signal ?? `exit code ${exit.code}`})`)
    .catch((error: Error) => error.message)
    .then((text) => {
      exitText = text;
      return text;
    })
    .catch(() => undefined);
  for (;;) {
    const atMs = await tryConnect(socketPath);
    if (atMs !== undefined) return atMs;
    if (exitText !== undefined) throw new Error(exitText);
    if (performance.now() > deadlineMs) {
      throw new Error(`it did not answer on ${socketPath} within ${startDeadlineMs / 1000} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, connectIntervalMs));
  }
}

/** Undefined when nobody listens yet. */
function tryConnect(path: string): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  const socket = connect({ path });
  socket.once('data', () => {
    resolve(performance.now());
    socket.destroy();
  });
  socket.once('error', () => resolve(undefined));
  socket.once('close', () => resolve(undefined));
  socket.setTimeout(startDeadlineMs, () => socket.destroy());
  return promise;
}
