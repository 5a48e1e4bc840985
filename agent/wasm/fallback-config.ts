import type { ExtensionPlan } from './extension-plan.ts';
import type { FallbackAction } from './fallback-filter.ts';
import type { ConfigEnvelope, Offer, PreparedConfig, StandIn } from './rollout.ts';

/** The filter of a fail strategy as a config that can be sent. Its bytes are made when they are first asked for. */
class FallbackConfig implements PreparedConfig {
  readonly envelope: ConfigEnvelope;
  readonly moduleDigest = undefined;
  readonly module = undefined;
  /** What it does; undefined where the config that it stands in for does not say. */
  readonly action: FallbackAction | undefined;
  readonly #makeBytes: () => Uint8Array;
  #bytes: Uint8Array | undefined;

  constructor(options: {
    readonly envelope: ConfigEnvelope;
    readonly action: FallbackAction | undefined;
    readonly makeBytes: () => Uint8Array;
  }) {
    this.envelope = options.envelope;
    this.action = options.action;
    this.#makeBytes = options.makeBytes;
  }

  get bytes(): Uint8Array {
    return (this.#bytes ??= this.#makeBytes());
  }
}

/** The stand-in that a plan asks for. */
export function standIn(
  makeBytes: () => Uint8Array,
  { fallbackAction: action }: Pick<Exclude<ExtensionPlan, { readonly kind: 'as-is' }>, 'fallbackAction'>,
  envelope: ConfigEnvelope,
): StandIn {
  return { content: 'fallback', config: new FallbackConfig({ envelope, action, makeBytes }) };
}

/** What the filter in force does, which may be that of an earlier config; undefined for an offer that is no stand-in. */
export function fallbackActionOf(offer: Offer | undefined): FallbackAction | undefined {
  return offer?.config instanceof FallbackConfig ? offer.config.action : undefined;
}
