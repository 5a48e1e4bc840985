import type { ResponseReading } from './response-reading.ts';

/** A request that istiod has not answered. */
interface Asked {
  /** That it added; none where names were only dropped. */
  readonly names: ReadonlySet<string>;
  /**
   * `due`: the answer comes. `unsure`: names that were asked for before, to which istiod may have nothing to say.
   * `doubtful`: an empty response has come that may have been the answer.
   */
  readonly answer: 'due' | 'unsure' | 'doubtful';
}

/**
 * Which of istiod's responses answer what, in delta. A push has all names; the answer to a change of names has the added
 * ones only, and none where names were only dropped (seen with a real istiod). Such an answer says nothing of other
 * names. istiod answers what it reads before it pushes again.
 */
export class DeltaAnswers {
  /** Oldest first. */
  #asked: Asked[] = [];

  /** True while names are asked for and istiod has not answered. Its answer has a newer nonce. */
  get isAnswerDue(): boolean {
    return this.#asked.some(({ names, answer }) => answer === 'due' && names.size > 0);
  }

  /** A request that adds these names goes to istiod. `isChanged`: names come or go with it. */
  ask(names: readonly string[], isChanged: boolean): void {
    if (isChanged || names.length > 0)
      this.#asked.push({ names: new Set(names), answer: isChanged ? 'due' : 'unsure' });
  }

  /**
   * Takes the names of one response; `known` are those that istiod has sent and not withdrawn, `wanted` those that Envoy
   * asks for.
   */
  read(pushed: readonly string[], known: readonly string[], wanted: ReadonlySet<string>): ResponseReading {
    return { withdrawn: this.#withdrawn(new Set(pushed), known, wanted), areNamesLost: false };
  }

  #withdrawn(
    present: ReadonlySet<string>,
    known: readonly string[],
    wanted: ReadonlySet<string>,
  ): readonly string[] {
    const absent = known.filter((name) => !present.has(name));
    if (present.size === 0) return this.#withdrawnByEmpty(absent, wanted);
    const answered = this.#answeredBy(present);
    // Of names that are here no other answer is to come.
    this.#asked = this.#asked.flatMap((one) => {
      if (answered?.includes(one) === true) return [];
      if (one.names.size === 0 || (answered !== undefined && one.answer === 'due')) return [one];
      const names = one.names.difference(present);
      return names.size === 0 ? [] : [{ ...one, names }];
    });
    if (answered === undefined) return absent;
    return absent.filter((name) => answered.some(({ names }) => names.has(name)));
  }

  /** The answer to dropped names, or to names that istiod does not have; or the push of an istiod without plugins. */
  #withdrawnByEmpty(known: readonly string[], wanted: ReadonlySet<string>): readonly string[] {
    const isDrop = ({ names, answer }: Asked): boolean => answer === 'due' && names.size === 0;
    const asked =
      this.#asked.find(isDrop) ??
      this.#asked.find(({ answer }) => answer === 'due') ??
      this.#asked.find(({ answer }) => answer === 'unsure') ??
      this.#asked.find(({ names }) => !names.isDisjointFrom(wanted));
    if (asked === undefined) return known;
    // Which of the two it is cannot be told: nothing more is waited for, but what may still come is known.
    this.#asked = this.#asked.flatMap((one) => {
      if (one !== asked) return [one];
      return one.answer === 'due' && !isDrop(one) ? [{ ...one, answer: 'doubtful' }] : [];
    });
    return known.filter((name) => asked.names.has(name));
  }

  /** The requests that a response with these names answers; undefined for a push. */
  #answeredBy(present: ReadonlySet<string>): readonly Asked[] | undefined {
    const fitting = this.#asked.filter(({ names }) => present.isSubsetOf(names));
    const one = fitting.find(({ answer }) => answer === 'due') ?? fitting[0];
    if (one !== undefined) return [one];
    const several = this.#asked.filter(({ names }) => !names.isDisjointFrom(present));
    if (several.length === 0) return undefined;
    const all = new Set(several.flatMap(({ names }) => [...names]));
    return present.isSubsetOf(all) ? several : undefined;
  }
}
