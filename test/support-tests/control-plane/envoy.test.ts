/** The control plane with a real Envoy that talks to it directly, without an agent. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { startBackend } from '../../support/backend.ts';
import { ControlPlane } from '../../support/control-plane/control-plane.ts';
import type { XdsMode } from '../../support/control-plane/discovery-messages.ts';
import { extensionConfig, rbacFilter } from '../../support/control-plane/extension-configs.ts';
import { gatewayWorld } from '../../support/control-plane/gateway-world.ts';
import { EnvoyProcess, envoyBinary } from '../../support/envoy.ts';
import { freePorts } from '../../support/free-ports.ts';
import { httpGet } from '../../support/http-get.ts';
import { poll } from '../../support/polling.ts';
import { createWorkspace } from '../../support/workspace.ts';

const { path: envoyPath, skipReason } = envoyBinary();
const filter = 'policy';

/** Only an admin port, and everything else from ADS. */
function bootstrap(mode: XdsMode, xdsPort: number, adminPort: number): Record<string, unknown> {
  const address = (port: number): object => ({
    socket_address: { address: '127.0.0.1', port_value: port },
  });
  const ads = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    node: { id: 'router~127.0.0.1~gw.default~default.svc.cluster.local', cluster: 'gw' },
    admin: { address: address(adminPort) },
    dynamic_resources: {
      lds_config: ads,
      cds_config: ads,
      ads_config: {
        api_type: mode === 'delta' ? 'DELTA_GRPC' : 'GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
    },
    static_resources: {
      clusters: [
        {
          name: 'xds',
          type: 'STATIC',
          connect_timeout: '1s',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: {
            cluster_name: 'xds',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: address(xdsPort) } }] }],
          },
        },
      ],
    },
  };
}

interface Scene extends AsyncDisposable {
  readonly controlPlane: ControlPlane;
  readonly listenerPort: number;
  readonly backendPort: number;
}

/** Backend, control plane with the world that `makeWorld` gives, and an Envoy that is live. */
async function setUp(
  mode: XdsMode,
  makeWorld: (ports: { listenerPort: number; backendPort: number }) => ReturnType<typeof gatewayWorld>,
): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  try {
    const workspace = stack.use(await createWorkspace());
    const backend = await startBackend();
    stack.defer(() => backend.close());
    const [listenerPort = 0, adminPort = 0] = await freePorts(2);
    const ports = { listenerPort, backendPort: backend.port };
    const controlPlane = stack.use(await ControlPlane.start({ world: makeWorld(ports) }));
    stack.use(
      await EnvoyProcess.start({
        path: envoyPath ?? '',
        workspace,
        adminPort,
        bootstrap: bootstrap(mode, controlPlane.port, adminPort),
      }),
    );
    return { controlPlane, ...ports, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

/** Workers take a new filter a moment after the main thread has acknowledged it. */
async function expectAnswer(scene: Scene, status: number, text: string): Promise<void> {
  await poll(
    async (signal) => {
      const answer = await httpGet(`http://127.0.0.1:${scene.listenerPort}/hello`, { signal });
      return answer.status === status && answer.text.trim() === text
        ? { done: true, value: undefined }
        : { done: false, seen: `${answer.status} ${answer.text}` };
    },
    { what: `Envoy answering ${status}`, deadlineMs: 10_000, intervalMs: 10 },
  );
}

describe('with a real Envoy', { skip: skipReason ?? false }, () => {
  for (const mode of ['delta', 'sotw'] as const) {
    test(`a gateway world serves requests, and its ECDS filters take effect (${mode})`, async () => {
      await using scene = await setUp(mode, (ports) =>
        gatewayWorld({ ...ports, extensions: [rbacFilter({ name: filter, action: 'allow' })] }),
      );
      const { controlPlane } = scene;
      await expectAnswer(scene, 200, '/hello');
      assert.equal((await controlPlane.waitForStream()).mode, mode);
      await controlPlane.waitForSubscription(filter);

      const denied = controlPlane.applyWorld(
        controlPlane.world.with(rbacFilter({ name: filter, action: 'deny' })),
      );
      await controlPlane.waitForAck('ecds', { version: denied.version });
      await expectAnswer(scene, 403, 'RBAC: access denied');

      const unknown = extensionConfig(filter, 'type.googleapis.com/no.such.Filter', Buffer.alloc(0));
      const refused = controlPlane.applyWorld(controlPlane.world.with(unknown));
      const nack = await controlPlane.waitForNack('ecds', { version: refused.version });
      assert.match(nack.message, /no\.such\.Filter/);
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 1);

      const open = gatewayWorld({ ...scene, endpoints: 'eds' });
      // The refused filter goes with its listener's mention of it, so both are right again.
      const { version } = controlPlane.applyWorld(open);
      await controlPlane.waitForAck('lds', { version });
      await controlPlane.waitForAck('eds');
      await expectAnswer(scene, 200, '/hello');
      for (const { resources } of controlPlane.syncz()) {
        for (const [url, { state }] of Object.entries(resources)) assert.equal(state, 'synced', url);
      }
    });

    test(`Envoy comes back after a restart, with all it watched (${mode})`, async () => {
      await using scene = await setUp(mode, (ports) =>
        gatewayWorld({ ...ports, extensions: [rbacFilter({ name: filter, action: 'allow' })] }),
      );
      const { controlPlane } = scene;
      const before = await controlPlane.waitForStream();
      await controlPlane.waitForAck('ecds');
      await controlPlane.stop();
      await expectAnswer(scene, 200, '/hello');
      await controlPlane.start();
      const stream = await controlPlane.waitForStream({ after: before.id, timeoutMs: 30_000 });
      for (const type of ['cds', 'lds', 'rds', 'ecds']) {
        await controlPlane.waitForAck(type, { streamId: stream.id });
      }
    });
  }

  test('a TCP world serves connections through its network filter', async () => {
    await using scene = await setUp('delta', (ports) =>
      gatewayWorld({
        ...ports,
        kind: 'tcp',
        extensions: [rbacFilter({ name: filter, action: 'allow', kind: 'network' })],
      }),
    );
    const { controlPlane, listenerPort } = scene;
    await expectAnswer(scene, 200, '/hello');
    const { version } = controlPlane.applyWorld(
      controlPlane.world.with(rbacFilter({ name: filter, action: 'deny', kind: 'network' })),
    );
    await controlPlane.waitForAck('ecds', { version });
    await poll(
      async () => {
        const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
        const socket = connect(listenerPort, '127.0.0.1')
          .on('data', resolve)
          .on('close', () => resolve(undefined))
          .on('error', () => resolve(undefined));
        socket.write('GET / HTTP/1.0\r\n\r\n');
        const data = await promise;
        socket.destroy();
        return data === undefined
          ? { done: true, value: undefined }
          : { done: false, seen: data.toString('latin1', 0, 40) };
      },
      { what: 'Envoy closing a connection that is denied', deadlineMs: 10_000, intervalMs: 10 },
    );
  });
});
