import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startBackend } from '../support/backend.ts';
import { EnvoyProcess, envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import {
  buildHeaderPlugin,
  buildPlugin,
  buildPluginWithoutAbi,
  paddedModule,
} from '../support/plugin-build.ts';
import { createWorkspace } from '../support/workspace.ts';

interface ListenerPlugin {
  readonly name: string;
  readonly path: string;
  readonly configuration: unknown;
}

const envoy = envoyBinary();

/** A bootstrap with one listener for each plugin, all leading to one backend. */
function bootstrapWith(
  adminPort: number,
  backendPort: number,
  listeners: readonly { readonly port: number; readonly plugin: ListenerPlugin }[],
): Record<string, unknown> {
  const loopback = (port: number): object => ({ socket_address: { address: '127.0.0.1', port_value: port } });
  return {
    admin: { address: loopback(adminPort) },
    static_resources: {
      listeners: listeners.map(({ port, plugin }) => ({
        name: plugin.name,
        address: loopback(port),
        filter_chains: [{ filters: [connectionManager(plugin)] }],
      })),
      clusters: [
        {
          name: 'backend',
          load_assignment: {
            cluster_name: 'backend',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: loopback(backendPort) } }] }],
          },
        },
      ],
    },
  };
}

function connectionManager({ name, path, configuration }: ListenerPlugin): object {
  const http = 'type.googleapis.com/envoy.extensions.filters.http';
  const wasm = {
    '@type': `${http}.wasm.v3.Wasm`,
    config: {
      name,
      fail_open: false,
      configuration: {
        '@type': 'type.googleapis.com/google.protobuf.StringValue',
        value: JSON.stringify(configuration),
      },
      vm_config: { runtime: 'envoy.wasm.runtime.v8', code: { local: { filename: path } } },
    },
  };
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type':
        'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
      stat_prefix: name,
      http_filters: [
        { name: 'wasm', typed_config: wasm },
        { name: 'router', typed_config: { '@type': `${http}.router.v3.Router` } },
      ],
      route_config: {
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            routes: [{ match: { prefix: '/' }, route: { cluster: 'backend' } }],
          },
        ],
      },
    },
  };
}

const authRules = (prefix: string, credentials: string): object => ({
  basic_auth_rules: [{ prefix, request_methods: ['GET'], credentials: [credentials] }],
});

describe('built plugins in a real Envoy', { skip: envoy.skipReason }, () => {
  test('two plugins of the same bytes keep their own rules, and builds and sizes can be told apart', async () => {
    await using cleanup = new AsyncDisposableStack();
    const workspace = cleanup.use(await createWorkspace());
    const backend = await startBackend();
    cleanup.defer(() => backend.close());
    const [adminPort = 0, firstPort = 0, secondPort = 0, headerPort = 0, paddedPort = 0] = await freePorts(5);
    const { path } = await buildPlugin();
    const header = await buildHeaderPlugin('v2');
    const padded = await paddedModule(2_000_000);
    const bootstrap = bootstrapWith(adminPort, backend.port, [
      { port: firstPort, plugin: { name: 'first', path, configuration: authRules('/one', 'a:b') } },
      { port: secondPort, plugin: { name: 'second', path, configuration: authRules('/two', 'c:d') } },
      {
        port: headerPort,
        plugin: {
          name: 'header',
          path: header.path,
          configuration: { response_headers: { 'x-config': '7' } },
        },
      },
      {
        port: paddedPort,
        plugin: { name: 'padded', path: padded.path, configuration: authRules('/', 'e:f') },
      },
    ]);
    const running = cleanup.use(
      await EnvoyProcess.start({ path: envoy.path ?? '', workspace, bootstrap, adminPort }),
    );

    const status = async (port: number, requestPath: string, credentials?: string): Promise<number> => {
      const authorization = `Basic ${Buffer.from(credentials ?? '').toString('base64')}`;
      const headers: Record<string, string> = credentials === undefined ? {} : { authorization };
      return (await httpGet(`http://127.0.0.1:${port}${requestPath}`, { headers })).status;
    };
    assert.equal(await status(firstPort, '/one'), 401);
    assert.equal(await status(firstPort, '/one', 'a:b'), 200);
    assert.equal(await status(firstPort, '/one', 'c:d'), 401);
    assert.equal(await status(firstPort, '/two'), 200);
    assert.equal(await status(secondPort, '/two'), 401);
    assert.equal(await status(secondPort, '/two', 'c:d'), 200);
    assert.equal(await status(secondPort, '/one'), 200);
    assert.equal(await status(paddedPort, '/', 'e:f'), 200);
    assert.equal(await status(paddedPort, '/'), 401);
    assert.equal(backend.requestCountOf('/one'), 2);
    const answer = await httpGet(`http://127.0.0.1:${headerPort}/`);
    assert.equal(answer.headers['x-plugin-build'], 'v2');
    assert.equal(answer.headers['x-config'], '7');
    assert.equal(
      (await running.admin.waitForStat('wasm.envoy.wasm.runtime.v8.created', (count) => count > 0, {
        deadlineMs: 5000,
      })) > 0,
      true,
    );
  });

  const rejected: readonly (readonly [string, () => Promise<{ path: string }>, unknown, RegExp])[] = [
    [
      'a configuration it refuses',
      buildPlugin,
      { basic_auth_rules: [] },
      /configuration refused: 'basic_auth_rules'/,
    ],
    ['no ABI export', buildPluginWithoutAbi, authRules('/', 'a:b'), /Missing or unknown Proxy-Wasm ABI/i],
  ];
  for (const [name, build, configuration, message] of rejected) {
    test(`Envoy does not start with a plugin that has ${name}`, async () => {
      await using workspace = await createWorkspace();
      const [adminPort = 0, port = 0] = await freePorts(2);
      const { path } = await build();
      const bootstrap = bootstrapWith(adminPort, port, [
        { port, plugin: { name: 'bad', path, configuration } },
      ]);
      await assert.rejects(
        EnvoyProcess.start({ path: envoy.path ?? '', workspace, bootstrap, adminPort }),
        (error: Error) => message.test(error.message),
      );
    });
  }
});
