import { fileURLToPath } from 'node:url';
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Authority, KeyedCertificate, Validity } from './authority.ts';

const serviceName = 'istio.v1.auth.IstioCertificateService';
const definition = loadSync(fileURLToPath(new URL('certificate-authority.proto', import.meta.url)), {
  keepCase: true,
  longs: Number,
  defaults: true,
});

/** One request as the server read it. */
export interface SigningCall {
  /** PEM. */
  readonly csr: string;
  readonly validitySeconds: number;
  /** `fields` of the Struct, as proto-loader gives it. */
  readonly metadataFields: Readonly<Record<string, { readonly stringValue?: string }>>;
  /** gRPC metadata. */
  readonly headers: Metadata;
  /** Common name or subject alternative name of the client's certificate; undefined without one. */
  readonly clientNames: string | undefined;
}

/** What is answered instead of a certificate. */
export type Fault =
  | { readonly kind: 'status'; readonly code: status; readonly message: string }
  /** This chain, whatever was asked. */
  | { readonly kind: 'chain'; readonly chain: readonly string[] }
  /** Nothing until the promise settles, then as usual. */
  | { readonly kind: 'delay'; readonly until: Promise<unknown> };

export interface CaServerOptions {
  /** Signs workloads. */
  readonly authority: Authority;
  /** The root at the end of the chain; default: `authority` itself. */
  readonly root?: Authority;
  /** Undefined: plaintext. */
  readonly tls?: {
    readonly server: KeyedCertificate;
    /** Clients must present a certificate of this root; PEM. */
    readonly clientRoot?: string;
  };
  /** Who every client is. */
  readonly spiffeId: string;
  /** Default: what was asked, from now. */
  readonly validity?: (call: SigningCall) => Validity;
  readonly port?: number;
}

interface WireRequest {
  readonly csr: string;
  readonly validity_duration: number;
  readonly metadata: { readonly fields: SigningCall['metadataFields'] } | null;
}

type Call = ServerUnaryCall<WireRequest, { readonly cert_chain: readonly string[] }>;

/** A CA with istiod's API on 127.0.0.1, that does as it is told. */
export class CaServer implements AsyncDisposable {
  readonly port: number;
  /** All requests so far. */
  readonly calls: SigningCall[] = [];
  readonly #options: CaServerOptions;
  readonly #server: Server;
  readonly #faults: Fault[] = [];
  readonly #waiting: { readonly count: number; readonly resolve: () => void }[] = [];
  #authority: Authority;
  #root: Authority;

  private constructor(options: CaServerOptions, server: Server, port: number) {
    this.#options = options;
    this.#server = server;
    this.port = port;
    this.#authority = options.authority;
    this.#root = options.root ?? options.authority;
  }

  static async start(options: CaServerOptions): Promise<CaServer> {
    const server = new Server();
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    let started: CaServer | undefined;
    server.addService(definition[serviceName] as ServiceDefinition, {
      CreateCertificate: (call: Call, answer: Parameters<CaServer['answer']>[1]) => {
        void started?.answer(call, answer);
      },
    });
    server.bindAsync(`127.0.0.1:${options.port ?? 0}`, credentialsOf(options.tls), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
    started = new CaServer(options, server, await promise);
    return started;
  }

  /** `127.0.0.1:<port>` */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** The next requests meet these, one each. */
  failNext(...faults: readonly Fault[]): void {
    this.#faults.push(...faults);
  }

  /** From now on another authority signs. */
  rotate(authority: Authority, root: Authority = authority): void {
    this.#authority = authority;
    this.#root = root;
  }

  /** Resolves when so many requests have come in all. */
  async waitForCalls(count: number): Promise<void> {
    if (this.calls.length >= count) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ count, resolve });
    await promise;
  }

  /** Answers one call; for the gRPC server only. */
  async answer(call: Call, answer: sendUnaryData<{ readonly cert_chain: readonly string[] }>): Promise<void> {
    const seen = readCall(call);
    const fault = this.#faults.shift();
    this.calls.push(seen);
    for (const { count, resolve } of this.#waiting) if (this.calls.length >= count) resolve();
    if (fault?.kind === 'status') {
      answer({ code: fault.code, details: fault.message });
      return;
    }
    if (fault?.kind === 'delay') await fault.until;
    try {
      answer(null, { cert_chain: fault?.kind === 'chain' ? fault.chain : this.#sign(seen) });
    } catch (error) {
      answer({ code: status.INVALID_ARGUMENT, details: String(error) });
    }
  }

  /** Drops every connection and frees the port. */
  async close(): Promise<void> {
    this.#server.forceShutdown();
    await Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Leaf, intermediate if there is one, root: as istiod, which gives the root twice when it signs itself. */
  #sign(call: SigningCall): readonly string[] {
    const { spiffeId, validity } = this.#options;
    const asked = { notAfter: new Date(Date.now() + call.validitySeconds * 1000) };
    const leaf = this.#authority.signRequest(call.csr, [spiffeId], validity?.(call) ?? asked);
    return [leaf, this.#authority.certificate, this.#root.certificate];
  }
}

function readCall(call: Call): SigningCall {
  const { csr, validity_duration: validitySeconds, metadata } = call.request;
  const peer = call.getAuthContext().sslPeerCertificate;
  return {
    csr,
    validitySeconds,
    metadataFields: metadata?.fields ?? {},
    headers: call.metadata,
    clientNames: peer?.subjectaltname,
  };
}

function credentialsOf(tls: CaServerOptions['tls']): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const { server, clientRoot } = tls;
  return ServerCredentials.createSsl(
    clientRoot === undefined ? null : Buffer.from(clientRoot),
    [{ cert_chain: Buffer.from(server.certificate), private_key: Buffer.from(server.key) }],
    clientRoot !== undefined,
  );
}
