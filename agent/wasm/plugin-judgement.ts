import type { Judgement } from './policy-gate.ts';
import type { Offer, PreparedConfig, RolloutState, StandIn } from './rollout.ts';

/** What a changed policy means for what Envoy has been given under one name. */
export interface OffersJudgement {
  /** Numbers of the offers that must not run any more. */
  readonly stopped: ReadonlySet<number>;
  /** Of the newest of them, which Envoy runs or is about to run; `allowed` where there is none. */
  readonly newest: Judgement;
  /** Stand-ins that are still good. */
  readonly standIns: readonly StandIn[];
}

/** Judges all offers that Envoy runs or has not answered. Pure. */
export function judgeOffers(
  state: RolloutState,
  policy: {
    readonly judge: (config: PreparedConfig) => Judgement;
    readonly isStandInAllowed: (config: PreparedConfig) => boolean;
    /** Nobody is to look for a missing proof: it was looked for. */
    readonly isProofMissing: boolean;
  },
): OffersJudgement {
  const offers = state.acknowledged === undefined ? state.inFlight : [state.acknowledged, ...state.inFlight];
  const judgements = offers.map((offer) => judgeOffer(offer, state.push, policy));
  const stopped = offers.filter((_, index) => isStopped(judgements[index]));
  return {
    stopped: new Set(stopped.map(({ number }) => number)),
    newest: judgements.at(-1) ?? { kind: 'allowed' },
    standIns: state.standIns.filter(({ config }) => policy.isStandInAllowed(config)),
  };
}

function judgeOffer(
  offer: Offer,
  newestPush: number,
  {
    judge,
    isProofMissing,
  }: { readonly judge: (config: PreparedConfig) => Judgement; readonly isProofMissing: boolean },
): Judgement {
  const judgement = judge(offer.config);
  // A proof can be looked for only where the newest push names the module.
  const isHopeless = isProofMissing || offer.push !== newestPush || offer.content !== 'plugin';
  return judgement.kind === 'unproven' && isHopeless ? { ...judgement, kind: 'refused' } : judgement;
}

function isStopped(judgement: Judgement | undefined): boolean {
  return judgement?.kind === 'refused' && judgement.action === 'failStrategy';
}
