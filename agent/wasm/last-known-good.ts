import type { RecordIndex, Sha256 } from '../../cache/types.ts';

/** A config that Envoy accepted, as it is kept on disk. The config holds no agent keys, so no pull secret. */
export interface KeptConfig {
  /** The encoded `TypedExtensionConfig`, base64. */
  readonly config: string;
  /** SHA-256 of the module file it names. */
  readonly moduleDigest: Sha256;
  /** Epoch ms. */
  readonly keptAtMs: number;
}

/** Far more plugins than one proxy runs. */
export const maxKeptConfigCount = 1_024;

/** A plugin that has not been in force for so long was deleted while the agent was down. */
const maxAgeMs = 7 * 24 * 3_600_000;

/** Reads one record of the file; undefined for anything that is not one. */
export function parseKeptConfig(value: unknown): KeptConfig | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { config, moduleDigest, keptAtMs } = value as Record<string, unknown>;
  if (typeof config !== 'string' || typeof moduleDigest !== 'string' || typeof keptAtMs !== 'number') {
    return undefined;
  }
  return /^[0-9a-f]{64}$/.test(moduleDigest) ? { config, moduleDigest, keptAtMs } : undefined;
}

/**
 * What Envoy accepted last, by resource name: survives a restart on the same volume, so that an agent that comes back
 * while the registry is down has something better than the fallback filter.
 */
export class LastKnownGood {
  readonly #index: RecordIndex<KeptConfig>;
  readonly #now: () => number;

  constructor(options: { readonly index: RecordIndex<KeptConfig>; readonly now?: () => number }) {
    this.#index = options.index;
    this.#now = options.now ?? Date.now;
    for (const [name, kept] of this.#index.entries()) {
      if (this.#now() - kept.keptAtMs > maxAgeMs) this.#index.delete(name);
    }
  }

  /** Modules that must stay on disk. */
  digests(): readonly Sha256[] {
    return [...this.#index.entries()].map(([, kept]) => kept.moduleDigest);
  }

  get(name: string): { readonly bytes: Uint8Array; readonly moduleDigest: Sha256 } | undefined {
    const kept = this.#index.get(name);
    if (kept === undefined) return undefined;
    return { bytes: Buffer.from(kept.config, 'base64'), moduleDigest: kept.moduleDigest };
  }

  /** When Envoy accepted what is kept, in epoch ms; undefined when nothing is. */
  keptAtMs(name: string): number | undefined {
    return this.#index.get(name)?.keptAtMs;
  }

  remember(name: string, bytes: Uint8Array, moduleDigest: Sha256): void {
    const config = Buffer.from(bytes).toString('base64');
    this.#index.set(name, { config, moduleDigest, keptAtMs: this.#now() });
  }

  forget(name: string): void {
    this.#index.delete(name);
  }
}
