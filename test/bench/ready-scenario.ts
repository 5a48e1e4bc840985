import { startBackend } from '../support/backend.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import { createWorkspace } from '../support/workspace.ts';
import type { LoadSide } from './load-side.ts';
import type { Measurement } from './relay-scenarios.ts';
import type { AgentSubject, RunningAgent } from './subject.ts';

const moduleBytes = 1_000_000;
/** The plugin of the tests refuses a configuration without rules. */
const pluginConfig = {
  basic_auth_rules: [{ prefix: '/private', request_methods: ['GET'], credentials: ['ok:test'] }],
};
/** An agent that is not ready by then never will be. */
const readyDeadlineMs = 60_000;
const lookIntervalMs = 2;

/**
 * A pod that starts again on the same volumes: agent and Envoy, one listener, one plugin. The first start fetches the
 * module and is not timed; the second is. An agent that forgets its cache at restart fetches again: that is its figure.
 */
export async function measureReady(
  load: LoadSide,
  subject: AgentSubject,
  envoyPath: string,
): Promise<Measurement> {
  const { url } = await load.origin.call('serve', { sizeBytes: moduleBytes });
  const [listenerPort = 0] = await freePorts(1);
  await using parts = new AsyncDisposableStack();
  const backend = parts.adopt(await startBackend(), (each) => each.close());
  const plugins = [wasmPlugin({ name: 'ready', url, pluginConfig })];
  const world = gatewayWorld({ listenerPort, backendPort: backend.port, plugins });
  const controlPlane = parts.use(await ControlPlane.start({ world }));
  const workspace = parts.use(await createWorkspace());
  const start = { upstreamPort: controlPlane.port, envoyPath, workspace };
  await load.withAgent(
    subject,
    async (agent) => {
      await untilReady(agent);
      await controlPlane.waitForAck('ecds');
    },
    start,
  );
  return await load.withAgent(
    subject,
    async (agent) => ({ 'start-to-ready': (await untilReady(agent)) - agent.startedAtMs }),
    start,
  );
}

/** The time at which readiness was first seen. */
async function untilReady(agent: RunningAgent): Promise<number> {
  const { statusUrl } = agent;
  if (statusUrl === undefined) throw new Error('This subject has no status server.');
  const deadlineMs = performance.now() + readyDeadlineMs;
  for (;;) {
    const status = await httpGet(`${statusUrl}/healthz/ready`).then(
      (answer) => answer.status,
      () => undefined,
    );
    if (status === 200) return performance.now();
    if (performance.now() > deadlineMs) {
      throw new Error(`The agent was not ready after ${readyDeadlineMs / 1000} s.`);
    }
    await new Promise((resolve) => setTimeout(resolve, lookIntervalMs));
  }
}
