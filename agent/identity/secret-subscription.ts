import type { SecretRequest } from './secret-messages.ts';

/** What one stream has asked for. */
export interface Subscription {
  readonly names: ReadonlySet<string>;
  /** Of the last response on this stream; empty before the first. */
  readonly sentNonce: string;
}

/** What a request is answered with. `subscription` is what holds from now on; undefined: nothing is watched. */
export type Verdict =
  | {
      readonly kind: 'answer';
      readonly names: readonly string[];
      readonly subscription: Subscription;
    }
  | {
      readonly kind: 'silence';
      readonly reason: 'rejected' | 'unsubscribed' | 'stale' | 'acknowledged';
      readonly subscription: Subscription | undefined;
    };

/** The ACK and NACK rules of state-of-the-world xDS for secrets (`pkg/xds/server.go`, ShouldRespond). */
export function judgeRequest(current: Subscription | undefined, request: SecretRequest): Verdict {
  const { nonce } = request;
  if (request.rejection !== undefined) {
    return { kind: 'silence', reason: 'rejected', subscription: current };
  }
  const names = new Set(request.names);
  if (names.size === 0) return { kind: 'silence', reason: 'unsubscribed', subscription: undefined };
  // A reconnected Envoy brings the nonce of its old stream and must be answered.
  if (nonce === '' || current === undefined) {
    return { kind: 'answer', names: [...names], subscription: { names, sentNonce: '' } };
  }
  if (nonce !== current.sentNonce) return { kind: 'silence', reason: 'stale', subscription: current };
  const subscription = { names, sentNonce: current.sentNonce };
  const added = [...names].filter((name) => !current.names.has(name));
  if (added.length > 0) return { kind: 'answer', names: added, subscription };
  return { kind: 'silence', reason: 'acknowledged', subscription };
}
