import type { FallbackAction } from './fallback-filter.ts';
import type { ConfigEnvelope, PreparedConfig } from './rollout.ts';

/** The filter of a fail strategy as a config that can be sent. Its bytes are made when they are first asked for. */
export class FallbackConfig implements PreparedConfig {
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
