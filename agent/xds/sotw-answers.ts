import type { ResponseReading } from './response-reading.ts';

/**
 * All names, as istiod was told them. `first`: before any response of istiod; it takes these always. `latest`: with the
 * nonce of its newest response. `older`: a newer response has come since.
 */
interface Told {
  readonly names: ReadonlySet<string>;
  readonly about: 'first' | 'latest' | 'older';
}

/** One way in which istiod's side may stand, after all that it has sent. */
interface Belief {
  /** That istiod has taken. */
  readonly names: ReadonlySet<string>;
  /** What it has not read yet, oldest first. */
  readonly unread: readonly Told[];
  /** Names that it had sent and has no more. */
  readonly gone: ReadonlySet<string>;
}

/** What istiod does with one message: undefined when it passes over it. */
interface Taken {
  readonly names: ReadonlySet<string>;
  /** That the answer is about; none, and no answer, where names were only dropped. */
  readonly asked: ReadonlySet<string>;
}

/** More are held only when Envoy changes its names again and again while istiod says nothing; then the newest count. */
const maxUnreadCount = 32;
/** The same for the ways in which istiod may stand: a wrong one is found out by the next names that it does not explain. */
const maxBeliefCount = 32;

const noNames: ReadonlySet<string> = new Set();

/**
 * Which of istiod's responses answer what, in state of the world. istiod answers added names with these alone, and
 * dropped ones not at all; a push has all names that it has taken. It reads one message after the other and pushes in
 * between, and passes over names that come with the nonce of an older response. So a response may have crossed what was
 * told last. From its names it is found which ways there are for it to have come about; mostly there is one, and after
 * a response without names there may be several. Source: istio/istio `pkg/xds/server.go`, `ShouldRespond`.
 */
export class SotwAnswers {
  #beliefs: readonly Belief[] = [{ names: noNames, unread: [], gone: noNames }];
  #wanted: ReadonlySet<string> = noNames;
  #hasResponse = false;
  #isAnswerDue = false;

  /** True when istiod answers what it was told, whatever it has read. */
  get isAnswerDue(): boolean {
    return this.#isAnswerDue;
  }

  /** These names go to istiod, with the nonce of its newest response. Not for a NACK, of which istiod takes no names. */
  tell(names: ReadonlySet<string>): void {
    this.#wanted = names;
    const about = this.#hasResponse ? 'latest' : 'first';
    this.#beliefs = this.#beliefs.map((belief) => {
      const { unread } = belief;
      // With the same names again nothing changes.
      if (isSame(unread.reduce(takeAll, belief.names), names)) return belief;
      return { ...belief, unread: [...unread.slice(0, maxUnreadCount - 1), { names, about }] };
    });
    this.#isAnswerDue = this.#beliefs.every(isAnswering);
  }

  /** Takes the names of one response; `known` are those that istiod has sent and not withdrawn. */
  read(pushed: readonly string[], known: readonly string[]): ResponseReading {
    this.#hasResponse = true;
    const present = new Set(pushed);
    const absent = new Set(known).difference(present);
    const explained = this.#beliefs.flatMap((belief) => explain(belief, present, absent));
    const ways = explained.length > 0 ? explained : [this.#unexplained(present, absent)];
    this.#beliefs = withoutDoubles(ways).slice(-maxBeliefCount);
    this.#isAnswerDue = this.#beliefs.every(isAnswering);
    return {
      withdrawn: [...absent].filter((name) => this.#beliefs.every(({ gone }) => gone.has(name))),
      areNamesLost: this.#areNamesLost(),
    };
  }

  /** Another control plane, or an istiod that answers with all names. */
  #unexplained(present: ReadonlySet<string>, absent: ReadonlySet<string>): Belief {
    const isFull = this.#isAnswerDue && present.isSubsetOf(this.#wanted);
    const names = present.isSubsetOf(this.#wanted) ? this.#wanted : present;
    return { names, unread: [], gone: isFull ? noNames : absent };
  }

  /**
   * True while istiod may lack a name, which then never comes, or surely has other ones. That it may have too many is
   * found out when it sends one of them.
   */
  #areNamesLost(): boolean {
    const ends = this.#beliefs.map(({ names, unread }) => unread.reduce(takeAll, names));
    return (
      !ends.every((names) => this.#wanted.isSubsetOf(names)) ||
      !ends.some((names) => isSame(names, this.#wanted))
    );
  }
}

/** What istiod does with a message when it has these names. */
function take(names: ReadonlySet<string>, told: Told): Taken | undefined {
  // No names end the subscription, and what comes then begins another, whatever response they are about.
  if (told.names.size === 0) return { names: noNames, asked: noNames };
  if (told.about === 'first' || names.size === 0) return { names: told.names, asked: told.names };
  return told.about === 'older' ? undefined : { names: told.names, asked: told.names.difference(names) };
}

function takeAll(names: ReadonlySet<string>, told: Told): ReadonlySet<string> {
  return take(names, told)?.names ?? names;
}

/** True when one of the messages has an answer. */
function isAnswering({ names, unread }: Belief): boolean {
  let has = names;
  for (const told of unread) {
    const taken = take(has, told);
    if (taken === undefined) continue;
    if (taken.asked.size > 0) return true;
    has = taken.names;
  }
  return false;
}

/** The ways in which a response with these names may have come about. `absent`: known, and not in it. */
function explain(
  { names, unread, gone }: Belief,
  present: ReadonlySet<string>,
  absent: ReadonlySet<string>,
): readonly Belief[] {
  const ways: Belief[] = [];
  const add = (has: ReadonlySet<string>, about: ReadonlySet<string>, rest: readonly Told[]): void => {
    if (!present.isSubsetOf(about)) return;
    const goneNow = gone.union(about).intersection(absent);
    ways.push({ names: has, unread: stillOpen(has, rest), gone: goneNow });
  };
  let has = names;
  for (const [index, told] of unread.entries()) {
    const taken = take(has, told);
    if (taken === undefined) continue;
    if (has.size > 0) add(has, has, unread.slice(index));
    has = taken.names;
    // It sends nothing else before the answer.
    if (taken.asked.size > 0) {
      add(has, taken.asked, unread.slice(index + 1));
      return ways;
    }
  }
  if (has.size > 0) add(has, has, []);
  return ways;
}

/** What istiod will still take of its messages, now that there is a newer response. */
function stillOpen(names: ReadonlySet<string>, unread: readonly Told[]): readonly Told[] {
  const rest = unread.map(
    ({ about, ...told }): Told => ({ ...told, about: about === 'first' ? about : 'older' }),
  );
  const from = rest.findIndex((told) => take(names, told) !== undefined);
  return from < 0 ? [] : rest.slice(from);
}

function withoutDoubles(beliefs: readonly Belief[]): readonly Belief[] {
  const isDouble = (one: Belief, other: Belief): boolean =>
    isSame(one.names, other.names) &&
    isSame(one.gone, other.gone) &&
    one.unread.length === other.unread.length &&
    one.unread.every(({ names }, index) => names === other.unread[index]?.names);
  return beliefs.filter((one, index) => !beliefs.slice(0, index).some((other) => isDouble(one, other)));
}

function isSame(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  return one === other || (one.size === other.size && one.isSubsetOf(other));
}
