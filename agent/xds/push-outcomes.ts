/** How one resource of what istiod sent stands. `push` tells an old verdict from a new one. */
type Outcome = { readonly push: number } & (
  | { readonly kind: 'pending' | 'accepted' }
  /** `reportedUnder`: the nonce of istiod's response under which it was told. */
  | { readonly kind: 'failed'; readonly reason: string; readonly reportedUnder: string | undefined }
);

/** What is wrong with the resources of what istiod sent, each with its key. */
export interface OutcomeFailures {
  readonly untold: readonly string[];
  /** Those that istiod was told under the nonce that was asked about. */
  readonly told: readonly string[];
}

/**
 * How the resources of what istiod sent stand, by key: the name, or what stands for one without a name. Every ACK of
 * Envoy asks whether some are pending, and those are as many as resources: so they are counted.
 */
export class PushOutcomes {
  readonly #outcomes = new Map<string, Outcome>();
  #pendingCount = 0;

  get arePending(): boolean {
    return this.#pendingCount > 0;
  }

  /** This push decides from now on. */
  expect(key: string, push: number): void {
    this.#set(key, { push, kind: 'pending' });
  }

  /** False, and nothing is noted, for a push that does not decide any more. */
  settle(key: string, push: number, failure: string | undefined): boolean {
    const outcome = this.#outcomes.get(key);
    if (outcome?.push !== push) return false;
    // A later try that fails too is no news.
    const reportedUnder = outcome.kind === 'failed' ? outcome.reportedUnder : undefined;
    this.#set(
      key,
      failure === undefined
        ? { push, kind: 'accepted' }
        : { push, kind: 'failed', reason: failure, reportedUnder },
    );
    return true;
  }

  /** It decides no verdict any more. */
  forget(key: string): void {
    if (this.#outcomes.get(key)?.kind === 'pending') this.#pendingCount -= 1;
    this.#outcomes.delete(key);
  }

  /** The same where this push decides still. */
  forgetPush(key: string, push: number): void {
    if (this.#outcomes.get(key)?.push === push) this.forget(key);
  }

  /** Forgets what is settled of pushes with a number below zero. */
  forgetSettledNotices(): void {
    for (const [key, outcome] of this.#outcomes) {
      if (outcome.push < 0 && outcome.kind !== 'pending') this.forget(key);
    }
  }

  /** What failed and is not told, or was told under this nonce; what was told under an older one is not told again. */
  failures(nonce: string): OutcomeFailures {
    const untold: string[] = [];
    const told: string[] = [];
    for (const [key, outcome] of this.#outcomes) {
      if (outcome.kind !== 'failed') continue;
      if (outcome.reportedUnder === undefined) untold.push(`${key}: ${outcome.reason}`);
      else if (outcome.reportedUnder === nonce) told.push(`${key}: ${outcome.reason}`);
    }
    return { untold, told };
  }

  /** Istiod is told of all that failed, under this nonce. */
  markReported(nonce: string): void {
    for (const [key, outcome] of this.#outcomes) {
      if (outcome.kind === 'failed' && outcome.reportedUnder === undefined) {
        this.#set(key, { ...outcome, reportedUnder: nonce });
      }
    }
  }

  #set(key: string, outcome: Outcome): void {
    if (this.#outcomes.get(key)?.kind === 'pending') this.#pendingCount -= 1;
    if (outcome.kind === 'pending') this.#pendingCount += 1;
    this.#outcomes.set(key, outcome);
  }
}
