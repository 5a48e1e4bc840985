import { randomUUID } from 'node:crypto';
import { Child } from '../child-process.ts';
import { describeExit } from '../envoy.ts';
import type { Workspace } from '../workspace.ts';
import type { EnvoyVerdict } from './preflight-case.ts';

/** What Envoy did with one module. */
export interface EnvoyRun {
  readonly verdict: EnvoyVerdict;
  /** What its log says of the Wasm VM, and how it ended: for messages, and to find names in. */
  readonly log: string;
}

const typeUrl = (name: string): string => `type.googleapis.com/envoy.extensions.filters.${name}`;

/**
 * Gives a module file to a real Envoy, which has only to check its configuration: that creates the VM, links and
 * starts the module and configures a canary of the plugin, as a push does, and then ends. One Envoy a module, so that
 * one that crashes takes no other along.
 */
export async function runInEnvoy(
  envoyPath: string,
  workspace: Workspace,
  plugin: { readonly modulePath: string; readonly configuration?: string },
): Promise<EnvoyRun> {
  const configPath = await workspace.write(`envoy-${randomUUID()}.json`, JSON.stringify(bootstrap(plugin)));
  const envoy = new Child({
    command: envoyPath,
    args: ['--mode', 'validate', '-c', configPath, '--log-level', 'error', '--disable-hot-restart'],
    cwd: workspace.root,
    env: { PATH: process.env['PATH'] },
  });
  const exit = await envoy.exited;
  const log = `${envoy.output.lines.join('\n')}\nEnvoy ended with ${describeExit(exit)}.`;
  if (exit.signal !== null) return { verdict: 'crashes', log };
  if (exit.code === 0) return { verdict: 'accepts', log };
  // Any other error of the configuration would be a mistake of ours and must not pass for a verdict.
  if (!log.includes('Unable to create Wasm plugin'))
    throw new Error(`Envoy did not get to the module:\n${log}`);
  return { verdict: 'rejects', log };
}

function bootstrap(plugin: {
  readonly modulePath: string;
  readonly configuration?: string;
}): Readonly<Record<string, unknown>> {
  const configuration = {
    '@type': 'type.googleapis.com/google.protobuf.StringValue',
    value: plugin.configuration ?? '',
  };
  const wasm = {
    '@type': typeUrl('http.wasm.v3.Wasm'),
    config: {
      name: 'plugin',
      configuration,
      vm_config: { runtime: 'envoy.wasm.runtime.v8', code: { local: { filename: plugin.modulePath } } },
    },
  };
  const connectionManager = {
    '@type': typeUrl('network.http_connection_manager.v3.HttpConnectionManager'),
    stat_prefix: 'ingress',
    route_config: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }],
        },
      ],
    },
    http_filters: [
      { name: 'plugin', typed_config: wasm },
      { name: 'router', typed_config: { '@type': typeUrl('http.router.v3.Router') } },
    ],
  };
  const listener = {
    name: 'listener',
    // Never bound: the configuration is only checked.
    address: { socket_address: { address: '127.0.0.1', port_value: 1 } },
    filter_chains: [{ filters: [{ name: 'http', typed_config: connectionManager }] }],
  };
  return { static_resources: { listeners: [listener] } };
}
