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
import {
  initialRollout,
  isAckTrue,
  isPreparing,
  isRefused,
  isRenewable,
  isSame,
  type Offer,
  type PreparedConfig,
  type Progress,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutState,
  type StandIn,
  type Transition,
} from './rollout.ts';

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
      const started: Transition = { state: { ...next.state, progress: { kind: 'preparing' } }, effects };
      // Where Envoy runs a plugin, nobody is in a hurry for the new one: the listeners are not to wait for it.
      const repair = lostRepair(state);
      return repair === undefined ? started : send(started, repair, started.state.progress, nextOffer);
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
    if (acknowledged !== undefined && isGood(acknowledged)) return lostRepair(state);
    if (inFlight.some(isGood)) return undefined;
  }
  const [best] = isReplacing ? standIns.filter(({ content }) => content === 'fallback') : standIns;
  if (best === undefined) return undefined;
  // What Envoy has refused since is still there beside what it runs, until it is given something else.
  const latest = inFlight.at(-1) ?? state.refused ?? acknowledged;
  return latest !== undefined && isSame(latest.config, best.config)
    ? undefined
    : { push: state.push, ...best };
}

/** What Envoy runs, where the stream ended before Envoy had it as the repair of what it refused. */
function lostRepair({ refused, inFlight, acknowledged, stopped }: RolloutState): NewOffer | undefined {
  if (refused === undefined || inFlight.length > 0) return undefined;
  if (acknowledged === undefined || stopped.has(acknowledged.number)) return undefined;
  // The stand-in of an earlier config may let pass what the newest one guards.
  return acknowledged.content === 'fallback' ? undefined : again(acknowledged, refused);
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
function again({ push, content, config }: Offer, rejected: Pick<Offer, 'config'>): NewOffer | undefined {
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
