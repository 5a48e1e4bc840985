import type { DownstreamRequest } from './ecds-dialect.ts';
import type { StreamKind } from './interceptor.ts';

/** What one request of Envoy changes. */
export interface SubscriptionChange {
  /** True when istiod must see it. */
  readonly isForwarded: boolean;
  /** Of the names given, those that Envoy does not ask for any more. */
  readonly droppedNames: (known: readonly string[]) => readonly string[];
}

/** A request that istiod has not answered. */
interface Asked {
  /** That it added; none where delta only dropped names. */
  readonly names: ReadonlySet<string>;
  /**
   * `due`: the answer comes. `unsure`: names that were asked for before, to which istiod may have nothing to say.
   * `doubtful`: an empty response has come that may have been the answer.
   */
  readonly answer: 'due' | 'unsure' | 'doubtful';
}

/** What a response of istiod says by the names that it has. */
export interface ResponseReading {
  /** Names that are no more. */
  readonly withdrawn: readonly string[];
  /** State of the world: istiod has not taken the names that were added last, and must be told again. */
  readonly areNamesLost: boolean;
}

/**
 * Which names Envoy asks for on one stream, and which of istiod's responses answer what. istiod does not name a
 * removed extension config: it is absent from a push. A push has all names; the answer to a change of names has the
 * added ones only, in state of the world too, and in delta none where names were only dropped (seen with a real
 * istiod). Such an answer says nothing of other names. istiod answers what it reads before it pushes again; in state
 * of the world it passes over a change of names that names an older response.
 */
export class EcdsSubscription {
  readonly #kind: StreamKind;
  #names = new Set<string>();
  /** Oldest first. */
  #asked: Asked[] = [];
  #isFirstRequest = true;

  constructor(kind: StreamKind) {
    this.#kind = kind;
  }

  get names(): Iterable<string> {
    return this.#names;
  }

  /**
   * True while names are asked for and istiod has not answered, also when Envoy has dropped them since. Its answer has a
   * newer nonce.
   */
  get isAnswerDue(): boolean {
    return this.#asked.some(({ names, answer }) => answer === 'due' && names.size > 0);
  }

  change(request: DownstreamRequest): SubscriptionChange {
    const isFirst = this.#isFirstRequest;
    this.#isFirstRequest = false;
    const before = this.#names;
    if (request.kind === 'sotw') {
      this.#names = new Set(request.names);
      const names = this.#names.difference(before);
      const isChanged = before.size !== this.#names.size || names.size > 0;
      // Names that are only dropped have no answer.
      if (names.size > 0) this.#asked.push({ names, answer: 'due' });
      return this.#changed(isFirst || isChanged);
    }
    const { subscribe, unsubscribe } = request;
    // An ACK alone; they are as many as resources.
    if (!isFirst && subscribe.length === 0 && unsubscribe.length === 0) return this.#changed(false);
    this.#names = new Set([...before, ...subscribe]);
    for (const name of unsubscribe) this.#names.delete(name);
    const isChanged = before.symmetricDifference(this.#names).size > 0;
    if (isChanged || subscribe.length > 0)
      this.#asked.push({ names: new Set(subscribe), answer: isChanged ? 'due' : 'unsure' });
    return this.#changed(isFirst || subscribe.length > 0 || unsubscribe.length > 0);
  }

  #changed(isForwarded: boolean): SubscriptionChange {
    const names = this.#names;
    return {
      isForwarded,
      droppedNames: (known) => (isForwarded ? known.filter((name) => !names.has(name)) : []),
    };
  }

  /** Takes the names of one response of istiod; `known` are those that it has sent and not withdrawn. */
  read(pushed: readonly string[], known: readonly string[]): ResponseReading {
    const reading = this.#readNames(pushed, known);
    // What this response does not answer, it has overtaken: state of the world is silent about that, and names that
    // nobody wants any more are not told again.
    if (this.#kind === 'sotw') {
      this.#asked = this.#asked.filter(({ names }) => !names.isDisjointFrom(this.#names));
    }
    return reading;
  }

  #readNames(pushed: readonly string[], known: readonly string[]): ResponseReading {
    const present = new Set(pushed);
    const absent = known.filter((name) => !present.has(name));
    if (present.size === 0) return this.#readEmpty(absent);
    const answered = this.#answeredBy(present);
    const areNamesDropped = !present.isSubsetOf(this.#names);
    // Of names that are here no other answer is to come.
    this.#asked = this.#asked.flatMap((one) => {
      if (answered?.includes(one) === true) return [];
      if (one.names.size === 0 || (answered !== undefined && one.answer === 'due')) return [one];
      const names = one.names.difference(present);
      return names.size === 0 ? [] : [{ ...one, names }];
    });
    const withdrawn =
      answered === undefined
        ? absent
        : absent.filter((name) => answered.some(({ names }) => names.has(name)));
    return { withdrawn, areNamesLost: this.#kind === 'sotw' && (this.#isAsking() || areNamesDropped) };
  }

  /** The answer to dropped names, or to names that istiod does not have; or the push of an istiod without plugins. */
  #readEmpty(known: readonly string[]): ResponseReading {
    const isDrop = ({ names, answer }: Asked): boolean => answer === 'due' && names.size === 0;
    const asked =
      this.#asked.find(isDrop) ??
      this.#asked.find(({ answer }) => answer === 'due') ??
      this.#asked.find(({ answer }) => answer === 'unsure') ??
      this.#asked.find(({ names }) => !names.isDisjointFrom(this.#names));
    if (asked === undefined) return { withdrawn: known, areNamesLost: false };
    // Which of the two it is cannot be told: nothing more is waited for, but what may still come is known.
    this.#asked = this.#asked.flatMap((one) => {
      if (one !== asked) return [one];
      return one.answer === 'due' && !isDrop(one) ? [{ ...one, answer: 'doubtful' }] : [];
    });
    return {
      withdrawn: known.filter((name) => asked.names.has(name)),
      areNamesLost: this.#kind === 'sotw' && this.#isAsking(),
    };
  }

  /** True while istiod may not have taken a name that Envoy wants. */
  #isAsking(): boolean {
    return this.#asked.some(({ names, answer }) => answer !== 'unsure' && !names.isDisjointFrom(this.#names));
  }

  /** The requests that a response with these names answers; undefined for a push. */
  #answeredBy(present: ReadonlySet<string>): readonly Asked[] | undefined {
    const fitting = this.#asked.filter(({ names }) => present.isSubsetOf(names));
    const one = fitting.find(({ answer }) => answer === 'due') ?? fitting[0];
    if (one !== undefined) return [one];
    // State of the world: requests that istiod has passed over are answered together.
    const several = this.#asked.filter(({ names }) => !names.isDisjointFrom(present));
    if (several.length === 0) return undefined;
    const all = new Set(several.flatMap(({ names }) => [...names]));
    return present.isSubsetOf(all) ? several : undefined;
  }
}
