import assert from 'node:assert/strict';
import type { StreamKind } from '../../../agent/xds/interceptor.ts';
import type { EcdsWire } from './ecds-wire.ts';
import { type ModelPlugin, resourceOf } from './model-plugin.ts';

/** A message to istiod. */
interface Letter {
  readonly nonce: string;
  readonly failure: string | undefined;
  readonly added: readonly string[];
  readonly dropped: readonly string[];
  /** istiod answers it with the names that it adds. */
  readonly isAsking: boolean;
  /** State of the world: all. */
  readonly names: readonly string[];
}

/** Verdicts on one nonce: a change of names in state of the world is an ACK that nobody meant. */
export type Verdict = 'ack' | 'nack' | 'names';

/** istiod's side of ECDS, as the real one was seen to behave. What the agent tells it is held against its promises. */
export class ModelIstiod {
  readonly plugins = new Map<string, ModelPlugin>();
  /** What istiod has sent on this stream last, by name. */
  readonly told = new Map<string, ModelPlugin>();
  readonly #kind: StreamKind;
  readonly #wire: EcdsWire;
  /** What Envoy asks for. */
  readonly #wanted: ReadonlySet<string>;
  /** What istiod knows of the stream. */
  #subscribed = new Set<string>();
  #nonceCount = 0;
  #latestNonce = '';
  readonly #verdicts = new Map<string, Verdict[]>();
  /** Of pushes under which the policy has changed. */
  readonly #policedNonces = new Set<string>();
  #toldNames: ReadonlySet<string> = new Set();
  /** What istiod has not read. */
  #inbox: Letter[] = [];

  constructor(options: {
    readonly kind: StreamKind;
    readonly wire: EcdsWire;
    readonly wanted: ReadonlySet<string>;
  }) {
    this.#kind = options.kind;
    this.#wire = options.wire;
    this.#wanted = options.wanted;
  }

  /** Another stream. */
  connect(): void {
    this.#subscribed = new Set();
    this.#latestNonce = '';
    this.#toldNames = new Set();
    this.#inbox = [];
  }

  get subscribed(): ReadonlySet<string> {
    return this.#subscribed;
  }

  /** On the newest push; undefined where there is none. */
  get latestVerdicts(): readonly Verdict[] | undefined {
    return this.#latestNonce === '' ? undefined : (this.#verdicts.get(this.#latestNonce) ?? []);
  }

  /** A policy that stops or frees what istiod has had a verdict on makes another one. */
  notePolicy(): void {
    this.#policedNonces.add(this.#latestNonce);
  }

  /** All that istiod has and Envoy asks for, as a response. */
  push(): Uint8Array | undefined {
    return this.#subscribed.size > 0 ? this.#respond([...this.#subscribed]) : undefined;
  }

  /** Reads the oldest message that has come. `answer` is undefined where none is due. */
  read(): { readonly answer: Uint8Array | undefined } | undefined {
    const letter = this.#inbox.shift();
    if (letter === undefined) return undefined;
    const names = this.#answerTo(letter);
    return { answer: names === undefined ? undefined : this.#respond(names) };
  }

  /** A message of the agent, which istiod reads when it comes to that. */
  hear(message: Uint8Array): void {
    const request = this.#wire.readRequest(message);
    const { nonce, failure } = request;
    if (nonce !== '') assert.equal(nonce, this.#latestNonce, 'only the newest push is answered');
    let added: readonly string[];
    let dropped: readonly string[];
    if (request.names.kind === 'all') {
      const names = new Set(request.names.all);
      assert.deepEqual([...names].sort(), [...this.#wanted].sort(), 'each message has all names');
      added = [...names.difference(this.#toldNames)];
      dropped = [...this.#toldNames.difference(names)];
      this.#toldNames = names;
    } else {
      ({ added, dropped } = request.names);
    }
    const isChanged = added.length + dropped.length > 0;
    if (failure !== undefined) {
      assert.equal(isChanged, false, 'a change of names is no NACK');
      const isLate = this.#inbox.some((letter) => letter.isAsking);
      assert.equal(isLate, false, 'no NACK behind new names, whose answer makes it stale');
    }
    // With an ACK istiod is told the names again, as long as it has sent nothing of one of them.
    const isUnanswered = [...this.#toldNames].some((name) => !this.told.has(name));
    const isRepeat = isUnanswered || !isSame(this.#subscribed, this.#toldNames);
    const isForNames = isChanged || (this.#kind === 'sotw' && failure === undefined && isRepeat);
    if (nonce !== '') this.#take(nonce, isForNames ? 'names' : failure === undefined ? 'ack' : 'nack');
    this.#inbox.push({
      nonce,
      failure,
      added,
      dropped,
      isAsking: added.length > 0,
      names: [...this.#toldNames],
    });
  }

  #respond(names: readonly string[]): Uint8Array {
    this.#nonceCount += 1;
    const nonce = `n${this.#nonceCount}`;
    const plugins = names.flatMap((name) => this.plugins.get(name) ?? []);
    // While it waits for a name that istiod does not have, an empty response may be about that one.
    const isDoubtful = plugins.length === 0 && [...this.#wanted].some((name) => !this.told.has(name));
    if (!isDoubtful) for (const name of names) this.told.delete(name);
    for (const plugin of plugins) this.told.set(plugin.name, plugin);
    this.#latestNonce = nonce;
    this.#verdicts.set(nonce, []);
    return this.#wire.response(
      nonce,
      plugins.map((plugin) => ({ name: plugin.name, any: resourceOf(plugin) })),
    );
  }

  /** The added names alone; none where delta only dropped names, which state of the world does not answer. */
  #answerTo(letter: Letter): readonly string[] | undefined {
    if (this.#kind === 'sotw') return this.#answerToAll(letter);
    const { added, dropped } = letter;
    for (const name of added) this.#subscribed.add(name);
    for (const name of dropped) this.#subscribed.delete(name);
    return added.length + dropped.length > 0 ? added : undefined;
  }

  /**
   * State of the world: no names are taken from a NACK, nor from what is about an older response. No names at all end
   * the subscription whatever response they are about; what comes without one, or without a nonce, begins another.
   */
  #answerToAll({ nonce, failure, names }: Letter): readonly string[] | undefined {
    if (failure !== undefined) return undefined;
    const before = this.#subscribed;
    const isNew = nonce === '' || before.size === 0;
    if (names.length > 0 && !isNew && nonce !== this.#latestNonce) return undefined;
    this.#subscribed = new Set(names);
    const fresh = isNew ? names : names.filter((name) => !before.has(name));
    return fresh.length > 0 ? fresh : undefined;
  }

  #take(nonce: string, verdict: Verdict): void {
    const verdicts = this.#verdicts.get(nonce) ?? [];
    verdicts.push(verdict);
    this.#verdicts.set(nonce, verdicts);
    const meant = verdicts.filter((one) => one !== 'names').join(' ');
    assert.doesNotMatch(meant, /\b(\w+) \1\b/, 'no verdict is told twice');
    const isAllowed = ['', 'ack', 'nack', 'nack ack'].includes(meant) || this.#policedNonces.has(nonce);
    assert.ok(isAllowed, `one first verdict, at most one healing: ${verdicts.join(' ')}`);
  }
}

function isSame(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  return one.symmetricDifference(other).size === 0;
}
