import { randomUUID } from 'node:crypto';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { configType, discoveryType } from './control-plane/proto-definitions.ts';

const servicePath = '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets';
const secretType = 'envoy.extensions.transport_sockets.tls.v3.Secret';

/** What is served under one name; PEM. */
export type ProvidedSecret =
  | { readonly kind: 'key-pair'; readonly certificate: string; readonly key: string }
  | { readonly kind: 'roots'; readonly certificates: string };

interface WireRequest {
  readonly resource_names: readonly string[];
  readonly response_nonce: string;
}

/** A provider of workload certificates that is not the agent, as SPIRE is: SDS on a Unix socket. */
export class SdsProvider implements AsyncDisposable {
  /** Every name that was asked for, in order. */
  readonly askedNames: string[] = [];
  readonly #server: Server;
  readonly #secrets: ReadonlyMap<string, ProvidedSecret>;

  private constructor(server: Server, secrets: ReadonlyMap<string, ProvidedSecret>) {
    this.#server = server;
    this.#secrets = secrets;
  }

  /** `socketPath` is absolute; its folder must be there. */
  static async start(
    socketPath: string,
    secrets: Readonly<Record<string, ProvidedSecret>>,
  ): Promise<SdsProvider> {
    const server = new Server();
    const provider = new SdsProvider(server, new Map(Object.entries(secrets)));
    const asIs = (bytes: Buffer): Buffer => bytes;
    const method = {
      path: servicePath,
      requestStream: true,
      responseStream: true,
      requestSerialize: asIs,
      requestDeserialize: asIs,
      responseSerialize: asIs,
      responseDeserialize: asIs,
    };
    server.addService(
      { StreamSecrets: method },
      { StreamSecrets: (call: ServerDuplexStream<Buffer, Buffer>) => provider.serve(call) },
    );
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
    await promise;
    return provider;
  }

  /** Answers one stream; for the gRPC server only. */
  serve(call: ServerDuplexStream<Buffer, Buffer>): void {
    call.on('error', () => undefined);
    call.on('end', () => call.end());
    call.on('data', (bytes: Buffer) => {
      const request = discoveryType('envoy.service.discovery.v3.DiscoveryRequest').deserialize(
        bytes,
      ) as WireRequest;
      if (request.response_nonce !== '') return;
      this.askedNames.push(...request.resource_names);
      call.write(this.#answer(request.resource_names));
    });
  }

  /** Drops every connection and removes the socket. */
  async close(): Promise<void> {
    this.#server.forceShutdown();
    await Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #answer(names: readonly string[]): Buffer {
    const typeUrl = `type.googleapis.com/${secretType}`;
    const resources = names.flatMap((name) => {
      const secret = this.#secrets.get(name);
      return secret === undefined
        ? []
        : [{ type_url: typeUrl, value: configType(secretType).serialize(wireSecret(name, secret)) }];
    });
    return discoveryType('envoy.service.discovery.v3.DiscoveryResponse').serialize({
      version_info: '1',
      resources,
      type_url: typeUrl,
      nonce: randomUUID(),
    });
  }
}

function wireSecret(name: string, secret: ProvidedSecret): object {
  const inline = (pem: string): object => ({ inline_bytes: Buffer.from(pem) });
  switch (secret.kind) {
    case 'key-pair': {
      const { certificate, key } = secret;
      return { name, tls_certificate: { certificate_chain: inline(certificate), private_key: inline(key) } };
    }
    case 'roots':
      return { name, validation_context: { trusted_ca: inline(secret.certificates) } };
    default:
      return secret satisfies never;
  }
}
