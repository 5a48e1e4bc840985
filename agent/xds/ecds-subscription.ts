import type { DownstreamRequest } from './ecds-dialect.ts';
import type { StreamKind } from './interceptor.ts';

/** What one request of Envoy changes. */
export interface SubscriptionChange {
  /** True when istiod must see it. */
  readonly isForwarded: boolean;
  /** Of the names given, those that Envoy does not ask for any more. */
  readonly droppedNames: (known: readonly string[]) => readonly string[];
}

/**
 * Which names Envoy asks for on one stream, and which of istiod's responses answer what. istiod does not name a
 * removed extension config: it is absent from a push that answers no subscription (captures of a real istiod).
 */
export class EcdsSubscription {
  readonly #kind: StreamKind;
  #names = new Set<string>();
  /** Delta: names of each subscribe that istiod has not answered yet, oldest first. */
  #unanswered: Set<string>[] = [];
  #isFirstRequest = true;

  constructor(kind: StreamKind) {
    this.#kind = kind;
  }

  get names(): Iterable<string> {
    return this.#names;
  }

  change(request: DownstreamRequest): SubscriptionChange {
    const isFirst = this.#isFirstRequest;
    this.#isFirstRequest = false;
    const before = this.#names;
    if (request.kind === 'sotw') {
      this.#names = new Set(request.names);
      const isChanged = before.size !== this.#names.size || before.symmetricDifference(this.#names).size > 0;
      return this.#changed(isFirst || isChanged);
    }
    const { subscribe, unsubscribe } = request;
    this.#names = new Set([...before, ...subscribe]);
    for (const name of unsubscribe) {
      this.#names.delete(name);
      for (const batch of this.#unanswered) batch.delete(name);
    }
    if (subscribe.length > 0) this.#unanswered.push(new Set(subscribe));
    return this.#changed(isFirst || subscribe.length > 0 || unsubscribe.length > 0);
  }

  #changed(isForwarded: boolean): SubscriptionChange {
    const names = this.#names;
    return {
      isForwarded,
      droppedNames: (known) => (isForwarded ? known.filter((name) => !names.has(name)) : []),
    };
  }

  /**
   * Takes the names of one response of istiod; of the names `known`, returns those that it withdraws by not
   * naming them.
   */
  withdrawnNames(pushed: readonly string[], known: readonly string[]): readonly string[] {
    const present = new Set(pushed);
    const absent = known.filter((name) => !present.has(name));
    if (this.#kind === 'sotw') return absent;
    const batch = this.#unanswered[0];
    if (batch !== undefined && present.isSubsetOf(batch)) {
      // The answer to a subscribe: it speaks of no other names.
      this.#unanswered.shift();
      return absent.filter((name) => batch.has(name));
    }
    this.#unanswered = this.#unanswered
      .map((names) => names.difference(present))
      .filter((names) => names.size > 0);
    return absent;
  }
}
