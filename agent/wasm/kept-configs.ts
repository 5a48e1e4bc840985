import type { BlobStore, Sha256 } from '../../cache/types.ts';
import { describeError, type Logger } from '../log.ts';
import type { LastKnownGood } from './last-known-good.ts';
import type { PolicyGate } from './policy-gate.ts';
import type { ConfigEnvelope, PreparedConfig } from './rollout.ts';

/** What Envoy accepted last, with its modules: kept on disk, and given out again while the policy allows it. */
export class KeptConfigs {
  readonly #lastKnownGood: LastKnownGood;
  readonly #store: Pick<BlobStore, 'get' | 'setReferences'>;
  readonly #gate: Pick<PolicyGate, 'isOn' | 'judge'>;
  readonly #log: Logger;

  constructor(options: {
    readonly lastKnownGood: LastKnownGood;
    readonly store: Pick<BlobStore, 'get' | 'setReferences'>;
    readonly gate: Pick<PolicyGate, 'isOn' | 'judge'>;
    readonly log: Logger;
  }) {
    this.#lastKnownGood = options.lastKnownGood;
    this.#store = options.store;
    this.#gate = options.gate;
    this.#log = options.log;
    for (const { name, moduleDigest } of this.#lastKnownGood.modules()) this.#pin(name, moduleDigest);
  }

  /** The config of this name, when its module is on disk, whole and allowed. Never rejects. */
  async find(name: string, envelope: ConfigEnvelope): Promise<PreparedConfig | undefined> {
    const kept = this.#lastKnownGood.get(name);
    if (kept === undefined) return undefined;
    try {
      const blob = await this.#store.get(kept.moduleDigest);
      if (blob === undefined) return undefined;
    } catch (error) {
      const reason = describeError(error);
      this.#log.warn('the last known good module cannot be read', { name, reason });
      return undefined;
    }
    const config = { ...kept, envelope };
    return this.isAllowed(name, config) ? config : undefined;
  }

  /** Asked again before a config is used: the policy may have changed since it was found. */
  isAllowed(name: string, { module }: Pick<PreparedConfig, 'module'>): boolean {
    const reason = this.#refusal(module);
    if (reason === undefined) return true;
    this.#log.warn('the last known good module is not used', { name, reason });
    return false;
  }

  #refusal(module: PreparedConfig['module']): string | undefined {
    if (module === undefined) {
      return this.#gate.isOn ? 'it was written where no policy was, and nothing tells its origin' : undefined;
    }
    const judgement = this.#gate.judge(module);
    return judgement.kind === 'allowed' ? undefined : judgement.reason;
  }

  /** Writes down what Envoy runs now. Configs without a module of ours come again from istiod alone. */
  keep(name: string, { bytes, moduleDigest, module }: PreparedConfig): void {
    if (moduleDigest === undefined) this.#lastKnownGood.forget(name);
    else this.#lastKnownGood.remember(name, bytes, moduleDigest, module);
    this.#pin(name, moduleDigest);
  }

  forget(name: string): void {
    this.#lastKnownGood.forget(name);
    this.#pin(name, undefined);
  }

  /** Epoch ms; undefined when nothing is kept. */
  keptAtMs(name: string): number | undefined {
    return this.#lastKnownGood.keptAtMs(name);
  }

  #pin(name: string, digest: Sha256 | undefined): void {
    this.#store.setReferences(`last-known-good:${name}`, digest === undefined ? [] : [digest]);
  }
}
