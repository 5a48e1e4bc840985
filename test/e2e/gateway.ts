import type { TestContext } from 'node:test';
import { type AgentOptions, type AgentPorts, AgentProcess } from '../support/agent-process.ts';
import { type Backend, startBackend } from '../support/backend.ts';
import { Authority } from '../support/certificate-authority/authority.ts';
import { CaServer } from '../support/certificate-authority/ca-server.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import type { Resource } from '../support/control-plane/discovery-messages.ts';
import type { WasmPlugin } from '../support/control-plane/extension-configs.ts';
import { httpListener, routeToCluster } from '../support/control-plane/gateway-resources.ts';
import { backendCluster, gatewayWorld } from '../support/control-plane/gateway-world.ts';
import type { World } from '../support/control-plane/world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import { poll } from '../support/polling.ts';
import { Registry } from '../support/registry.ts';
import { createWorkspace, type Workspace } from '../support/workspace.ts';

/** The credentials of the story: `admin3:admin3`. */
export const goodCredentials = 'Basic YWRtaW4zOmFkbWluMw==';

/** The plugin configuration of the story. */
export const basicAuthConfig = {
  basic_auth_rules: [
    {
      prefix: '/productpage',
      request_methods: ['GET', 'POST'],
      credentials: ['ok:test', 'YWRtaW4zOmFkbWluMw=='],
    },
  ],
};

export const modes = ['delta', 'sotw'] as const;
export type Mode = (typeof modes)[number];

/** Why these tests cannot run here; undefined when they can. */
export const skipReason = envoyBinary().skipReason ?? false;

const deadlineMs = 20_000;

export interface GatewayOptions {
  readonly mode: Mode;
  readonly kind?: 'http' | 'tcp';
  readonly agent?: Partial<AgentOptions>;
  /** Control plane over TLS, trusted and spoken to as in a mesh, with the pod's token and a client certificate. */
  readonly tls?: boolean;
  /** Called when the pod's volumes are there and its agent has not started. */
  readonly prepare?: (workspace: Workspace) => Promise<void>;
}

/** How agent and Envoy come to their end: as told, both as with their node, or one that the other follows. */
export type Ending = 'stop' | 'kill' | 'kill-agent' | 'kill-envoy';

/** The host of the control plane's certificate: what `localhost` stands for (istio/istio `pkg/istio-agent`). */
const istiodHost = 'istiod.istio-system.svc';

/** An ingress gateway: control plane, registry, backend, the agent and the Envoy it runs. */
export class Gateway {
  readonly controlPlane: ControlPlane;
  /** Only with `tls`. */
  readonly ca: CaServer | undefined;
  readonly registry: Registry;
  readonly backend: Backend;
  readonly workspace: Workspace;
  readonly url: string;
  agent: AgentProcess;
  readonly #test: TestContext;
  readonly #parts: AsyncDisposableStack;
  readonly #options: GatewayOptions;
  readonly #listenerPort: number;
  #plugins: readonly WasmPlugin[] = [];
  #extensions: readonly Resource[] = [];

  private constructor(
    test: TestContext,
    options: GatewayOptions,
    parts: {
      started: AsyncDisposableStack;
      controlPlane: ControlPlane;
      ca: CaServer | undefined;
      registry: Registry;
      backend: Backend;
      workspace: Workspace;
      agent: AgentProcess;
      listenerPort: number;
    },
  ) {
    this.#test = test;
    this.#parts = parts.started;
    this.#options = options;
    this.controlPlane = parts.controlPlane;
    this.ca = parts.ca;
    this.registry = parts.registry;
    this.backend = parts.backend;
    this.workspace = parts.workspace;
    this.agent = parts.agent;
    this.#listenerPort = parts.listenerPort;
    this.url = `http://127.0.0.1:${parts.listenerPort}`;
  }

  /** Starts all parts and waits until traffic flows. All end with the test. */
  static async start(test: TestContext, options: GatewayOptions): Promise<Gateway> {
    // Last made, first closed: an agent that still runs would make its folders again.
    const parts = new AsyncDisposableStack();
    test.after(() => parts.disposeAsync());
    const [listenerPort = 0] = await freePorts(1);
    const backend = await startBackend();
    parts.defer(() => backend.close());
    const world = gatewayWorld({ listenerPort, backendPort: backend.port, kind: options.kind ?? 'http' });
    const authority = options.tls === true ? Authority.createRoot() : undefined;
    const served = authority?.issue([istiodHost]);
    const tls =
      served === undefined || authority === undefined
        ? {}
        : {
            tls: {
              cert: served.certificate,
              key: served.key,
              clientCa: authority.certificate,
              requiresClientCert: true,
            },
          };
    const controlPlane = parts.use(await ControlPlane.start({ world, ...tls }));
    const registry = await Registry.start();
    parts.defer(() => registry.close());
    const workspace = parts.use(await createWorkspace());
    let ca: CaServer | undefined;
    if (authority !== undefined && served !== undefined) {
      await writeMeshIdentity(workspace, authority);
      ca = await CaServer.start({
        authority: Authority.createRoot('mesh'),
        tls: { server: served, clientRoot: authority.certificate },
        spiffeId: 'spiffe://cluster.local/ns/default/sa/gateway',
      });
      const started = ca;
      parts.defer(() => started.close());
    }
    const places = { workspace, controlPlane, ca };
    await options.prepare?.(workspace);
    const agent = parts.use(await startAgent(test, options, places));
    const gateway = new Gateway(test, options, {
      started: parts,
      registry,
      backend,
      ...places,
      agent,
      listenerPort,
    });
    await agent.waitUntilReady();
    await gateway.until('/productpage', 200);
    return gateway;
  }

  /** Serves these plugins, in place of those before. */
  apply(plugins: readonly WasmPlugin[], extensions: readonly Resource[] = []): { readonly version: string } {
    this.#plugins = plugins;
    this.#extensions = extensions;
    return this.controlPlane.applyWorld(this.#world());
  }

  /** One request on a connection of its own. */
  async status(path: string, headers: Readonly<Record<string, string>> = {}): Promise<number> {
    return (await httpGet(`${this.url}${path}`, { headers })).status;
  }

  /** Waits until requests for the path get this status. */
  async until(path: string, status: number, headers: Readonly<Record<string, string>> = {}): Promise<void> {
    await poll(
      async () => {
        const seen = await this.status(path, headers);
        return seen === status ? { done: true, value: undefined } : { done: false, seen: `status ${seen}` };
      },
      { what: `Status ${status} for ${path}`, deadlineMs },
    );
  }

  /** Waits until connections are closed before any answer. */
  async untilRefused(path: string): Promise<void> {
    await poll(
      async () => {
        try {
          return { done: false, seen: `status ${await this.status(path)}` };
        } catch {
          return { done: true, value: undefined };
        }
      },
      { what: 'The end of a connection without an answer', deadlineMs },
    );
  }

  /** Waits until the active listener of Envoy takes its routes from this table. */
  async untilListenerRoutes(routeName: string): Promise<void> {
    await poll(
      async () => {
        const text = await this.agent.admin.get('/config_dump?resource=dynamic_listeners');
        const isThere = text.includes(`"route_config_name": "${routeName}"`);
        return isThere
          ? { done: true, value: undefined }
          : { done: false, seen: `${text.length} bytes without it` };
      },
      { what: `A listener with the routes ${routeName}`, deadlineMs },
    );
  }

  /** Waits until a line of the merged metrics matches. */
  async untilMetric(pattern: RegExp): Promise<string> {
    return await poll(
      async () => {
        const lines = (await this.agent.metrics()).split('\n');
        const line = lines.find((candidate) => pattern.test(candidate));
        const seen = lines.filter((candidate) => candidate.startsWith('istio_agent_wasm')).join('; ');
        return line === undefined ? { done: false, seen } : { done: true, value: line };
      },
      { what: `A metric like ${pattern}`, deadlineMs },
    );
  }

  /** `/debug/wasm` as JSON text. */
  async debugPage(): Promise<string> {
    return (await httpGet(`${this.agent.statusUrl}/debug/wasm`)).text;
  }

  /** What it says of all plugins. */
  async plugins(): Promise<readonly Record<string, unknown>[]> {
    return (JSON.parse(await this.debugPage()) as { plugins: Record<string, unknown>[] }).plugins;
  }

  /** What it says of one. */
  async plugin(name: string): Promise<Record<string, unknown> | undefined> {
    return (await this.plugins()).find((plugin) => plugin['name'] === name);
  }

  /** Waits until `/debug/wasm` says that this is in force under a name; gives what else it says. */
  async untilInForce(name: string, inForce: string): Promise<Record<string, unknown>> {
    return await poll(
      async () => {
        const plugin = await this.plugin(name);
        const isThere = plugin !== undefined && plugin['inForce'] === inForce;
        return isThere
          ? { done: true, value: plugin }
          : { done: false, seen: JSON.stringify(plugin) ?? 'no plugin' };
      },
      { what: `${inForce} in force for ${name}`, deadlineMs },
    );
  }

  /** Ends agent and Envoy, and starts them again as the same pod on the same volumes. */
  async restartAgent(how: Ending): Promise<void> {
    switch (how) {
      case 'stop':
        await this.agent.stop();
        break;
      case 'kill':
        await this.agent.kill();
        break;
      case 'kill-agent':
        await this.agent.killAlone();
        break;
      case 'kill-envoy':
        await this.agent.killEnvoy();
        break;
      default:
        how satisfies never;
    }
    this.agent = this.#parts.use(await startAgent(this.#test, this.#options, this, this.agent.ports));
    await this.agent.waitUntilReady();
  }

  /** A change of the listener that has nothing to do with plugins: its routes get another name. */
  changeListener(routeName: string): { readonly version: string } {
    const filters = [...this.#plugins, ...this.#extensions].map(({ name }) => name);
    return this.controlPlane.applyWorld(
      this.#world().with(
        httpListener({ port: this.#listenerPort, filters, routeName }),
        routeToCluster(routeName, backendCluster),
      ),
    );
  }

  #world(): World {
    return gatewayWorld({
      listenerPort: this.#listenerPort,
      backendPort: this.backend.port,
      kind: this.#options.kind ?? 'http',
      plugins: this.#plugins,
      extensions: this.#extensions,
    });
  }
}

/** What the pod has on its volumes: istiod's root, the token, and a provisioned certificate. */
async function writeMeshIdentity(workspace: Workspace, authority: Authority): Promise<void> {
  const client = authority.issue(['gateway.default']);
  await workspace.write('var/run/secrets/istio/root-cert.pem', authority.certificate);
  await workspace.write('var/run/secrets/tokens/istio-token', 'the-token\n');
  await workspace.write('certs/root-cert.pem', authority.certificate);
  await workspace.write('certs/cert-chain.pem', client.certificate);
  await workspace.write('certs/key.pem', client.key);
}

async function startAgent(
  test: TestContext,
  options: GatewayOptions,
  places: Pick<Gateway, 'workspace' | 'controlPlane' | 'ca'>,
  ports?: AgentPorts,
): Promise<AgentProcess> {
  const { workspace, controlPlane, ca } = places;
  const { env, proxyConfig, ...agent } = options.agent ?? {};
  const mesh = options.tls === true;
  return await AgentProcess.start({
    workspace,
    discoveryAddress: mesh ? `localhost:${controlPlane.port}` : controlPlane.address,
    proxyConfig: { ...(mesh ? { controlPlaneAuthPolicy: 'MUTUAL_TLS' } : {}), ...proxyConfig },
    envoyPath: envoyBinary().path,
    test,
    ...(ports === undefined ? {} : { ports }),
    ...agent,
    env: {
      ISTIO_DELTA_XDS: String(options.mode === 'delta'),
      ISTIO_META_CLUSTER_ID: 'Kubernetes',
      ...(ca === undefined
        ? {}
        : {
            FILE_MOUNTED_CERTS: undefined,
            PROV_CERT: workspace.path('certs'),
            CA_ADDR: `localhost:${ca.port}`,
          }),
      ...env,
    },
  });
}
