import { AgentProcess } from '../support/agent-process.ts';
import { type Backend, startBackend } from '../support/backend.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import type { WasmPlugin } from '../support/control-plane/extension-configs.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { type PushedImage, Registry } from '../support/registry.ts';
import type { Steps } from '../support/steps.mjs';
import { createWorkspace } from '../support/workspace.ts';

/** Everything the story plays on; all of it is real and runs on loopback. */
export interface Stage {
  readonly controlPlane: ControlPlane;
  readonly registry: Registry;
  readonly image: PushedImage;
  readonly backend: Backend;
  readonly agent: AgentProcess;
  /** Envoy's listener: `http://127.0.0.1:<port>` */
  readonly gatewayUrl: string;
  /** The control plane's own page: `http://127.0.0.1:<port>` */
  readonly controlPlaneUrl: string;
  readonly workspaceRoot: string;
  /** Serves the gateway with these plugins. */
  apply(...plugins: readonly WasmPlugin[]): void;
}

/** The image of the story, as its users name it. */
export const imageRepository = 'basic_auth';
export const imageTag = '1.12.0';

export interface StageOptions {
  /** Takes what was started, to end it in reverse order, also when a later part does not start. */
  readonly cleanup: AsyncDisposableStack;
  readonly steps: Steps;
  /** Gets the agent as soon as it runs: its log explains a failure. */
  readonly onAgent: (agent: AgentProcess) => void;
  readonly signal: AbortSignal;
}

/** Builds the plugin and starts registry, backend, control plane, Ferry and, through it, Envoy. */
export async function setStage(options: StageOptions): Promise<Stage> {
  const { cleanup, steps, signal } = options;
  const envoy = envoyBinary();
  if (envoy.path === undefined) throw new Error(`${envoy.skipReason.replace('npm test', 'npm run demo')}.`);
  const { registry, image } = await steps.run('Plugin built, image in the registry', async (step) => {
    const plugin = await buildPlugin();
    const started = cleanup.use(await Registry.start());
    const pushed = await started.pushImage({
      repository: imageRepository,
      tag: imageTag,
      layout: 'oci-artifact',
      wasm: plugin.path,
    });
    step.detail(`${pushed.url}, ${plugin.sizeBytes} bytes`);
    return { registry: started, image: pushed };
  });
  signal.throwIfAborted();
  const backend = await startBackend();
  cleanup.defer(() => backend.close());
  const [listenerPort = 0] = await freePorts(1);
  const worldWith = (plugins: readonly WasmPlugin[]) =>
    gatewayWorld({ listenerPort, backendPort: backend.port, plugins });
  const controlPlane = cleanup.use(await ControlPlane.start({ world: worldWith([]), statusPort: 0 }));
  const { statusUrl } = controlPlane;
  if (statusUrl === undefined) throw new Error('The control plane serves no status page.');
  const workspace = cleanup.use(await createWorkspace());
  signal.throwIfAborted();
  const agent = await steps.run('Ferry and Envoy ready', async (step) => {
    const started = cleanup.use(
      await AgentProcess.start({
        workspace,
        role: 'router',
        discoveryAddress: controlPlane.address,
        envoyPath: envoy.path,
      }),
    );
    options.onAgent(started);
    await Promise.race([started.waitUntilReady(), whenAborted(signal)]);
    step.detail(`agent pid ${started.pid}`);
    return started;
  });
  return {
    controlPlane,
    registry,
    image,
    backend,
    agent,
    gatewayUrl: `http://127.0.0.1:${listenerPort}`,
    controlPlaneUrl: statusUrl,
    workspaceRoot: workspace.root,
    apply: (...plugins) => {
      controlPlane.applyWorld(worldWith(plugins));
    },
  };
}

/** Rejects with the signal's reason. */
function whenAborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  const fail = (): void => reject(signal.reason as Error);
  if (signal.aborted) fail();
  else signal.addEventListener('abort', fail, { once: true });
  return promise;
}
