import * as codec from '../../proto/codec.ts';
import { typeUrls } from '../../proto/type-urls.ts';
import type { PushedResource } from '../wasm/pushed-resources.ts';
import type { ConfigEnvelope, Offer } from '../wasm/rollout.ts';
import type { StreamKind } from './interceptor.ts';

/** A response of istiod, the same for both forms of the protocol. */
export interface UpstreamPush {
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
  readonly resources: readonly PushedResource[];
  /** Delta only. */
  readonly removedNames: readonly string[];
  /** The response without resources and removed names: what each part is sent in. */
  readonly response: ConfigEnvelope['response'];
}

/** A request of Envoy, the same for both forms. */
export type DownstreamRequest = {
  readonly nonce: string;
  /** Envoy's own text of a NACK. */
  readonly failure: string | undefined;
} & (
  | { readonly kind: 'sotw'; readonly names: readonly string[]; readonly message: codec.DiscoveryRequest }
  | {
      readonly kind: 'delta';
      readonly subscribe: readonly string[];
      readonly unsubscribe: readonly string[];
      readonly message: codec.DeltaDiscoveryRequest;
    }
);

/** What istiod is answered for a push. */
export interface UpstreamVerdict {
  /** Of the response that is answered. Default: extension configs. */
  readonly typeUrl?: string;
  readonly nonce: string;
  /** State of the world: the version accepted last, which a NACK repeats. */
  readonly version: string;
  /** State of the world: all subscribed names; an ACK without them would unsubscribe. */
  readonly names: Iterable<string>;
  readonly failure: string | undefined;
}

/** The two forms of the protocol, as far as ECDS needs them. Decoders throw on bytes that are not the message. */
export interface EcdsDialect {
  decodeResponse(bytes: Uint8Array): UpstreamPush;
  decodeRequest(bytes: Uint8Array): DownstreamRequest;
  encodeOffer(offer: Offer, nonce: string): Uint8Array;
  /** A response without resources; delta: with the names of removed ones. */
  encodeNotice(push: UpstreamPush, removedNames: readonly string[], nonce: string): Uint8Array;
  encodeVerdict(verdict: UpstreamVerdict): Uint8Array;
}

const ecdsTypeUrl = typeUrls.extensionConfig;

const sotw: EcdsDialect = {
  decodeResponse(bytes) {
    const response = codec.decodeResponse(bytes);
    const resources = response.resources.map((any, index) => ({
      any,
      wrapper: undefined,
      place: `resource ${index} of version ${response.versionInfo}`,
    }));
    return {
      typeUrl: response.typeUrl,
      version: response.versionInfo,
      nonce: response.nonce,
      resources,
      removedNames: [],
      response: { ...response, resources: [] },
    };
  },
  decodeRequest(bytes) {
    const message = codec.decodeRequest(bytes);
    const { responseNonce: nonce, resourceNames: names } = message;
    return { kind: 'sotw', nonce, failure: message.errorDetail?.message, names, message };
  },
  encodeOffer({ config }, nonce) {
    return codec.encodeResponse({
      ...asSotw(config.envelope.response),
      resources: [codec.makeAny(ecdsTypeUrl, config.bytes)],
      nonce,
    });
  },
  encodeNotice(push, _removedNames, nonce) {
    return codec.encodeResponse({ ...asSotw(push.response), nonce });
  },
  encodeVerdict({ nonce, version, names, failure, typeUrl = ecdsTypeUrl }) {
    const answer = { typeUrl, versionInfo: version, resourceNames: [...names], responseNonce: nonce };
    return codec.encodeRequest(
      codec.makeRequest(
        failure === undefined ? answer : { ...answer, errorDetail: codec.makeErrorDetail(failure) },
      ),
    );
  },
};

const delta: EcdsDialect = {
  decodeResponse(bytes) {
    const response = codec.decodeDeltaResponse(bytes);
    const resources = response.resources.map((wrapper, index) => ({
      any: wrapper.resource ?? codec.makeAny('', new Uint8Array()),
      wrapper,
      place: `resource ${index} of version ${response.systemVersionInfo}`,
    }));
    return {
      typeUrl: response.typeUrl,
      version: response.systemVersionInfo,
      nonce: response.nonce,
      resources,
      removedNames: response.removedResources,
      response: { ...response, resources: [], removedResources: [] },
    };
  },
  decodeRequest(bytes) {
    const message = codec.decodeDeltaRequest(bytes);
    return {
      kind: 'delta',
      nonce: message.responseNonce,
      failure: message.errorDetail?.message,
      subscribe: message.resourceNamesSubscribe,
      unsubscribe: message.resourceNamesUnsubscribe,
      message,
    };
  },
  encodeOffer({ config }, nonce) {
    const { response, wrapper } = config.envelope;
    const resource = codec.makeAny(ecdsTypeUrl, config.bytes);
    return codec.encodeDeltaResponse({
      ...asDelta(response),
      resources: wrapper === undefined ? [] : [{ ...wrapper, resource }],
      nonce,
    });
  },
  encodeNotice(push, removedNames, nonce) {
    return codec.encodeDeltaResponse({
      ...asDelta(push.response),
      removedResources: [...removedNames],
      nonce,
    });
  },
  encodeVerdict({ nonce, failure, typeUrl = ecdsTypeUrl }) {
    const answer = { typeUrl, responseNonce: nonce };
    return codec.encodeDeltaRequest(
      codec.makeDeltaRequest(
        failure === undefined ? answer : { ...answer, errorDetail: codec.makeErrorDetail(failure) },
      ),
    );
  },
};

/** Envoy keeps one form for its life, so an envelope is always of the stream's own; the other is made empty. */
function asSotw(response: ConfigEnvelope['response']): codec.DiscoveryResponse {
  return response.$typeName === 'envoy.service.discovery.v3.DiscoveryResponse'
    ? response
    : codec.makeResponse({ typeUrl: ecdsTypeUrl, versionInfo: response.systemVersionInfo });
}

function asDelta(response: ConfigEnvelope['response']): codec.DeltaDiscoveryResponse {
  return response.$typeName === 'envoy.service.discovery.v3.DeltaDiscoveryResponse'
    ? response
    : codec.makeDeltaResponse({ typeUrl: ecdsTypeUrl, systemVersionInfo: response.versionInfo });
}

export function ecdsDialect(kind: StreamKind): EcdsDialect {
  return kind === 'sotw' ? sotw : delta;
}

/**
 * A request that only changes the subscription, as it goes to istiod: without Envoy's nonce, which is ours. State
 * of the world repeats istiod's own nonce and version there. Fields we do not know stay.
 */
export function encodeSubscription(
  request: DownstreamRequest,
  latest: { readonly nonce: string; readonly version: string } | undefined,
): Uint8Array {
  if (request.kind === 'sotw') {
    const { errorDetail: _answered, ...message } = request.message;
    const versionInfo = latest?.version ?? message.versionInfo;
    return codec.encodeRequest({ ...message, versionInfo, responseNonce: latest?.nonce ?? '' });
  }
  const { errorDetail: _answered, ...message } = request.message;
  return codec.encodeDeltaRequest({ ...message, responseNonce: '' });
}
