import { DeltaAnswers } from './delta-answers.ts';
import type { DownstreamRequest } from './ecds-dialect.ts';
import type { StreamKind } from './interceptor.ts';
import type { ResponseReading } from './response-reading.ts';
import { SotwAnswers } from './sotw-answers.ts';

/** What one request of Envoy changes. */
export interface SubscriptionChange {
  /** True when istiod must see it. */
  readonly isForwarded: boolean;
  /** Of the names given, those that Envoy does not ask for any more. */
  readonly droppedNames: (known: readonly string[]) => readonly string[];
}

/** What istiod was told and may still answer. */
type Answers =
  | { readonly kind: 'delta'; readonly answers: DeltaAnswers }
  | { readonly kind: 'sotw'; readonly answers: SotwAnswers };

/**
 * Which names Envoy asks for on one stream, and which of istiod's responses answer what. istiod does not name a
 * removed extension config: it is absent from a push. A push has all names; the answer to a change of names has not.
 */
export class EcdsSubscription {
  readonly #of: Answers;
  #names: ReadonlySet<string> = new Set();
  #isFirstRequest = true;
  #hasNamed = false;

  constructor(kind: StreamKind) {
    this.#of = kind === 'sotw' ? { kind, answers: new SotwAnswers() } : { kind, answers: new DeltaAnswers() };
  }

  get names(): Iterable<string> {
    return this.#names;
  }

  /** Of these names, those that Envoy had asked for and asks for no more: what istiod sent had crossed the change. */
  unwanted(names: readonly string[]): readonly string[] {
    // Without names from the start Envoy takes what comes.
    return this.#hasNamed ? names.filter((name) => !this.#names.has(name)) : [];
  }

  /**
   * True while names are asked for and istiod has not answered, also when Envoy has dropped them since. Its answer has a
   * newer nonce.
   */
  get isAnswerDue(): boolean {
    return this.#of.answers.isAnswerDue;
  }

  /** Takes a request of Envoy. What `isForwarded` counts as told from now on. */
  change(request: DownstreamRequest): SubscriptionChange {
    const isFirst = this.#isFirstRequest;
    this.#isFirstRequest = false;
    const before = this.#names;
    if (request.kind === 'sotw') {
      const names = new Set(request.names);
      const isChanged = isFirst || before.symmetricDifference(names).size > 0;
      if (isChanged) {
        this.#names = names;
        this.toldAgain();
      }
      return this.#changed(isChanged);
    }
    const { subscribe, unsubscribe } = request;
    // An ACK alone; they are as many as resources.
    if (!isFirst && subscribe.length === 0 && unsubscribe.length === 0) return this.#changed(false);
    this.#names = before.union(new Set(subscribe)).difference(new Set(unsubscribe));
    const isChanged = before.symmetricDifference(this.#names).size > 0;
    if (this.#of.kind === 'delta') this.#of.answers.ask(subscribe, isChanged);
    return this.#changed(isFirst || subscribe.length > 0 || unsubscribe.length > 0);
  }

  /** State of the world: an ACK goes to istiod, and all names with it. */
  toldAgain(): void {
    if (this.#of.kind === 'sotw') this.#of.answers.tell(this.#names);
  }

  /** Takes the names of one response of istiod; `known` are those that it has sent and not withdrawn. */
  read(pushed: readonly string[], known: readonly string[]): ResponseReading {
    return this.#of.kind === 'sotw'
      ? this.#of.answers.read(pushed, known)
      : this.#of.answers.read(pushed, known, this.#names);
  }

  #changed(isForwarded: boolean): SubscriptionChange {
    const names = this.#names;
    if (names.size > 0) this.#hasNamed = true;
    return {
      isForwarded,
      droppedNames: (known) => (isForwarded ? known.filter((name) => !names.has(name)) : []),
    };
  }
}
