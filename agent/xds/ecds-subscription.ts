import type { DownstreamRequest } from './ecds-dialect.ts';

/** What one request of Envoy changes. */
export interface SubscriptionChange {
  /** True when istiod must see it. */
  readonly isForwarded: boolean;
  /** Of the names given, those that Envoy does not ask for any more. */
  readonly droppedNames: (known: readonly string[]) => readonly string[];
}

/**
 * Which names Envoy asks for on one stream, and which of istiod's responses answer what. istiod does not name a
 * removed extension config: it is absent from a push. A push has all names; the answer to a change of names has the
 * added ones only, in state of the world too, and in delta none where names were only dropped (seen with a real
 * istiod). Such an answer says nothing of other names.
 */
export class EcdsSubscription {
  #names = new Set<string>();
  /**
   * Names that were added by each request that istiod has not answered yet, oldest first; an empty set where delta
   * only dropped names.
   */
  #unanswered: ReadonlySet<string>[] = [];
  #isFirstRequest = true;

  get names(): Iterable<string> {
    return this.#names;
  }

  change(request: DownstreamRequest): SubscriptionChange {
    const isFirst = this.#isFirstRequest;
    this.#isFirstRequest = false;
    const before = this.#names;
    if (request.kind === 'sotw') {
      this.#names = new Set(request.names);
      const added = this.#names.difference(before);
      const isChanged = before.size !== this.#names.size || added.size > 0;
      // Names that are only dropped have no answer.
      if (added.size > 0) this.#unanswered.push(added);
      return this.#changed(isFirst || isChanged);
    }
    const { subscribe, unsubscribe } = request;
    this.#names = new Set([...before, ...subscribe]);
    for (const name of unsubscribe) this.#names.delete(name);
    const isChanged = before.symmetricDifference(this.#names).size > 0;
    if (subscribe.length > 0 || isChanged) this.#unanswered.push(new Set(subscribe));
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
    const answered = this.#answeredBy(present);
    if (answered !== undefined) {
      this.#unanswered = this.#unanswered.filter((batch) => !answered.includes(batch));
      return absent.filter((name) => answered.some((batch) => batch.has(name)));
    }
    // istiod answers before it pushes: of names that are in a push no answer is to come.
    this.#unanswered = this.#unanswered.flatMap((batch) => {
      const left = batch.difference(present);
      return left.size === 0 && batch.size > 0 ? [] : [left];
    });
    return absent;
  }

  /** The requests that a response with these names answers; undefined for a push. */
  #answeredBy(present: ReadonlySet<string>): readonly ReadonlySet<string>[] | undefined {
    const [oldest] = this.#unanswered;
    if (oldest === undefined) return undefined;
    if (present.size === 0) return [this.#unanswered.find((batch) => batch.size === 0) ?? oldest];
    const one = this.#unanswered.find((batch) => present.isSubsetOf(batch));
    if (one !== undefined) return [one];
    // State of the world: requests that istiod has passed over are answered together, with the ACK that repeats them.
    const several = this.#unanswered.filter((batch) => !batch.isDisjointFrom(present));
    const names = new Set(several.flatMap((batch) => [...batch]));
    return present.isSubsetOf(names) ? several : undefined;
  }
}
