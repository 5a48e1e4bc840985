import type { RecordIndex, Sha256 } from '../../cache/types.ts';
import type { JudgedModule } from './judged-module.ts';

/** A config that Envoy accepted, as it is kept on disk. The config holds no agent keys, so no pull secret. */
export interface KeptConfig {
  /** The encoded `TypedExtensionConfig`, base64. */
  readonly config: string;
  /** SHA-256 of the module file it names. */
  readonly moduleDigest: Sha256;
  /** Epoch ms. */
  readonly keptAtMs: number;
  /** Where the module is from, for the policy of a later start; undefined in records of an agent that had none. */
  readonly origin?: KeptOrigin | undefined;
}

/** What a policy may ask about a remote module. */
export interface KeptOrigin {
  /** Without user info and query. */
  readonly url: string;
  readonly digests: readonly Sha256[];
  readonly signedBy: readonly string[];
}

/** Far more plugins than one proxy runs. */
export const maxKeptConfigCount = 1_024;

/** A plugin that has not been in force for so long was deleted while the agent was down. */
const maxAgeMs = 7 * 24 * 3_600_000;

/** Reads one record of the file; undefined for anything that is not one. */
export function parseKeptConfig(value: unknown): KeptConfig | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { config, moduleDigest, keptAtMs, origin } = value as Record<string, unknown>;
  if (typeof config !== 'string' || typeof moduleDigest !== 'string' || typeof keptAtMs !== 'number') {
    return undefined;
  }
  if (!isDigest(moduleDigest)) return undefined;
  // Of what is not known where it came from, the rest is still good where no policy asks.
  return { config, moduleDigest, keptAtMs, origin: parseOrigin(origin) };
}

function parseOrigin(value: unknown): KeptOrigin | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { url, digests, signedBy } = value as Record<string, unknown>;
  if (typeof url !== 'string' || !isListOfDigests(digests) || !isListOfDigests(signedBy)) return undefined;
  return { url, digests, signedBy };
}

function isListOfDigests(value: unknown): value is readonly Sha256[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string' && isDigest(item));
}

function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
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

  /** Modules that must stay on disk, by resource name. */
  modules(): readonly { readonly name: string; readonly moduleDigest: Sha256 }[] {
    return [...this.#index.entries()].map(([name, { moduleDigest }]) => ({ name, moduleDigest }));
  }

  get(name: string):
    | {
        readonly bytes: Uint8Array;
        readonly moduleDigest: Sha256;
        /** Undefined: not known. */
        readonly module: JudgedModule | undefined;
      }
    | undefined {
    const kept = this.#index.get(name);
    if (kept === undefined) return undefined;
    const { config, moduleDigest, origin } = kept;
    return { bytes: Buffer.from(config, 'base64'), moduleDigest, module: judgedModule(origin) };
  }

  /** When Envoy accepted what is kept, in epoch ms; undefined when nothing is. */
  keptAtMs(name: string): number | undefined {
    return this.#index.get(name)?.keptAtMs;
  }

  remember(name: string, bytes: Uint8Array, moduleDigest: Sha256, module: JudgedModule | undefined): void {
    const config = Buffer.from(bytes).toString('base64');
    this.#index.set(name, { config, moduleDigest, keptAtMs: this.#now(), origin: keptOrigin(module) });
  }

  forget(name: string): void {
    this.#index.delete(name);
  }
}

function keptOrigin(module: JudgedModule | undefined): KeptOrigin | undefined {
  if (module?.subject.kind !== 'remote') return undefined;
  const { subject, digests, signedBy } = module;
  return { url: subject.url, digests, signedBy };
}

function judgedModule(origin: KeptOrigin | undefined): JudgedModule | undefined {
  if (origin === undefined) return undefined;
  const { url, digests, signedBy } = origin;
  return { subject: { kind: 'remote', url }, digests, signedBy };
}
