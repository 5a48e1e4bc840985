import type { NamelessResource } from './pushed-resources.ts';
import type { Offer } from './rollout.ts';

/** The stream that offers go to and verdicts come from: one at a time, as Envoy has one. */
export interface RolloutStream {
  /** Send this config to Envoy, alone in a response, under a nonce that leads back to `offer.number`. */
  send(name: string, offer: Offer): void;
  /** A push's config of this name is settled: `failure` is what istiod is to hear, undefined is success. */
  settled(name: string, push: number, failure: string | undefined): void;
}

/** One response of istiod, taken apart. */
export interface TakenPush {
  /** Under which each name is settled, once. */
  readonly push: number;
  /** In order, each once. */
  readonly names: readonly string[];
  /** Resources that nobody can be told about by name. They are in no plugin's rollout. */
  readonly nameless: readonly NamelessResource[];
  /** To be called when the outcomes can be taken: the first may be settled while it runs. */
  readonly start: () => void;
}
