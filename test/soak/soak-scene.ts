import { readFile } from 'node:fs/promises';
import { transform } from 'esbuild';
import { encodeNameTable, serviceHost } from '../agent/dns/name-table-fixture.ts';
import { type FerryProgram, findFerry } from '../bench/ferry-program.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { startBackend } from '../support/backend.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import type { Resource } from '../support/control-plane/discovery-messages.ts';
import { type WasmPlugin, wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { httpListener, routeToCluster, staticCluster } from '../support/control-plane/gateway-resources.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { ProtoWriter, structOf } from '../support/control-plane/proto-writer.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import type { World } from '../support/control-plane/world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import { HttpOrigin } from '../support/http-origin.ts';
import { buildHeaderPlugin } from '../support/plugin-build.ts';
import { Registry } from '../support/registry.ts';
import { createWorkspace, type Workspace } from '../support/workspace.ts';
import { Application } from './application.ts';
import { MeshClient } from './mesh-client.ts';
import { MeshIdentity, tokenMark } from './mesh-identity.ts';
import { childRunning } from './process-sample.ts';

/** A build of the plugin that shows in a response header, and where it is to be had. */
interface PublishedBuild {
  readonly label: string;
  readonly url: string;
}

/** A push of the plugin whose effect can be seen in responses. */
export interface ShownPush {
  readonly version: string;
  /** `build/generation` of a response once it is in force. */
  readonly shown: string;
}

/** On 127.0.0.1. */
interface ScenePorts {
  /** The listener with plugins, and what is behind it. */
  readonly listenerPort: number;
  readonly backendPort: number;
  /** The listener with mutual TLS, which never changes, and what is behind it. */
  readonly meshPort: number;
  readonly applicationPort: number;
}

/** What a disturbance can change of what the control plane serves. */
interface Served {
  readonly plugins: readonly WasmPlugin[];
  readonly ballast: readonly Resource[];
  /** Hosts of the name table. */
  readonly nameCount: number;
}

const labels = ['one', 'two', 'three'];
const repository = 'soak/header';
/** The name of the plugin whose header responses show. */
export const shownPluginName = 'header';
/** `Cluster.metadata`, `Metadata.filter_metadata`, and key and value of its map. */
const metadataField = 25;
const probeSocketName = 'probe.sock';
const probeName = 'agent-probe.mjs';
const meshRouteName = 'mesh';
const meshCluster = 'inbound|8080||';
/** A loopback address without a nameserver: names of elsewhere end in a failure. */
const deadNameserver = '127.53.0.1';
/** What must not be in the log: rejections that nobody handles, keys, tokens. */
const forbiddenInLog = new RegExp(`unhandled|uncaught|PRIVATE KEY|${tokenMark}`, 'i');
const keptLineCount = 5;

/** Paths of the rewritten probes of the application. */
export const probePaths = { http: '/app-health/web/readyz', tcp: '/app-health/web/livez' } as const;

/**
 * All that a soak runs: control plane and CA over TLS, registry, web server, application, and the agent's whole process
 * with an Envoy, started as a sidecar with all its parts: identity, DNS, health, probes.
 * Its methods change what is served; nothing waits.
 */
export class SoakScene implements AsyncDisposable {
  readonly controlPlane: ControlPlane;
  readonly registry: Registry;
  readonly origin: HttpOrigin;
  readonly agent: AgentProcess;
  /** What the agent runs from. */
  readonly programKind: FerryProgram['kind'];
  readonly url: string;
  readonly probeSocketPath: string;
  /** Where Envoy connects. */
  readonly xdsSocketPath: string;
  readonly builds: readonly PublishedBuild[];
  readonly mesh: MeshIdentity;
  readonly meshClient: MeshClient;
  readonly application: Application;
  readonly dnsPort: number;
  /** Lines of the agent's log that must not be there, the first few. */
  readonly forbiddenLines: readonly string[];
  readonly #parts: AsyncDisposableStack;
  readonly #ports: ScenePorts;
  #plugins: readonly WasmPlugin[] = [];
  #ballast: readonly Resource[] = [];
  #generation = 0;
  #nameCount = 1;

  private constructor(
    parts: AsyncDisposableStack,
    members: Pick<
      SoakScene,
      | 'controlPlane'
      | 'registry'
      | 'origin'
      | 'agent'
      | 'programKind'
      | 'probeSocketPath'
      | 'xdsSocketPath'
      | 'builds'
      | 'mesh'
      | 'meshClient'
      | 'application'
      | 'dnsPort'
      | 'forbiddenLines'
    > & { readonly ports: ScenePorts },
  ) {
    this.#parts = parts;
    this.controlPlane = members.controlPlane;
    this.registry = members.registry;
    this.origin = members.origin;
    this.agent = members.agent;
    this.programKind = members.programKind;
    this.probeSocketPath = members.probeSocketPath;
    this.xdsSocketPath = members.xdsSocketPath;
    this.builds = members.builds;
    this.mesh = members.mesh;
    this.meshClient = members.meshClient;
    this.application = members.application;
    this.dnsPort = members.dnsPort;
    this.forbiddenLines = members.forbiddenLines;
    this.#ports = members.ports;
    this.url = `http://127.0.0.1:${members.ports.listenerPort}/productpage`;
  }

  /** Starts all parts and waits until the agent is ready. Throws Error when there is no Envoy. */
  static async start(options: { readonly mode: 'delta' | 'sotw' }): Promise<SoakScene> {
    const envoy = envoyBinary();
    if (envoy.path === undefined) throw new Error(`A soak needs an Envoy. ${envoy.skipReason}`);
    const program = agentProgram();
    await using stack = new AsyncDisposableStack();
    const [listenerPort = 0, meshPort = 0, dnsPort = 0] = await freePorts(3);
    const backend = stack.adopt(await startBackend(), (each) => each.close());
    const application = stack.use(await Application.start());
    const workspace = stack.use(await createWorkspace());
    const mesh = stack.use(await MeshIdentity.start(workspace));
    const meshClient = stack.adopt(new MeshClient({ port: meshPort, ...mesh.issueClient() }), (each) =>
      each.close(),
    );
    const ports = { listenerPort, backendPort: backend.port, meshPort, applicationPort: application.port };
    const controlPlane = stack.use(
      await ControlPlane.start({
        world: soakWorld(ports, { plugins: [], ballast: [], nameCount: 1 }),
        tls: mesh.istiodTls,
        waitTimeoutMs: 60_000,
      }),
    );
    const registry = stack.use(await Registry.start());
    const origin = stack.use(await HttpOrigin.start());
    const builds = await publish(registry, origin);
    const probeSocketPath = workspace.path(probeSocketName);
    const forbiddenLines: string[] = [];
    const agent = stack.use(
      await startAgent({
        program,
        mode: options.mode,
        workspace,
        discoveryAddress: `localhost:${controlPlane.port}`,
        envoyPath: envoy.path,
        probeSocketPath,
        mesh,
        applicationPort: application.port,
        dnsPort,
        onLine(line) {
          if (forbiddenInLog.test(line) && forbiddenLines.length < keptLineCount) forbiddenLines.push(line);
        },
      }),
    );
    await agent.waitUntilReady();
    return new SoakScene(stack.move(), {
      controlPlane,
      registry,
      origin,
      agent,
      programKind: program.kind,
      probeSocketPath,
      xdsSocketPath: workspace.path('etc/istio/proxy/XDS'),
      builds,
      mesh,
      meshClient,
      application,
      dnsPort,
      forbiddenLines,
      ports,
    });
  }

  /** The agent's process. Throws Error when it never was one. */
  get agentPid(): number {
    const { pid } = this.agent;
    if (pid === undefined) throw new Error('The agent has no process.');
    return pid;
  }

  /** Stops or continues the Envoy, as a node without CPU does. */
  signalEnvoy(signal: 'SIGSTOP' | 'SIGCONT'): void {
    const pid = childRunning(this.agentPid, 'envoy');
    if (pid !== undefined) process.kill(pid, signal);
  }

  /** Pushes the plugin in a new generation, with more plugins of other names beside it when asked. */
  pushPlugin(
    url: string,
    label: string,
    options: {
      readonly isAlways?: boolean;
      /** Further plugins with the same module. */
      readonly extraCount?: number;
    } = {},
  ): ShownPush {
    this.#generation += 1;
    const generation = this.#generation;
    const extra = Array.from({ length: options.extraCount ?? 0 }, (_, index) =>
      this.#plugin(`extra-${index}`, url, generation, `x-extra-${index}`, options.isAlways),
    );
    this.#plugins = [
      this.#plugin(shownPluginName, url, generation, 'x-generation', options.isAlways),
      ...extra,
    ];
    const { version } = this.#apply();
    return { version, shown: `${label}/${generation}` };
  }

  /** Takes all plugins away. */
  removePlugins(): void {
    this.#plugins = [];
    this.#apply();
  }

  /** Serves clusters of these sizes, in bytes, in place of those before. */
  pushBallast(sizes: readonly number[]): void {
    this.#generation += 1;
    const generation = this.#generation;
    this.#ballast = sizes.map((sizeBytes, index) =>
      ballastCluster(`ballast-${index}`, sizeBytes, generation),
    );
    this.#apply();
  }

  /** Serves a name table with so many hosts beside the one that is asked for. */
  pushNames(nameCount: number): void {
    this.#nameCount = nameCount;
    this.#apply();
  }

  /** `build/generation` of a response, `none` without the plugin, or the status. */
  async shown(): Promise<string> {
    const { headers, status } = await httpGet(this.url);
    if (status !== 200) return `status ${status}`;
    const build = headers['x-plugin-build'];
    return build === undefined ? 'none' : `${build}/${headers['x-generation'] ?? ''}`;
  }

  /** Ends everything. */
  async close(): Promise<void> {
    await this.#parts.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #plugin(
    name: string,
    url: string,
    generation: number,
    header: string,
    isAlways: boolean | undefined,
  ): WasmPlugin {
    return wasmPlugin({
      name,
      url,
      pluginConfig: { response_headers: { [header]: String(generation) } },
      resourceVersion: String(generation),
      ...(isAlways === true ? { imagePullPolicy: 'Always' } : {}),
    });
  }

  #apply(): { readonly version: string } {
    return this.controlPlane.applyWorld(this.#world());
  }

  #world(): World {
    return soakWorld(this.#ports, {
      plugins: this.#plugins,
      ballast: this.#ballast,
      nameCount: this.#nameCount,
    });
  }
}

function soakWorld(
  { listenerPort, backendPort, meshPort, applicationPort }: ScenePorts,
  { plugins, ballast, nameCount }: Served,
): World {
  return gatewayWorld({ listenerPort, backendPort, plugins }).with(
    httpListener({ port: meshPort, routeName: meshRouteName, tls: {} }),
    routeToCluster(meshRouteName, meshCluster),
    staticCluster(meshCluster, { port: applicationPort }),
    nameTable(nameCount),
    ...ballast,
  );
}

/** The host that queries ask for, and others. */
function nameTable(nameCount: number): Resource {
  const others = Array.from({ length: nameCount }, (_, index) =>
    serviceHost(`other-${index}`, 'shop', `10.1.${index >> 8}.${index & 0xff}`),
  );
  const hosts = Object.fromEntries([serviceHost('web', 'shop', '10.0.0.1'), ...others]);
  // istiod sends it as one resource without a name.
  return { name: '', typeUrl: typeUrls.nds, value: encodeNameTable(hosts) };
}

/** Each build in the registry and on the web server. */
async function publish(registry: Registry, origin: HttpOrigin): Promise<readonly PublishedBuild[]> {
  const builds: PublishedBuild[] = [];
  for (const label of labels) {
    const { path } = await buildHeaderPlugin(label);
    const image = await registry.pushImage({ repository, tag: label, layout: 'compat', wasm: path });
    builds.push({ label, url: image.url }, { label, url: await origin.put(`/${label}.wasm`, path) });
  }
  return builds;
}

async function startAgent(options: {
  readonly program: FerryProgram;
  readonly mode: 'delta' | 'sotw';
  readonly workspace: Workspace;
  readonly discoveryAddress: string;
  readonly envoyPath: string;
  readonly probeSocketPath: string;
  readonly mesh: MeshIdentity;
  readonly applicationPort: number;
  readonly dnsPort: number;
  readonly onLine: (line: string) => void;
}): Promise<AgentProcess> {
  const { workspace, applicationPort: port, dnsPort } = options;
  const resolvConf = await workspace.write('etc/resolv.conf', `nameserver ${deadNameserver}\n`);
  const probers = {
    [probePaths.http]: { httpGet: { path: '/ready', port, scheme: 'HTTP' }, timeoutSeconds: 5 },
    [probePaths.tcp]: { tcpSocket: { port }, timeoutSeconds: 5 },
  };
  return await AgentProcess.start({
    workspace,
    nodeArguments: options.program.nodeArguments,
    role: 'sidecar',
    discoveryAddress: options.discoveryAddress,
    envoyPath: options.envoyPath,
    proxyConfig: {
      controlPlaneAuthPolicy: 'MUTUAL_TLS',
      readinessProbe: { httpGet: { path: '/ready', port }, periodSeconds: 1, timeoutSeconds: 5 },
    },
    onLine: options.onLine,
    env: {
      ...options.program.environment,
      ...options.mesh.environment,
      ISTIO_KUBE_APP_PROBERS: JSON.stringify(probers),
      ISTIO_PROMETHEUS_ANNOTATIONS: JSON.stringify({ scrape: 'true', path: '/metrics', port: String(port) }),
      ISTIO_META_DNS_CAPTURE: 'true',
      DNS_PROXY_ADDR: `:${dnsPort}`,
      DNS_RESOLV_CONF: resolvConf,
      DNS_FORWARD_TIMEOUT: '500ms',
      ISTIO_DELTA_XDS: String(options.mode === 'delta'),
      ISTIO_META_CLUSTER_ID: 'Kubernetes',
      NODE_OPTIONS: `--import=${await writeProbe(workspace)}`,
      SOAK_PROBE_SOCKET: options.probeSocketPath,
    },
  });
}

/** The probe without types: Node's own compiler would stay in the memory of the agent. Answers its path. */
async function writeProbe(workspace: Workspace): Promise<string> {
  const source = await readFile(new URL('agent-probe.ts', import.meta.url), 'utf8');
  const { code } = await transform(source, { loader: 'ts', format: 'esm', target: 'node24' });
  return await workspace.write(probeName, code);
}

/** The bundle when it is built. Throws Error when it is older than the source: the run would say nothing of the tree. */
function agentProgram(): FerryProgram {
  const program = findFerry();
  if (program === undefined) throw new Error('There is no agent in the tree to run.');
  if (program.isStale) {
    throw new Error('dist/ferry-agent.cjs is older than its sources: run npm run build, or remove dist.');
  }
  return program;
}

/** A cluster of about so many bytes, which lie where Envoy keeps and does not use them. */
function ballastCluster(name: string, sizeBytes: number, generation: number): Resource {
  const cluster = staticCluster(name, { port: 1 });
  const filler = structOf({ generation, filler: 'f'.repeat(sizeBytes) });
  const entry = new ProtoWriter().text(1, 'soak').message(2, filler);
  const metadata = new ProtoWriter().message(metadataField, new ProtoWriter().message(1, entry));
  return { ...cluster, value: Buffer.concat([cluster.value, metadata.finish()]) };
}
