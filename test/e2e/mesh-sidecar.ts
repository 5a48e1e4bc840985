import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { AgentProcess } from '../support/agent-process.ts';
import { startBackend } from '../support/backend.ts';
import { Authority } from '../support/certificate-authority/authority.ts';
import { CaServer, type CaServerOptions } from '../support/certificate-authority/ca-server.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import type { MutualTls } from '../support/control-plane/gateway-resources.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { envoyBinary } from '../support/envoy.ts';
import { freePorts } from '../support/free-ports.ts';
import { createWorkspace, type Workspace } from '../support/workspace.ts';
import type { Mode } from './gateway.ts';

/** Who the sidecar is. */
export const workloadId = 'spiffe://cluster.local/ns/default/sa/gateway';
/** Who its clients are. */
const clientId = 'spiffe://cluster.local/ns/default/sa/client';
/** The host of the certificate of istiod and its CA: what `localhost` stands for (istio/istio `pkg/istio-agent`). */
const istiodHost = 'istiod.istio-system.svc';

/** The authorities of a mesh: one for istiod's own certificate, one for workloads. */
export interface MeshAuthorities {
  readonly istiod: Authority;
  readonly workloads: Authority;
}

export interface MeshSidecarOptions {
  readonly mode?: Mode;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly proxyMetadata?: Readonly<Record<string, string>>;
  /** istiod takes only clients with a certificate of its own authority. */
  readonly requiresClientCertificate?: boolean;
  /** Called with the pod's volumes before the agent starts. Gives the secrets of the listener; default: the workload's. */
  readonly prepare?: (workspace: Workspace, authorities: MeshAuthorities) => Promise<MutualTls>;
  readonly ca?: Partial<CaServerOptions>;
  /** Called when all but the agent is there. */
  readonly beforeAgent?: (ca: CaServer) => void;
  /** Called when the agent runs, before it is waited for. */
  readonly beforeReady?: (agent: AgentProcess, controlPlane: ControlPlane) => Promise<void>;
}

/** What a client saw of the sidecar. */
export interface Exchange {
  /** Of the certificate that Envoy presented, hexadecimal. */
  readonly serial: string;
  readonly subjectAltName: string;
  /** `HTTP/1.1 200 OK` */
  readonly statusLine: string;
}

/**
 * A sidecar in a mesh with mutual TLS: a control plane and a CA over TLS, the agent, and the real Envoy, whose listener
 * asks clients for a certificate.
 */
export class MeshSidecar {
  readonly controlPlane: ControlPlane;
  readonly ca: CaServer;
  readonly authorities: MeshAuthorities;
  readonly workspace: Workspace;
  /** The listener with mutual TLS. */
  readonly port: number;
  agent: AgentProcess;
  readonly #startAgent: () => Promise<AgentProcess>;

  private constructor(
    parts: Pick<MeshSidecar, 'controlPlane' | 'ca' | 'authorities' | 'workspace' | 'port' | 'agent'>,
    start: () => Promise<AgentProcess>,
  ) {
    this.controlPlane = parts.controlPlane;
    this.ca = parts.ca;
    this.authorities = parts.authorities;
    this.workspace = parts.workspace;
    this.port = parts.port;
    this.agent = parts.agent;
    this.#startAgent = start;
  }

  /** Starts all parts and waits until the agent is ready. All end with the test. */
  static async start(test: TestContext, options: MeshSidecarOptions = {}): Promise<MeshSidecar> {
    const parts = new AsyncDisposableStack();
    test.after(() => parts.disposeAsync());
    const authorities = {
      istiod: Authority.createRoot('istiod root'),
      workloads: Authority.createRoot('workload root'),
    };
    const workspace = parts.use(await createWorkspace());
    await workspace.write('var/run/secrets/istio/root-cert.pem', authorities.istiod.certificate);
    await workspace.write('var/run/secrets/tokens/istio-token', 'the-token\n');
    const tls = (await options.prepare?.(workspace, authorities)) ?? {};
    const backend = await startBackend();
    parts.defer(() => backend.close());
    const [listenerPort = 0] = await freePorts(1);
    const served = authorities.istiod.issue([istiodHost]);
    const controlPlane = parts.use(
      await ControlPlane.start({
        world: gatewayWorld({ listenerPort, backendPort: backend.port, tls }),
        tls: {
          cert: served.certificate,
          key: served.key,
          clientCa: authorities.istiod.certificate,
          requiresClientCert: options.requiresClientCertificate === true,
        },
      }),
    );
    const ca = parts.use(
      await CaServer.start({
        authority: authorities.workloads,
        tls: { server: served },
        spiffeId: workloadId,
        ...options.ca,
      }),
    );
    options.beforeAgent?.(ca);
    let ports: AgentProcess['ports'] | undefined;
    const start = async (): Promise<AgentProcess> => {
      const agent = parts.use(
        await AgentProcess.start({
          workspace,
          role: 'sidecar',
          discoveryAddress: `localhost:${controlPlane.port}`,
          proxyConfig: {
            controlPlaneAuthPolicy: 'MUTUAL_TLS',
            ...(options.proxyMetadata === undefined ? {} : { proxyMetadata: options.proxyMetadata }),
          },
          envoyPath: envoyBinary().path,
          env: {
            ISTIO_DELTA_XDS: String(options.mode !== 'sotw'),
            ISTIO_META_CLUSTER_ID: 'Kubernetes',
            CA_ADDR: `localhost:${ca.port}`,
            FILE_MOUNTED_CERTS: undefined,
            ECC_SIGNATURE_ALGORITHM: 'ECDSA',
            ...options.env,
          },
          test,
          ...(ports === undefined ? {} : { ports }),
        }),
      );
      ({ ports } = agent);
      await options.beforeReady?.(agent, controlPlane);
      await agent.waitUntilReady();
      return agent;
    };
    const agent = await start();
    const made = { controlPlane, ca, authorities, workspace, port: listenerPort, agent };
    return new MeshSidecar(made, start);
  }

  /** Ends agent and Envoy as a lost node does, and starts them again on the same volumes. */
  async restartAfterKill(): Promise<void> {
    await this.agent.kill();
    this.agent = await this.#startAgent();
  }

  /** A connection of a workload with a certificate of `authority`, which trusts `root` (PEM). */
  async connect(
    authority: Authority = this.authorities.workloads,
    root: string = this.authorities.workloads.certificate,
  ): Promise<WorkloadConnection> {
    return await WorkloadConnection.open(this.port, authority, root);
  }

  /** One request on a connection of its own. */
  async exchange(...trust: Parameters<MeshSidecar['connect']>): Promise<Exchange> {
    const connection = await this.connect(...trust);
    try {
      return await connection.get();
    } finally {
      connection.close();
    }
  }
}

/** A TLS connection of a workload to the sidecar. */
export class WorkloadConnection {
  readonly #socket: TLSSocket;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
  }

  static async open(port: number, authority: Authority, root: string): Promise<WorkloadConnection> {
    const { key, certificate } = authority.issue([clientId]);
    const socket = connect({
      host: '127.0.0.1',
      port,
      key,
      cert: certificate,
      ca: root,
      // The identity is checked by the tests; there is no host name.
      checkServerIdentity: () => undefined,
    });
    await once(socket, 'secureConnect');
    return new WorkloadConnection(socket);
  }

  /** A request on this connection. Throws Error when it gets no answer. */
  async get(): Promise<Exchange> {
    const { serialNumber, subjectaltname } = this.#socket.getPeerCertificate();
    this.#socket.write('GET / HTTP/1.1\r\nhost: backend\r\n\r\n');
    const answer = await this.#answer();
    return {
      serial: serialNumber,
      subjectAltName: subjectaltname ?? '',
      statusLine: answer.split('\r\n')[0] ?? '',
    };
  }

  close(): void {
    this.#socket.on('error', () => undefined).destroy();
  }

  async #answer(): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const onClose = (): void => reject(new Error('the connection was closed without an answer'));
    const onError = (error: Error): void => reject(error);
    const onData = (bytes: Buffer): void => resolve(bytes.toString('latin1'));
    this.#socket.once('data', onData).once('error', onError).once('close', onClose);
    try {
      return await promise;
    } finally {
      this.#socket.off('data', onData).off('error', onError).off('close', onClose);
    }
  }
}
