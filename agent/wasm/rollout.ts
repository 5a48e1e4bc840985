/**
 * What happens to one extension config between istiod and Envoy, as a pure state machine: no I/O, no clock.
 * `transition` takes a state and an event and gives the next state and what is to be done. The machine holds for
 * one resource name; push numbers grow over the life of the process, offer numbers are made by the caller.
 *
 * Its promises: an older push never overtakes a newer one; every push gets one first verdict and, when it was
 * negative, at most one healing; a module is offered only after it was prepared (verified); what Envoy runs is
 * replaced only by something Envoy can run; what is stopped by policy is never sent again, and where it was accepted
 * before, istiod hears that it is no more.
 */
import type { DeltaDiscoveryResponse, DiscoveryResponse, Resource } from '../../proto/codec.ts';
import type { JudgedModule } from './judged-module.ts';

/** What a config came in, so that it can go down, and again later, as istiod wrapped it. */
export interface ConfigEnvelope {
  /** `version_info` or `system_version_info` of the response. */
  readonly version: string;
  /** The response without its resources and names of removed ones. */
  readonly response: DiscoveryResponse | DeltaDiscoveryResponse;
  /** Delta: the resource's wrapper; its `resource` field is replaced when sent. */
  readonly wrapper: Resource | undefined;
}

/** An encoded `TypedExtensionConfig` and what it needs on disk. */
export interface PreparedConfig {
  readonly bytes: Uint8Array;
  readonly envelope: ConfigEnvelope;
  /** SHA-256 of the module file it names; undefined when it names none of ours. */
  readonly moduleDigest: string | undefined;
  /** What a policy is asked about; undefined when there is no Wasm in it. */
  readonly module: JudgedModule | undefined;
}

/**
 * `plugin`: what istiod asked for; `last-known-good`: what Envoy had accepted before a restart of the agent;
 * `fallback`: the filter that stands in by fail strategy.
 */
export type OfferContent = 'plugin' | 'last-known-good' | 'fallback';

/** What may take a plugin's place, best first: the last known good config, then the fallback. */
export interface StandIn {
  readonly content: Exclude<OfferContent, 'plugin'>;
  readonly config: PreparedConfig;
}

/** A config on its way to Envoy, or running there. */
export interface Offer {
  readonly number: number;
  /** The push whose config this is. */
  readonly push: number;
  readonly content: OfferContent;
  readonly config: PreparedConfig;
}

/** How far the newest push has come. */
export type Progress =
  /** Nothing wanted: never pushed, withdrawn, or its stream ended before Envoy answered. */
  | { readonly kind: 'none' }
  /** The module is being fetched for the first time for this push. */
  | { readonly kind: 'preparing' }
  /** Sent; Envoy has not answered yet. */
  | { readonly kind: 'offered' }
  /** Envoy runs it. */
  | { readonly kind: 'active' }
  /** It could not be had or Envoy refused it. */
  | {
      readonly kind: 'failed';
      readonly reason: string;
      readonly attemptCount: number;
      readonly retry: RetryState;
    };

export type RetryState = 'none' | 'waiting' | 'running';

export interface RolloutState {
  /** The newest push, 0 before the first and after withdrawal. */
  readonly push: number;
  /** Of the newest push. */
  readonly standIns: readonly StandIn[];
  readonly progress: Progress;
  /** Sent on this stream and not answered, oldest first. */
  readonly inFlight: readonly Offer[];
  /** What Envoy has ACKed last; undefined when it runs nothing of this name. */
  readonly acknowledged: Offer | undefined;
  /** What Envoy has refused last, unless it has accepted something since. */
  readonly refused: { readonly config: PreparedConfig; readonly reason: string } | undefined;
  /** Numbers of offers that policy wants out of Envoy. They are not sent again, and count as nothing that runs. */
  readonly stopped: ReadonlySet<number>;
}

export type RolloutEvent =
  /** istiod sent the resource and it needs no fetch. */
  | { readonly kind: 'pushed-ready'; readonly push: number; readonly config: PreparedConfig }
  /** istiod sent the resource and its module must be fetched. */
  | { readonly kind: 'pushed-remote'; readonly push: number; readonly standIns: readonly StandIn[] }
  /** istiod sent something that cannot be used. */
  | {
      readonly kind: 'pushed-refused';
      readonly push: number;
      readonly reason: string;
      readonly standIns: readonly StandIn[];
    }
  /** What Envoy accepted before a restart was found on disk and verified. */
  | { readonly kind: 'remembered'; readonly push: number; readonly config: PreparedConfig }
  | { readonly kind: 'prepared'; readonly push: number; readonly config: PreparedConfig }
  | {
      readonly kind: 'preparation-failed';
      readonly push: number;
      readonly reason: string;
      readonly isRetryable: boolean;
      /** True: what runs does not stay, the stand-in takes its place. */
      readonly isReplacing: boolean;
    }
  /** The module is not there yet, and nobody is to wait longer for it. */
  | { readonly kind: 'hold-expired'; readonly push: number }
  /** The policy has changed: what failed may be had now. */
  | { readonly kind: 'reconsidered' }
  /** The policy has changed: these offers must not run any more, and these stand-ins are still good. */
  | {
      readonly kind: 'judged';
      readonly stopped: ReadonlySet<number>;
      /** Why the newest of them is stopped. */
      readonly reason: string;
      readonly standIns: readonly StandIn[];
    }
  | { readonly kind: 'retry-due'; readonly push: number }
  /** The tag of the newest push names another module now, which was fetched and verified. */
  | { readonly kind: 'renewed'; readonly push: number; readonly config: PreparedConfig }
  /** What Envoy runs was found to be what its origin has, with all that the policy asks for. */
  | { readonly kind: 'proven'; readonly offer: number; readonly config: PreparedConfig }
  | { readonly kind: 'acknowledged'; readonly offer: number }
  | { readonly kind: 'rejected'; readonly offer: number; readonly reason: string }
  /** istiod no longer sends it, or Envoy no longer asks for it. */
  | { readonly kind: 'withdrawn' }
  /** The stream to Envoy ended: unanswered offers are lost, a running fetch goes on. */
  | { readonly kind: 'stream-ended' };

export type RolloutEffect =
  | { readonly kind: 'send'; readonly offer: Offer }
  /** Fetch and rewrite; then `prepared` or `preparation-failed`. */
  | { readonly kind: 'prepare'; readonly push: number }
  | { readonly kind: 'cancel-preparation'; readonly push: number }
  | { readonly kind: 'schedule-retry'; readonly push: number; readonly attemptCount: number }
  | { readonly kind: 'cancel-retry' }
  /** The verdict on a push as istiod is to hear it; a second, positive one is a healing. */
  | { readonly kind: 'settle'; readonly push: number; readonly failure: string | undefined };

export interface Transition {
  readonly state: RolloutState;
  readonly effects: readonly RolloutEffect[];
}

export const initialRollout: RolloutState = {
  push: 0,
  standIns: [],
  progress: { kind: 'none' },
  inFlight: [],
  acknowledged: undefined,
  refused: undefined,
  stopped: new Set(),
};

/** `nextOffer` makes the number of an offer this transition sends. */
export function transition(state: RolloutState, event: RolloutEvent, nextOffer: () => number): Transition {
  switch (event.kind) {
    case 'pushed-ready': {
      if (event.push <= state.push) return unchanged(state);
      const next = supersede(state, event.push, []);
      return send(
        next,
        { push: event.push, content: 'plugin', config: event.config },
        { kind: 'offered' },
        nextOffer,
      );
    }
    case 'pushed-remote': {
      if (event.push <= state.push) return unchanged(state);
      const next = supersede(state, event.push, event.standIns);
      // The new fetch comes before the end of the old one, so that it joins its flight and no byte comes twice.
      const effects: RolloutEffect[] = [{ kind: 'prepare', push: event.push }, ...next.effects];
      return { state: { ...next.state, progress: { kind: 'preparing' } }, effects };
    }
    case 'pushed-refused': {
      if (event.push <= state.push) return unchanged(state);
      const failure = { reason: event.reason, isRetryable: false, isReplacing: false };
      return fail(supersede(state, event.push, event.standIns), failure, nextOffer);
    }
    case 'remembered': {
      // A second try of the same push finds it again.
      const isKnown = state.standIns.some(({ content }) => content === 'last-known-good');
      if (event.push !== state.push || isKnown) return unchanged(state);
      const standIn: StandIn = { content: 'last-known-good', config: event.config };
      return unchanged({ ...state, standIns: [standIn, ...state.standIns] });
    }
    case 'prepared': {
      if (event.push !== state.push || !isPreparing(state.progress)) return unchanged(state);
      const content: NewOffer = { push: event.push, content: 'plugin', config: event.config };
      return send({ state, effects: [] }, content, { kind: 'offered' }, nextOffer);
    }
    case 'preparation-failed': {
      if (event.push !== state.push || !isPreparing(state.progress)) return unchanged(state);
      return fail({ state, effects: [] }, event, nextOffer);
    }
    case 'hold-expired': {
      if (event.push !== state.push || state.progress.kind !== 'preparing') return unchanged(state);
      const standIn = neededStandIn(state, false);
      return standIn === undefined
        ? unchanged(state)
        : send({ state, effects: [] }, standIn, state.progress, nextOffer);
    }
    case 'reconsidered': {
      const { progress } = state;
      if (progress.kind !== 'failed' || progress.retry === 'running') return unchanged(state);
      const ended: RolloutEffect[] = progress.retry === 'waiting' ? [{ kind: 'cancel-retry' }] : [];
      return {
        state: { ...state, progress: { ...progress, retry: 'running' } },
        effects: [...ended, { kind: 'prepare', push: state.push }],
      };
    }
    case 'judged':
      return judge(state, event, nextOffer);
    case 'retry-due': {
      const { progress } = state;
      if (event.push !== state.push || progress.kind !== 'failed' || progress.retry !== 'waiting')
        return unchanged(state);
      return {
        state: { ...state, progress: { ...progress, retry: 'running' } },
        effects: [{ kind: 'prepare', push: event.push }],
      };
    }
    case 'renewed':
      return renew(state, event.push, event.config, nextOffer);
    case 'proven': {
      const { acknowledged } = state;
      if (acknowledged?.number !== event.offer) return unchanged(state);
      return unchanged({ ...state, acknowledged: { ...acknowledged, config: event.config } });
    }
    case 'acknowledged':
      return acknowledge(state, event.offer, nextOffer);
    case 'rejected':
      return reject(state, event.offer, event.reason, nextOffer);
    case 'withdrawn': {
      const next = supersede(state, 0, []);
      return {
        state: { ...next.state, acknowledged: undefined, stopped: initialRollout.stopped },
        effects: next.effects,
      };
    }
    case 'stream-ended':
      return endStream(state);
    default:
      return event satisfies never;
  }
}

type NewOffer = Omit<Offer, 'number'>;

function unchanged(state: RolloutState): Transition {
  return { state, effects: [] };
}

/** True while the module is fetched, for the first time or again. */
export function isPreparing(progress: Progress): boolean {
  return progress.kind === 'preparing' || (progress.kind === 'failed' && progress.retry === 'running');
}

/** Ends all work for the push before. */
function supersede(state: RolloutState, push: number, standIns: readonly StandIn[]): Transition {
  const effects: RolloutEffect[] = [];
  if (isPreparing(state.progress)) effects.push({ kind: 'cancel-preparation', push: state.push });
  if (state.progress.kind === 'failed' && state.progress.retry === 'waiting')
    effects.push({ kind: 'cancel-retry' });
  return { state: { ...state, push, standIns, progress: { kind: 'none' } }, effects };
}

function send(from: Transition, content: NewOffer, progress: Progress, nextOffer: () => number): Transition {
  const offer: Offer = { ...content, number: nextOffer() };
  return {
    state: { ...from.state, progress, inFlight: [...from.state.inFlight, offer] },
    effects: [...from.effects, { kind: 'send', offer }],
  };
}

/** True when another module for the same config may be offered: nothing else is under way for it. */
export function isRenewable({ progress }: RolloutState): boolean {
  return progress.kind === 'active' || isRefused(progress);
}

function isRefused(progress: Progress): boolean {
  return progress.kind === 'failed' && progress.retry === 'none';
}

/**
 * Another module for the same config. Where Envoy runs the plugin, istiod has had its verdict, and hears nothing of
 * what becomes of this one: a refused one is rolled back and the plugin goes on. Where Envoy had refused the plugin,
 * this is its healing.
 */
function renew(
  state: RolloutState,
  push: number,
  config: PreparedConfig,
  nextOffer: () => number,
): Transition {
  const { progress, inFlight, acknowledged } = state;
  if (push !== state.push || !isRenewable(state)) return unchanged(state);
  const isHealing = isRefused(progress);
  const latest = inFlight.at(-1) ?? acknowledged;
  if (!isHealing && latest !== undefined && isSame(latest.config, config)) return unchanged(state);
  const content: NewOffer = { push, content: 'plugin', config };
  return send({ state, effects: [] }, content, isHealing ? { kind: 'offered' } : progress, nextOffer);
}

interface Failure {
  readonly reason: string;
  readonly isRetryable: boolean;
  readonly isReplacing: boolean;
}

/** The newest push cannot be had: tell istiod, keep what Envoy runs or put the stand-in there, try again later. */
function fail(from: Transition, failure: Failure, nextOffer: () => number): Transition {
  const { state } = from;
  const { reason, isRetryable, isReplacing } = failure;
  const before = state.progress.kind === 'failed' ? state.progress.attemptCount : 0;
  const attemptCount = before + 1;
  const progress: Progress = {
    kind: 'failed',
    reason,
    attemptCount,
    retry: isRetryable ? 'waiting' : 'none',
  };
  const effects: RolloutEffect[] = [...from.effects, { kind: 'settle', push: state.push, failure: reason }];
  if (isRetryable) effects.push({ kind: 'schedule-retry', push: state.push, attemptCount });
  const next: Transition = { state: { ...state, progress }, effects };
  const standIn = attemptCount === 1 || isReplacing ? neededStandIn(state, isReplacing) : undefined;
  return standIn === undefined ? next : send(next, standIn, progress, nextOffer);
}

/**
 * A stand-in is sent only where Envoy runs no plugin: an update that fails leaves the last good one in force, unless
 * the failure `isReplacing`. An earlier offer that Envoy has not answered decides itself: its ACK makes a last good
 * config, its NACK comes back to this question.
 */
function neededStandIn(state: RolloutState, isReplacing: boolean): NewOffer | undefined {
  const { acknowledged, inFlight, standIns, stopped } = state;
  const isGood = (offer: Offer): boolean => offer.content !== 'fallback' && !stopped.has(offer.number);
  if (!isReplacing) {
    if (acknowledged !== undefined && isGood(acknowledged)) return undefined;
    if (inFlight.some(isGood)) return undefined;
  }
  const [best] = isReplacing ? standIns.filter(({ content }) => content === 'fallback') : standIns;
  if (best === undefined) return undefined;
  const latest = inFlight.at(-1) ?? acknowledged;
  return latest !== undefined && isSame(latest.config, best.config)
    ? undefined
    : { push: state.push, ...best };
}

/**
 * A changed policy. What it stops is replaced at once where Envoy has it, or is about to have it, as its newest; what
 * else is under way goes on.
 */
function judge(
  before: RolloutState,
  { stopped, reason, standIns }: Extract<RolloutEvent, { kind: 'judged' }>,
  nextOffer: () => number,
): Transition {
  const state: RolloutState = { ...before, stopped, standIns };
  const { progress, push } = state;
  const latest = state.inFlight.at(-1) ?? state.acknowledged;
  if (latest === undefined || !stopped.has(latest.number)) return unchanged(state);
  const isNewest = progress.kind === 'active' || progress.kind === 'offered';
  const next: Transition = isNewest
    ? {
        state: { ...state, progress: { kind: 'failed', reason, attemptCount: 1, retry: 'none' } },
        effects: [{ kind: 'settle', push, failure: reason }],
      }
    : unchanged(state);
  const [standIn] = standIns;
  return standIn === undefined ? next : send(next, { push, ...standIn }, next.state.progress, nextOffer);
}

function isSame(a: PreparedConfig, b: PreparedConfig): boolean {
  return Buffer.compare(a.bytes, b.bytes) === 0;
}

/**
 * False for the ACK of bytes that Envoy has just refused: it compares them with what it was given last, and
 * acknowledges them without a look, while what ran before goes on. It counts as the same refusal.
 */
export function isAckTrue({ refused }: RolloutState, offer: Offer): boolean {
  return refused === undefined || !isSame(refused.config, offer.config);
}

function acknowledge(state: RolloutState, number: number, nextOffer: () => number): Transition {
  const offer = state.inFlight.find((candidate) => candidate.number === number);
  if (offer === undefined) return unchanged(state);
  if (state.refused !== undefined && !isAckTrue(state, offer))
    return reject(state, number, state.refused.reason, nextOffer);
  const inFlight = state.inFlight.filter((candidate) => candidate.number !== number);
  // A withdrawn resource is forgotten: whether Envoy still holds it cannot be known.
  if (state.push === 0) return unchanged({ ...state, inFlight, refused: undefined });
  const next: RolloutState = { ...state, inFlight, acknowledged: offer, refused: undefined };
  const isWanted =
    offer.content === 'plugin' && offer.push === state.push && state.progress.kind === 'offered';
  if (!isWanted) return unchanged(next);
  const settle: RolloutEffect = { kind: 'settle', push: state.push, failure: undefined };
  return { state: { ...next, progress: { kind: 'active' } }, effects: [settle] };
}

/**
 * Envoy refused an offer. It must be given something it can run at once: an Envoy left with a rejected extension
 * config refuses the next listener update too. What it ran before, or with nothing before, the stand-in.
 */
function reject(state: RolloutState, number: number, reason: string, nextOffer: () => number): Transition {
  const offer = state.inFlight.find((candidate) => candidate.number === number);
  if (offer === undefined) return unchanged(state);
  const inFlight = state.inFlight.filter((candidate) => candidate.number !== number);
  const refused = { config: offer.config, reason };
  let next: Transition = { state: { ...state, inFlight, refused }, effects: [] };
  if (offer.content === 'plugin' && offer.push === state.push && state.progress.kind === 'offered') {
    // Not tried again by itself: the same bytes would be refused again.
    next = {
      state: { ...next.state, progress: { kind: 'failed', reason, attemptCount: 1, retry: 'none' } },
      effects: [{ kind: 'settle', push: state.push, failure: reason }],
    };
  }
  // A later offer is already there: Envoy's answer to that one decides.
  if (inFlight.length > 0) return next;
  const repair = repairAfter(offer, state);
  return repair === undefined ? next : send(next, repair, next.state.progress, nextOffer);
}

function repairAfter(rejected: Offer, state: RolloutState): NewOffer | undefined {
  const good = state.acknowledged;
  const isUsable = good !== undefined && good.number !== rejected.number && !state.stopped.has(good.number);
  // The stand-in of an earlier config may let pass what this one guards: the newest config's own comes first.
  if (isUsable && good.content !== 'fallback') return again(good, rejected);
  const order = state.standIns.findIndex(({ content }) => content === rejected.content);
  const next = state.standIns.slice(order + 1).find(({ config }) => !isSame(config, rejected.config));
  if (next !== undefined) return { push: state.push, ...next };
  return isUsable ? again(good, rejected) : undefined;
}

/** The same bytes as those refused would be refused a second time, without end. */
function again({ push, content, config }: Offer, rejected: Offer): NewOffer | undefined {
  return isSame(config, rejected.config) ? undefined : { push, content, config };
}

function endStream(state: RolloutState): Transition {
  const { progress } = state;
  const effects: RolloutEffect[] = [];
  let next = progress;
  // On its next stream Envoy asks again and istiod pushes again; until then there is nobody to send to.
  if (progress.kind === 'offered') next = { kind: 'none' };
  if (progress.kind === 'failed' && progress.retry === 'waiting') {
    effects.push({ kind: 'cancel-retry' });
    next = { ...progress, retry: 'none' };
  }
  return { state: { ...state, progress: next, inFlight: [] }, effects };
}
