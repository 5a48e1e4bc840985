import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import { wasmModule } from '../../agent/fetch/module-bytes.ts';
import { AgentProcess } from '../../support/agent-process.ts';
import { ControlPlane } from '../../support/control-plane/control-plane.ts';
import type { Resource, XdsMode } from '../../support/control-plane/discovery-messages.ts';
import {
  type WasmPluginOptions,
  wasmPlugin,
  wasmPluginResourceName,
} from '../../support/control-plane/extension-configs.ts';
import { httpListener, staticCluster } from '../../support/control-plane/gateway-resources.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import { World } from '../../support/control-plane/world.ts';
import { httpGet } from '../../support/http-get.ts';
import { HttpOrigin } from '../../support/http-origin.ts';
import { poll } from '../../support/polling.ts';
import { createWorkspace, type Workspace } from '../../support/workspace.ts';
import { moduleFileOf, PlayedEnvoy } from './played-envoy.ts';
import { type Switchboard, startSwitchboard } from './switchboard.ts';

/** One plugin of `/debug/wasm`, as far as the checks need it. */
export interface SeenPlugin {
  readonly name: string;
  readonly state: string;
  readonly inForce: string;
  readonly lastError?: string;
}

export interface SceneOptions {
  readonly mode?: XdsMode;
  /** Variables of the agent beside those of every scene. */
  readonly env?: Readonly<Record<string, string>>;
  /** Called before the agent starts; gives more of its variables. */
  readonly prepare?: (workspace: Workspace) => Promise<Readonly<Record<string, string>>>;
}

const clusterName = 'outbound|80||backend.default.svc.cluster.local';
const deadlineMs = 10_000;

/**
 * A real agent without Envoy between a control plane and a played Envoy, with two plugins in force: the target, to
 * which bad things happen, and its neighbour, which must not notice. Every good push changes everything.
 */
export class Scene {
  readonly targetName = wasmPluginResourceName('istio-system', 'target');
  readonly neighbourName = wasmPluginResourceName('istio-system', 'neighbour');
  readonly mode: XdsMode;
  readonly workspace: Workspace;
  readonly controlPlane: ControlPlane;
  readonly switchboard: Switchboard;
  readonly origin: HttpOrigin;
  readonly agent: AgentProcess;
  readonly envoy: PlayedEnvoy;
  #round = 0;
  #neighbourUrl = '';
  /** False from the start of a check to its good end. */
  #isSound = false;
  #hasAgentEnded = false;

  private constructor(
    mode: XdsMode,
    parts: {
      readonly workspace: Workspace;
      readonly controlPlane: ControlPlane;
      readonly switchboard: Switchboard;
      readonly origin: HttpOrigin;
      readonly agent: AgentProcess;
      readonly envoy: (names: readonly string[]) => PlayedEnvoy;
    },
  ) {
    this.mode = mode;
    this.workspace = parts.workspace;
    this.controlPlane = parts.controlPlane;
    this.switchboard = parts.switchboard;
    this.origin = parts.origin;
    this.agent = parts.agent;
    this.envoy = parts.envoy([this.targetName, this.neighbourName]);
    void this.#noteEnd();
  }

  /** Starts all parts. All end with the test. */
  static async start(test: TestContext, options: SceneOptions = {}): Promise<Scene> {
    const mode = options.mode ?? 'delta';
    // Last made, first closed: an agent that still runs would make its folders again.
    const parts = new AsyncDisposableStack();
    test.after(() => parts.disposeAsync());
    const workspace = parts.use(await createWorkspace());
    const controlPlane = parts.use(await ControlPlane.start());
    const switchboard = parts.use(await startSwitchboard(controlPlane.address));
    const origin = parts.use(await HttpOrigin.start());
    const prepared = await options.prepare?.(workspace);
    const agent = parts.use(
      await AgentProcess.start({
        workspace,
        discoveryAddress: switchboard.address,
        envoyPath: undefined,
        test,
        env: { ...options.env, ...prepared },
      }),
    );
    await agent.waitUntilReady();
    const socketPath = workspace.path('etc/istio/proxy/XDS');
    await socketMade(socketPath);
    const envoy = (names: readonly string[]): PlayedEnvoy =>
      new PlayedEnvoy(test, { socketPath, mode, names });
    return new Scene(mode, { workspace, controlPlane, switchboard, origin, agent, envoy });
  }

  /** Brings both plugins in force on a stream to the sound control plane. Does nothing where that is so. */
  async ready(): Promise<void> {
    if (this.#isSound) return;
    this.envoy.refusal = () => undefined;
    this.origin.http.heal();
    await this.reconnect();
    await this.pushGood();
  }

  /** The same, for a check that is about to break something: one that fails must not spoil the next. */
  async disturb(): Promise<void> {
    await this.ready();
    this.#isSound = false;
  }

  /** The target or neighbour as istiod sends it. */
  plugin(name: 'target' | 'neighbour', options: Omit<WasmPluginOptions, 'name'>): Resource {
    return wasmPlugin({ name, pluginConfig: { round: this.#round }, ...options }).resource;
  }

  /** The target with the module at this URL. */
  target(url: string, options: Partial<WasmPluginOptions> = {}): Resource {
    return this.plugin('target', { url, ...options });
  }

  /** A push in which everything is new and good. Resolves when it is in force, and was seen to be. */
  async pushGood(): Promise<void> {
    const neighbour = await this.nextNeighbour();
    const resources = [this.target(await this.#serveGood('target')), neighbour];
    const version = this.push(resources, resources);
    await Promise.all([
      this.controlPlane.waitForAck('ecds', { version }),
      this.controlPlane.waitForAck('cds', { version }),
      this.controlPlane.waitForAck('lds', { version }),
    ]);
    for (const resource of resources) this.#assertModule(resource.name);
    const seen = await this.seen(this.targetName);
    assert.equal(seen?.state, 'active');
    assert.equal(seen.inForce, 'plugin');
    assert.equal(seen.lastError, undefined);
    await this.assertModuleFile(this.targetName);
    assert.equal(this.#hasAgentEnded, false);
    this.#isSound = true;
  }

  /** Envoy's next stream, to the sound control plane. Resolves when istiod's answer was accepted. */
  async reconnect(): Promise<void> {
    this.switchboard.lead(this.controlPlane.address);
    const last = Math.max(0, ...this.controlPlane.journal.entries.map((entry) => entry.streamId));
    this.envoy.connect();
    const { id: streamId } = await this.controlPlane.waitForStream({ after: last });
    await this.controlPlane.waitForAck('ecds', { streamId });
    await this.controlPlane.waitForAck('cds', { streamId });
  }

  /** What `/debug/wasm` says of one plugin. */
  async seen(name: string): Promise<SeenPlugin | undefined> {
    const { text } = await httpGet(`${this.agent.statusUrl}/debug/wasm`);
    return (JSON.parse(text) as { plugins: SeenPlugin[] }).plugins.find((plugin) => plugin.name === name);
  }

  /** A log line that came after the first `lineCount` ones. */
  async waitForLine(lineCount: number, pattern: RegExp): Promise<string> {
    return await poll(
      async () => {
        const line = this.agent.logLines.slice(lineCount).find((each) => pattern.test(each));
        if (line !== undefined) return { done: true, value: line };
        return { done: false, seen: this.agent.logLines.slice(lineCount).join('\n') };
      },
      { what: `A log line like ${pattern}`, deadlineMs, intervalMs: 10 },
    );
  }

  /** The configs that Envoy holds of target and neighbour. */
  heldConfigs(): readonly (Buffer | undefined)[] {
    return [this.targetName, this.neighbourName].map((name) => this.envoy.held(typeUrls.ecds, name));
  }

  /** Envoy holds what it held before, its module files are there, and the agent knows what is in force. */
  async assertKept(before: readonly (Buffer | undefined)[]): Promise<void> {
    assert.equal(this.#hasAgentEnded, false);
    const files = (configs: readonly (Buffer | undefined)[]): unknown =>
      configs.map((config) => (config === undefined ? 'nothing' : moduleFileOf(config)));
    assert.deepEqual(files(this.heldConfigs()), files(before));
    for (const name of [this.targetName, this.neighbourName]) {
      await this.assertModuleFile(name);
      assert.equal((await this.seen(name))?.inForce, 'plugin');
    }
  }

  /** The rest of a push is in force, whatever became of the target. */
  async assertRestIn(version: string, neighbour: Resource): Promise<void> {
    await this.controlPlane.waitForAck('cds', { version });
    await this.controlPlane.waitForAck('lds', { version });
    for (const { typeUrl, name, value } of this.#others()) {
      assert.deepEqual(this.envoy.held(typeUrl, name), value);
    }
    const round = Buffer.from(`{"round":${this.#round}}`);
    await this.envoy.until('the neighbour of this push', () =>
      (this.envoy.held(typeUrls.ecds, neighbour.name) ?? Buffer.alloc(0)).includes(round),
    );
    this.#assertModule(neighbour.name);
    assert.equal((await this.seen(neighbour.name))?.inForce, 'plugin');
    assert.equal(this.#hasAgentEnded, false);
  }

  #assertModule(name: string): void {
    const held = this.envoy.held(typeUrls.ecds, name) ?? Buffer.alloc(0);
    assert.ok(held.includes(Buffer.from(`{"round":${this.#round}}`)), `${name} is that of this push`);
    assert.ok(moduleFileOf(held) !== undefined);
  }

  /** The file that Envoy was given has the bytes of its name. */
  async assertModuleFile(name: string): Promise<void> {
    const path = moduleFileOf(this.envoy.held(typeUrls.ecds, name) ?? Buffer.alloc(0)) ?? '';
    const digest = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
    assert.ok(path.endsWith(`/${digest}`), `${path} holds ${digest}`);
  }

  async #noteEnd(): Promise<void> {
    await this.agent.exited;
    this.#hasAgentEnded = true;
  }

  async #serveGood(name: string): Promise<string> {
    return await this.origin.put(`/good/${name}-${this.#round}.wasm`, wasmModule(`${name} ${this.#round}`));
  }

  /** Begins a round, in which everything is new: the neighbour as it is then, with a module of its own or the last. */
  async nextNeighbour(isCached = false): Promise<Resource> {
    this.#round += 1;
    if (!isCached) this.#neighbourUrl = await this.#serveGood('neighbour');
    return this.plugin('neighbour', { url: this.#neighbourUrl });
  }

  /** A cluster and a listener that differ in each round. */
  #others(): readonly Resource[] {
    const filters = [this.targetName, this.neighbourName];
    return [
      staticCluster(clusterName, { port: 10_000 + this.#round }),
      httpListener({ port: 20_000, filters, routeName: `http.${this.#round}` }),
    ];
  }

  /**
   * All types under one version: clusters, listeners, then these extension configs, exactly as given. `good` are
   * those of them that later streams are answered with.
   */
  push(configs: readonly Resource[], good: readonly Resource[]): string {
    const world = World.of(...this.controlPlane.world.list('ecds'), ...good, ...this.#others());
    const { version } = this.controlPlane.applyWorld(world, { types: ['cds', 'lds'] });
    this.controlPlane.pushRaw({ typeUrl: 'ecds', resources: configs, version });
    return version;
  }
}

/** The status server answers before the socket for Envoy is there. */
async function socketMade(path: string): Promise<void> {
  await poll(
    async () => {
      const isSocket = (await stat(path)).isSocket();
      return isSocket ? { done: true, value: undefined } : { done: false, seen: 'something else' };
    },
    { what: `The socket ${path}`, deadlineMs, intervalMs: 10 },
  );
}
