import type { TestContext } from 'node:test';
import { type AgentOptions, AgentProcess } from '../support/agent-process.ts';
import { startBackend } from '../support/backend.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import type { Resource } from '../support/control-plane/discovery-messages.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { createWorkspace, type Workspace } from '../support/workspace.ts';
import type { Mode } from './gateway.ts';

export interface PodOptions {
  readonly mode: Mode;
  /** What the control plane serves beside a listener, its route and its cluster. */
  readonly resources?: readonly Resource[];
  /** Called before the agent starts; says what is special about it. */
  readonly prepare?: (parts: {
    readonly workspace: Workspace;
    readonly controlPlane: ControlPlane;
  }) => Promise<Partial<AgentOptions>> | Partial<AgentOptions>;
}

/** A pod with a sidecar: control plane, the agent and the Envoy it runs. All end with the test. */
export class Pod {
  readonly controlPlane: ControlPlane;
  readonly workspace: Workspace;
  readonly agent: AgentProcess;

  private constructor(parts: { controlPlane: ControlPlane; workspace: Workspace; agent: AgentProcess }) {
    this.controlPlane = parts.controlPlane;
    this.workspace = parts.workspace;
    this.agent = parts.agent;
  }

  /** Does not wait for readiness. */
  static async start(test: TestContext, options: PodOptions): Promise<Pod> {
    const [listenerPort = 0] = await freePorts(1);
    const backend = await startBackend();
    test.after(() => backend.close());
    const world = gatewayWorld({ listenerPort, backendPort: backend.port }).with(
      ...(options.resources ?? []),
    );
    const controlPlane = await ControlPlane.start({ world });
    test.after(() => controlPlane.close());
    const workspace = await createWorkspace();
    test.after(() => workspace.close());
    const { env, ...agentOptions } = (await options.prepare?.({ workspace, controlPlane })) ?? {};
    const agent = await AgentProcess.start({
      workspace,
      role: 'sidecar',
      discoveryAddress: controlPlane.address,
      envoyPath: envoyBinary().path,
      test,
      ...agentOptions,
      env: { ISTIO_DELTA_XDS: String(options.mode === 'delta'), ...env },
    });
    return new Pod({ controlPlane, workspace, agent });
  }
}
