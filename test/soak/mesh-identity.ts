import { rename } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import { Authority, type KeyedCertificate } from '../support/certificate-authority/authority.ts';
import { CaServer } from '../support/certificate-authority/ca-server.ts';
import type { TlsOptions } from '../support/control-plane/ads-server.ts';
import type { Workspace } from '../support/workspace.ts';

/** A certificate is replaced when half of this is over: four times a minute. */
export const certificateLifeSeconds = 30;
/** What tokens begin with: no line of the log may have it. */
export const tokenMark = 'soak-token-';
const workloadId = 'spiffe://cluster.local/ns/default/sa/gateway';
const clientId = 'spiffe://cluster.local/ns/default/sa/client';
/** What `localhost` stands for (istio/istio `pkg/istio-agent`). */
const istiodHost = 'istiod.istio-system.svc';
const tokenPath = 'var/run/secrets/tokens/istio-token';
const rootPath = 'var/run/secrets/istio/root-cert.pem';

/** What the agent was given as its identity so far. */
export interface IdentityCounts {
  /** Requests to the CA, those that failed included. */
  readonly signingRequestCount: number;
  /** Different tokens among them. */
  readonly tokenCount: number;
  readonly replacedTokenCount: number;
  readonly replacedRootCount: number;
  readonly replacedIntermediateCount: number;
}

/** The mesh's authorities, its CA over TLS, and the files that a pod has of it. */
export class MeshIdentity implements AsyncDisposable {
  readonly ca: CaServer;
  /** Of the control plane, which has a certificate of the same authority as the CA. */
  readonly istiodTls: TlsOptions;
  readonly #istiod: Authority;
  readonly #workloads: Authority;
  readonly #workspace: Workspace;
  #replacedTokenCount = 0;
  #replacedRootCount = 0;
  #replacedIntermediateCount = 0;

  private constructor(parts: {
    readonly ca: CaServer;
    readonly served: KeyedCertificate;
    readonly istiod: Authority;
    readonly workloads: Authority;
    readonly workspace: Workspace;
  }) {
    this.ca = parts.ca;
    this.istiodTls = { cert: parts.served.certificate, key: parts.served.key };
    this.#istiod = parts.istiod;
    this.#workloads = parts.workloads;
    this.#workspace = parts.workspace;
  }

  /** Starts the CA and writes token and root. */
  static async start(workspace: Workspace): Promise<MeshIdentity> {
    const istiod = Authority.createRoot('istiod root');
    const workloads = Authority.createRoot('workload root');
    const served = istiod.issue([istiodHost]);
    await workspace.write(rootPath, istiod.certificate);
    await workspace.write(tokenPath, `${tokenMark}0`);
    const ca = await CaServer.start({ authority: workloads, tls: { server: served }, spiffeId: workloadId });
    return new MeshIdentity({ ca, served, istiod, workloads, workspace });
  }

  get counts(): IdentityCounts {
    const tokens = new Set(this.ca.calls.map(({ headers }) => headers.get('authorization').toString()));
    return {
      signingRequestCount: this.ca.calls.length,
      tokenCount: tokens.size,
      replacedTokenCount: this.#replacedTokenCount,
      replacedRootCount: this.#replacedRootCount,
      replacedIntermediateCount: this.#replacedIntermediateCount,
    };
  }

  /** Variables with which the agent asks this CA for short certificates. */
  get environment(): Readonly<Record<string, string | undefined>> {
    return {
      CA_ADDR: `localhost:${this.ca.port}`,
      FILE_MOUNTED_CERTS: undefined,
      SECRET_TTL: `${certificateLifeSeconds}s`,
    };
  }

  /** What a workload of the mesh presents and trusts. */
  issueClient(): { readonly key: string; readonly cert: string; readonly ca: string } {
    const { key, certificate } = this.#workloads.issue([clientId]);
    return { key, cert: certificate, ca: this.#workloads.certificate };
  }

  /** As the kubelet does before a token ends. */
  async replaceToken(): Promise<void> {
    this.#replacedTokenCount += 1;
    await this.#replace(tokenPath, `${tokenMark}${this.#replacedTokenCount}`);
  }

  /** Another root stands beside the one in use, as when istiod is about to change it. */
  async replaceRoot(): Promise<void> {
    this.#replacedRootCount += 1;
    const next = Authority.createRoot(`root ${this.#replacedRootCount}`);
    await this.#replace(rootPath, next.certificate + this.#istiod.certificate);
  }

  /** From now on another authority below the same root signs. */
  replaceIntermediate(): void {
    this.#replacedIntermediateCount += 1;
    const name = `intermediate ${this.#replacedIntermediateCount}`;
    this.ca.rotate(this.#workloads.createIntermediate(name), this.#workloads);
  }

  /** So many of the next signing requests fail as when istiod is overloaded. */
  failNextRequests(count: number): void {
    const fault = { kind: 'status', code: status.UNAVAILABLE, message: 'soak' } as const;
    this.ca.failNext(...Array.from({ length: count }, () => fault));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ca.close();
  }

  /** The file is never there by half. */
  async #replace(path: string, contents: string): Promise<void> {
    const fresh = await this.#workspace.write(`${path}.new`, contents);
    await rename(fresh, this.#workspace.path(path));
  }
}
