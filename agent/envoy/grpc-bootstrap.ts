import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { GrpcBootstrapConfig } from '../config/agent-config.ts';
import type { BootstrapConfig } from '../config/bootstrap-config.ts';
import { withSocketFacts } from '../config/node-metadata.ts';
import { describeError } from '../log.ts';
import type { BootstrapFacts } from './bootstrap.ts';
import type { JsonObject } from './json.ts';

/** Where a proxyless server looks for its listener; `%s` is its own address. */
const serverListenerTemplate = 'xds.istio.io/grpc/lds/inbound/%s';

/**
 * The bootstrap of an application that speaks xDS itself (proxyless gRPC), over the agent's XDS socket (istio/istio
 * `pkg/istio-agent/grpcxds/grpc_bootstrap.go`). Its metadata has the keys istiod knows, without those of the user.
 */
export function buildGrpcBootstrap(
  config: GrpcBootstrapConfig,
  node: BootstrapConfig['node'],
  facts: BootstrapFacts,
): JsonObject {
  const { certificateFolder } = config;
  return {
    xds_servers: [
      {
        server_uri: `unix://${config.socketPath}`,
        channel_creds: [{ type: 'insecure' }],
        server_features: ['xds_v3'],
      },
    ],
    node: {
      id: node.id,
      metadata: withSocketFacts({ ...node.knownMetadata, GENERATOR: 'grpc' }, facts),
      locality: node.locality,
      // An empty member that Go's encoding leaves; kept so that the file is the stock one.
      UserAgentVersionType: null,
    },
    ...(certificateFolder === undefined
      ? {}
      : {
          certificate_providers: {
            default: {
              plugin_name: 'file_watcher',
              config: {
                certificate_file: join(certificateFolder, 'cert-chain.pem'),
                private_key_file: join(certificateFolder, 'key.pem'),
                ca_certificate_file: join(certificateFolder, 'root-cert.pem'),
                refresh_interval: '900s',
              },
            },
          },
        }),
    server_listener_resource_name_template: serverListenerTemplate,
  };
}

/**
 * Readiness of proxyless gRPC: the bootstrap can be read (once is enough), and the certificate files it names are
 * there (each time), as in istio/istio `pilot/cmd/pilot-agent/status/grpcready/probe.go`.
 */
export class GrpcBootstrapReadiness {
  readonly name = 'gRPC bootstrap';
  readonly #path: string;
  #certificatePaths: readonly string[] | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Why it is not ready; undefined when it is. */
  async check(): Promise<string | undefined> {
    try {
      this.#certificatePaths ??= certificatePathsOf(JSON.parse(await readFile(this.#path, 'utf8')));
    } catch (error) {
      return `failed loading ${this.#path}: ${describeError(error)}`;
    }
    for (const path of this.#certificatePaths) {
      if (!(await isThere(path))) return `${path} does not exist`;
    }
    return undefined;
  }
}

/** Files of the first provider that watches files. Throws TypeError for JSON that is no bootstrap. */
function certificatePathsOf(document: unknown): readonly string[] {
  const bootstrap = objectOf(document);
  if (bootstrap === undefined) throw new TypeError('the file holds no JSON object');
  const providers = Object.values(objectOf(bootstrap['certificate_providers']) ?? {}).map(objectOf);
  const watcher = providers.find((provider) => provider?.['plugin_name'] === 'file_watcher');
  const files = objectOf(watcher?.['config']);
  if (files === undefined) return [];
  return ['certificate_file', 'private_key_file', 'ca_certificate_file'].map((name) => {
    const path = files[name];
    if (typeof path === 'string') return path;
    throw new TypeError(`${name} of the provider of certificates is no path`);
  });
}

function objectOf(value: unknown): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined;
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch {
    return false;
  }
}
