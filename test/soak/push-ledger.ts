import { typeUrls } from '../support/control-plane/type-urls.ts';

/** What the ledger reads of a control plane's journal. */
export type LedgerEntry =
  | { readonly kind: 'stream_opened'; readonly streamId: number; readonly mode: 'delta' | 'sotw' }
  | { readonly kind: 'response'; readonly streamId: number; readonly typeUrl: string; readonly nonce: string }
  | {
      readonly kind: 'request';
      readonly streamId: number;
      readonly request: {
        readonly typeUrl: string;
        readonly nonce: string;
        readonly error?: unknown;
      };
    }
  | { readonly kind: 'stream_ended'; readonly streamId: number };

/** Where one push stands. */
interface OpenPush {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly verdicts: ('ack' | 'nack')[];
  /** An extension push that a newer one of its stream has followed: only the newest gets a verdict for sure. */
  isSuperseded: boolean;
}

interface OpenStream {
  readonly mode: 'delta' | 'sotw';
  readonly pushes: Map<string, OpenPush>;
}

/** What has become of all pushes so far. */
export interface LedgerTotals {
  readonly pushCount: number;
  readonly ackCount: number;
  readonly nackCount: number;
  /** Acknowledged after a NACK: the plugin healed. */
  readonly healedCount: number;
  /** Extension pushes without a verdict of their own: a newer one took their place. */
  readonly supersededCount: number;
  /** Their stream ended before a verdict. */
  readonly cutCount: number;
  /** Waiting for a verdict now. */
  readonly openCount: number;
}

/** Broken promises that are kept in words; all are counted. */
const keptProblemCount = 20;

/**
 * Keeps account of every push of a control plane: each gets exactly one first verdict, and an extension push that was
 * refused may get one ACK later. What is settled is forgotten, so an hour of pushes costs no more than a minute.
 */
export class PushLedger {
  readonly problems: string[] = [];
  #problemCount = 0;
  readonly #streams = new Map<number, OpenStream>();
  #pushCount = 0;
  #ackCount = 0;
  #nackCount = 0;
  #healedCount = 0;
  #supersededCount = 0;
  #cutCount = 0;

  get problemCount(): number {
    return this.#problemCount;
  }

  get totals(): LedgerTotals {
    return {
      pushCount: this.#pushCount,
      ackCount: this.#ackCount,
      nackCount: this.#nackCount,
      healedCount: this.#healedCount,
      supersededCount: this.#supersededCount,
      cutCount: this.#cutCount,
      openCount: this.unanswered().length,
    };
  }

  /** Entries in the order of the journal. */
  take(entry: LedgerEntry): void {
    switch (entry.kind) {
      case 'stream_opened':
        this.#streams.set(entry.streamId, { mode: entry.mode, pushes: new Map() });
        return;
      case 'response':
        this.#takePush(entry);
        return;
      case 'request':
        if (entry.request.nonce !== '') this.#takeVerdict(entry);
        return;
      case 'stream_ended':
        this.#endStream(entry.streamId);
        return;
      default:
        entry satisfies never;
    }
  }

  /** Pushes of open streams that wait for their verdict, in words. */
  unanswered(): readonly string[] {
    return [...this.#streams].flatMap(([streamId, { pushes }]) =>
      [...pushes.values()]
        .filter(({ verdicts, isSuperseded }) => verdicts.length === 0 && !isSuperseded)
        .map(({ typeUrl, nonce }) => `stream ${streamId}, ${typeUrl}, nonce ${nonce}`),
    );
  }

  #takePush({ streamId, typeUrl, nonce }: Extract<LedgerEntry, { kind: 'response' }>): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#pushCount += 1;
    for (const [key, push] of stream.pushes) {
      if (push.typeUrl !== typeUrl) continue;
      if (push.verdicts.length > 0) stream.pushes.delete(key);
      else if (typeUrl === typeUrls.ecds) this.#supersede(push);
    }
    stream.pushes.set(`${typeUrl} ${nonce}`, { typeUrl, nonce, verdicts: [], isSuperseded: false });
  }

  #supersede(push: OpenPush): void {
    if (!push.isSuperseded) this.#supersededCount += 1;
    push.isSuperseded = true;
  }

  #takeVerdict({ streamId, request }: Extract<LedgerEntry, { kind: 'request' }>): void {
    const { typeUrl, nonce } = request;
    const stream = this.#streams.get(streamId);
    const push = stream?.pushes.get(`${typeUrl} ${nonce}`);
    const verdict = request.error === undefined ? 'ack' : 'nack';
    if (stream === undefined || push === undefined) {
      // In state of the world a change of the subscription repeats the nonce of a push that is long settled.
      if (stream?.mode !== 'sotw')
        this.#problem(`${verdict} of an unknown or settled push`, streamId, request);
      return;
    }
    const before = push.verdicts.at(-1);
    push.verdicts.push(verdict);
    if (before === undefined) {
      if (push.isSuperseded) {
        push.isSuperseded = false;
        this.#supersededCount -= 1;
      }
      if (verdict === 'ack') this.#ackCount += 1;
      else this.#nackCount += 1;
      return;
    }
    if (before === 'nack' && verdict === 'ack' && typeUrl === typeUrls.ecds) {
      this.#healedCount += 1;
      return;
    }
    // In state of the world a changed subscription is an ACK, and a failure may follow it.
    if (stream.mode === 'sotw' && before === 'ack') return;
    this.#problem(`${verdict} after ${before}`, streamId, request);
  }

  #endStream(streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    for (const { verdicts, isSuperseded } of stream.pushes.values()) {
      if (verdicts.length === 0 && !isSuperseded) this.#cutCount += 1;
    }
    this.#streams.delete(streamId);
  }

  #problem(
    what: string,
    streamId: number,
    { typeUrl, nonce }: { readonly typeUrl: string; readonly nonce: string },
  ): void {
    this.#problemCount += 1;
    if (this.problems.length < keptProblemCount) {
      this.problems.push(`${what}: stream ${streamId}, ${typeUrl}, nonce ${nonce}`);
    }
  }
}
