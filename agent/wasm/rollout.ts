/** What is known of one extension config on its way from istiod to Envoy, what may happen to it, and what is then done. */
import type { JudgedModule } from './judged-module.ts';

/** A response without its resources, names of removed ones, and nonce. */
export interface ResponseShell {
  /** Which of the two forms of the protocol it is of. */
  readonly kind: 'sotw' | 'delta';
  /** `version_info` or `system_version_info`. */
  readonly version: string;
  /** All its other fields, encoded, the version among them. */
  readonly fields: Uint8Array;
}

/** Delta: the wrapper of a resource, without the config in it. */
export interface ResourceShell {
  readonly name: string;
  /** All its other fields, encoded, the name among them. */
  readonly fields: Uint8Array;
}

/** What a config came in, so that it can go down, and again later, as istiod wrapped it. */
export interface ConfigEnvelope {
  readonly response: ResponseShell;
  /** Delta only. */
  readonly wrapper: ResourceShell | undefined;
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

/** True while the module is fetched, for the first time or again. */
export function isPreparing(progress: Progress): boolean {
  return progress.kind === 'preparing' || (progress.kind === 'failed' && progress.retry === 'running');
}

/** True when another module for the same config may be offered: nothing else is under way for it. */
export function isRenewable({ progress }: RolloutState): boolean {
  return progress.kind === 'active' || isRefused(progress);
}

/** True when the newest push could not be had or was refused, and nothing more is tried for it. */
export function isRefused(progress: Progress): boolean {
  return progress.kind === 'failed' && progress.retry === 'none';
}

/** Bytes tell one config from another, as they do for Envoy. */
export function isSame(a: PreparedConfig, b: PreparedConfig): boolean {
  return Buffer.compare(a.bytes, b.bytes) === 0;
}

/**
 * False for the ACK of bytes that Envoy has just refused: it compares them with what it was given last, and
 * acknowledges them without a look, while what ran before goes on. It counts as the same refusal.
 */
export function isAckTrue({ refused }: RolloutState, offer: Offer): boolean {
  return refused === undefined || !isSame(refused.config, offer.config);
}
