/**
 * istiod's rules of subscription, ACK and NACK: what one request of one type changes, and whether it is answered.
 * Pure functions over data. Source: istio/istio `pkg/xds/server.go` (ShouldRespond), `pilot/pkg/xds/delta.go`
 * (shouldRespondDelta).
 */
import type { XdsRequest } from './discovery-messages.ts';
import { isWildcardType } from './type-urls.ts';
import type { Selection } from './world.ts';

/** What the control plane knows of one type on one stream. */
export interface Watch {
  readonly typeUrl: string;
  /** The subscribed names; of a wildcard type in delta, the names last sent or reported as kept. */
  readonly names: ReadonlySet<string>;
  /** Of the last response; empty before the first. */
  readonly nonceSent: string;
  readonly versionSent: string;
  /** Of the last ACK; empty before the first. */
  readonly nonceAcked: string;
  /** Text of the last NACK; empty again after an ACK. */
  readonly lastError: string;
  /** The next ACK is answered with everything: endpoints must come again after the clusters came again. */
  readonly mustAnswer: boolean;
}

/** What a request was taken for. */
export type Verdict =
  /** It accepts the last response; it may change the subscription too. */
  | 'ack'
  /** It rejects a response. `stale_nack` is about an older one: istiod counts it all the same. */
  | 'nack'
  | 'stale_nack'
  /** It is about a response that was followed by another: istiod ignores it. */
  | 'stale'
  /** It asks for names, the first time or anew, and is about no response. */
  | 'subscribe'
  /** It drops the subscription of the type (state of the world: no names), or asks for nothing new. */
  | 'unsubscribe'
  /** HealthInformation, or a type that is never answered here. */
  | 'unanswered';

/** What one request leads to. */
export interface Decision {
  readonly verdict: Verdict;
  /** The new state; undefined when the type is no longer watched. */
  readonly watch: Watch | undefined;
  /** What to answer; undefined for nothing. */
  readonly answer: Selection | undefined;
}

const watched: Selection = { kind: 'watched' };

/** Decides about a state-of-the-world request. */
export function decideSotw(previous: Watch | undefined, request: XdsRequest): Decision {
  if (request.error !== undefined) return rejected(previous, request, request.error.message);
  const { typeUrl } = request;
  const names = new Set(request.names);
  if (names.size === 0 && !isWildcardType(typeUrl)) {
    return { verdict: 'unsubscribe', watch: undefined, answer: undefined };
  }
  if (request.nonce === '' || previous === undefined) {
    return { verdict: 'subscribe', watch: newWatch(typeUrl, names), answer: watched };
  }
  if (request.nonce !== previous.nonceSent) {
    return { verdict: 'stale', watch: previous, answer: undefined };
  }
  const watch = { ...acknowledged(previous), names };
  const added = names.difference(previous.names);
  const removed = previous.names.difference(names);
  if (previous.mustAnswer) return { verdict: 'ack', watch, answer: watched };
  if (added.size === 0 && (removed.size === 0 || !isWildcardType(typeUrl))) {
    return { verdict: 'ack', watch, answer: undefined };
  }
  return {
    verdict: 'ack',
    watch,
    answer: added.size === 0 ? watched : { kind: 'only', names: added },
  };
}

/** Decides about a delta request. */
export function decideDelta(previous: Watch | undefined, request: XdsRequest): Decision {
  if (request.error !== undefined) return rejected(previous, request, request.error.message);
  const dropped = withoutWildcard(request.unsubscribe);
  const asked = withoutWildcard([...request.names, ...Object.keys(request.initialVersions)]).difference(
    dropped,
  );
  const askedOnly: Selection = { kind: 'only', names: asked };
  if (previous === undefined) {
    const answer = asked.size === 0 && dropped.size === 0 ? watched : askedOnly;
    return { verdict: 'subscribe', watch: newWatch(request.typeUrl, asked), answer };
  }
  if (request.nonce !== '' && request.nonce !== previous.nonceSent) {
    return { verdict: 'stale', watch: previous, answer: undefined };
  }
  const isSpontaneous = request.nonce === '';
  const names = previous.names.union(asked).difference(dropped);
  const isChanged = names.symmetricDifference(previous.names).size > 0;
  const watch = { ...(isSpontaneous ? { ...previous, mustAnswer: false } : acknowledged(previous)), names };
  const verdict = isSpontaneous ? (asked.size === 0 ? 'unsubscribe' : 'subscribe') : 'ack';
  if (isChanged) return { verdict, watch, answer: askedOnly };
  return { verdict, watch, answer: previous.mustAnswer ? watched : undefined };
}

/** The state after a response was sent. `names` replaces the names of a delta wildcard type. */
export function afterResponse(
  watch: Watch,
  sent: { readonly nonce: string; readonly version: string; readonly names?: ReadonlySet<string> },
): Watch {
  return {
    ...watch,
    nonceSent: sent.nonce,
    versionSent: sent.version,
    ...(sent.names === undefined ? {} : { names: sent.names }),
  };
}

/** A type on which nothing has been sent. */
export function newWatch(typeUrl: string, names: ReadonlySet<string>): Watch {
  return {
    typeUrl,
    names,
    nonceSent: '',
    versionSent: '',
    nonceAcked: '',
    lastError: '',
    mustAnswer: false,
  };
}

/** `*` asks for everything of a wildcard type; it is the name of no resource. */
function withoutWildcard(names: readonly string[]): Set<string> {
  return new Set(names.filter((name) => name !== '*'));
}

function acknowledged(watch: Watch): Watch {
  return { ...watch, nonceAcked: watch.nonceSent, lastError: '', mustAnswer: false };
}

function rejected(previous: Watch | undefined, request: XdsRequest, message: string): Decision {
  return {
    verdict: previous !== undefined && request.nonce === previous.nonceSent ? 'nack' : 'stale_nack',
    watch: previous === undefined ? undefined : { ...previous, lastError: message },
    answer: undefined,
  };
}
