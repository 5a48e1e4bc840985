import { asBuffer } from '../../proto/wire.ts';
import { describeError, type Logger } from '../log.ts';
import { grpcCode } from './grpc-status.ts';
import type { InterceptedStream, InterceptorFactory, StreamInterceptor } from './interceptor.ts';
import { decodeSideResponse, encodeSideRequest, type SideResponse } from './side-subscription-message.ts';

export interface SideSubscriptionOptions {
  readonly typeUrl: string;
  /**
   * Takes the one resource of the type, or undefined when there is none any more. What it throws refuses the
   * resource, and goes to istiod. The bytes may be kept.
   */
  readonly apply: (resource: Buffer | undefined) => void;
  readonly log: Logger;
}

/**
 * A subscription of the agent itself, carried by Envoy's stream: asked for right after Envoy's first request for
 * listeners, never shown to Envoy (istio/istio `pkg/istio-agent/xds_proxy.go`). Unlike there, an empty response is
 * applied and acknowledged, and a NACK names the version that was accepted last.
 */
export function sideSubscription(options: SideSubscriptionOptions): InterceptorFactory {
  return { typeUrl: options.typeUrl, open: (stream) => new SideSubscription(stream, options) };
}

class SideSubscription implements StreamInterceptor {
  readonly #stream: InterceptedStream;
  readonly #options: SideSubscriptionOptions;
  /** On this stream: another istiod has other versions. */
  #acceptedVersion = '';

  constructor(stream: InterceptedStream, options: SideSubscriptionOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  onLdsRequested(): void {
    this.#send({});
  }

  onResponse(message: Uint8Array): void {
    const { typeUrl, apply, log } = this.#options;
    let response: SideResponse;
    try {
      response = decodeSideResponse(this.#stream.kind, asBuffer(message));
    } catch (error) {
      // Without a nonce there is nothing to answer to.
      this.#stream.end({
        code: grpcCode.internal,
        message: `istiod sent a response for ${typeUrl} that cannot be read: ${describeError(error)}`,
      });
      return;
    }
    const { nonce, version, resource } = response;
    try {
      if (resource !== undefined && resource.typeUrl !== typeUrl) {
        throw new Error(`the resource is of type ${JSON.stringify(resource.typeUrl)}, expected ${typeUrl}`);
      }
      apply(resource?.value);
    } catch (error) {
      const failure = describeError(error);
      log.error('refused a resource of istiod', { id: this.#stream.id, typeUrl, nonce, error: failure });
      this.#send({ version: this.#acceptedVersion, nonce, failure });
      return;
    }
    log.debug('took a resource of istiod', {
      id: this.#stream.id,
      typeUrl,
      nonce,
      isEmpty: resource === undefined,
    });
    this.#acceptedVersion = version;
    this.#send({ version, nonce });
  }

  onRequest(): void {
    // Its answer would go to the agent: nobody has use for the request.
    this.#options.log.warn('dropped a request of Envoy for a type of the agent', {
      id: this.#stream.id,
      typeUrl: this.#options.typeUrl,
    });
  }

  close(): void {
    // What was applied outlives the stream.
  }

  #send(content: { readonly version?: string; readonly nonce?: string; readonly failure?: string }): void {
    const { typeUrl } = this.#options;
    this.#stream.sendUpstream(encodeSideRequest(this.#stream.kind, { typeUrl, ...content }));
  }
}
