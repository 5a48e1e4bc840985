import assert from 'node:assert/strict';
import type { StreamKind } from '../../../agent/xds/interceptor.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import * as codec from '../../support/ecds-codec.ts';

const typeUrl = typeUrls.extensionConfig;
const listenerTypeUrl = 'type.googleapis.com/envoy.config.listener.v3.Listener';

/** A request of the agent to istiod, as far as it is looked at. */
export interface ReadRequest {
  readonly nonce: string;
  readonly failure: string | undefined;
  /** State of the world: all names; delta: what changes. */
  readonly names:
    | { readonly kind: 'all'; readonly all: readonly string[] }
    | { readonly kind: 'change'; readonly added: readonly string[]; readonly dropped: readonly string[] };
}

/** A response of the agent to Envoy: at most one config. */
export interface ReadResponse {
  readonly nonce: string;
  readonly config: Uint8Array | undefined;
}

/** The messages of istiod and Envoy in one form of the protocol. */
export class EcdsWire {
  readonly #isSotw: boolean;

  constructor(kind: StreamKind) {
    this.#isSotw = kind === 'sotw';
  }

  /** From istiod; the nonce is the version too. */
  response(
    nonce: string,
    resources: readonly { readonly name: string; readonly any: codec.Any }[],
  ): Uint8Array {
    if (this.#isSotw) {
      const anys = resources.map(({ any }) => any);
      return codec.encodeResponse(
        codec.makeResponse({ typeUrl, nonce, versionInfo: nonce, resources: anys }),
      );
    }
    return codec.encodeDeltaResponse(
      codec.makeDeltaResponse({
        typeUrl,
        nonce,
        systemVersionInfo: nonce,
        resources: resources.map(({ name, any }) => ({
          $typeName: 'envoy.service.discovery.v3.Resource' as const,
          name,
          version: '',
          aliases: [],
          resource: any,
        })),
      }),
    );
  }

  /** From Envoy. `nonce`: of the response that it has answered last, which state of the world repeats. */
  subscription(
    all: Iterable<string>,
    change: { readonly added: readonly string[]; readonly removed: readonly string[] },
    nonce: string,
  ): Uint8Array {
    return this.#isSotw
      ? codec.encodeRequest(codec.makeRequest({ typeUrl, resourceNames: [...all], responseNonce: nonce }))
      : codec.encodeDeltaRequest(
          codec.makeDeltaRequest({
            typeUrl,
            resourceNamesSubscribe: [...change.added],
            resourceNamesUnsubscribe: [...change.removed],
          }),
        );
  }

  /** Envoy's answer to a response of the agent. */
  answer(all: Iterable<string>, nonce: string, failure: string | undefined): Uint8Array {
    const common = { typeUrl, responseNonce: nonce, ...detailOf(failure) };
    return this.#isSotw
      ? codec.encodeRequest(codec.makeRequest({ ...common, resourceNames: [...all] }))
      : codec.encodeDeltaRequest(codec.makeDeltaRequest(common));
  }

  /** Envoy's answer to a listener. */
  listenerAnswer(failure: string | undefined): Uint8Array {
    const answer = { typeUrl: listenerTypeUrl, responseNonce: 'l', ...detailOf(failure) };
    return this.#isSotw
      ? codec.encodeRequest(codec.makeRequest(answer))
      : codec.encodeDeltaRequest(codec.makeDeltaRequest(answer));
  }

  readRequest(message: Uint8Array): ReadRequest {
    const request = this.#isSotw ? codec.decodeRequest(message) : codec.decodeDeltaRequest(message);
    return {
      nonce: request.responseNonce,
      failure: request.errorDetail?.message,
      names:
        'resourceNames' in request
          ? { kind: 'all', all: request.resourceNames }
          : {
              kind: 'change',
              added: request.resourceNamesSubscribe,
              dropped: request.resourceNamesUnsubscribe,
            },
    };
  }

  readResponse(message: Uint8Array): ReadResponse {
    const response = this.#isSotw ? codec.decodeResponse(message) : codec.decodeDeltaResponse(message);
    const anys = response.resources.map((resource) => ('typeUrl' in resource ? resource : resource.resource));
    assert.ok(anys.length <= 1, 'each resource goes alone');
    return { nonce: response.nonce, config: anys[0]?.value };
  }
}

function detailOf(failure: string | undefined): {
  readonly errorDetail?: ReturnType<typeof codec.makeErrorDetail>;
} {
  return failure === undefined ? {} : { errorDetail: codec.makeErrorDetail(failure) };
}
