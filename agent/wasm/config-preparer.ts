import type { FetchedModule } from '../fetch/types.ts';
import type { ModulePreflight } from './module-preflight.ts';
import type { PolicyGate, WasmPlan } from './policy-gate.ts';
import type { ConfigEnvelope, PreparedConfig } from './rollout.ts';

/** A config that may be sent. */
export interface ReadyConfig {
  readonly config: PreparedConfig;
  /** Undefined: nothing was to be downloaded. */
  readonly module: FetchedModule | undefined;
  /** What policy it was made under (`PolicyGate.generation`). */
  readonly generation: unknown;
}

/** Makes configs ready: the module is allowed, on disk and fit for Envoy. */
export class ConfigPreparer {
  readonly #gate: PolicyGate;
  readonly #preflight: Pick<ModulePreflight, 'passLocal'>;

  constructor(options: {
    readonly gate: PolicyGate;
    readonly preflight: Pick<ModulePreflight, 'passLocal'>;
  }) {
    this.#gate = options.gate;
    this.#preflight = options.preflight;
  }

  /**
   * What `prepare` would give, where the module can be had in this very turn. Undefined says nothing: ask `prepare`.
   * Throws FetchError `policy_refused`.
   */
  atHand(plan: WasmPlan, envelope: ConfigEnvelope): ReadyConfig | undefined {
    if (plan.kind !== 'fetch') return undefined;
    const module = this.#gate.atHand(plan.request);
    return module && this.#rewritten(plan, envelope, module, this.#gate.generation);
  }

  /** Throws FetchError. The policy may change while it runs: compare `generation` before use. */
  async prepare(
    plan: WasmPlan,
    envelope: ConfigEnvelope,
    options: { readonly signal: AbortSignal },
  ): Promise<ReadyConfig> {
    const { generation } = this.#gate;
    if (plan.kind === 'fetch') {
      const module = await this.#gate.fetch(plan.request, options);
      return this.#rewritten(plan, envelope, module, generation);
    }
    const module = await this.#gate.passLocal(plan, options);
    if (plan.kind === 'local') await this.#preflight.passLocal(plan.module);
    return {
      config: { bytes: plan.bytes, envelope, moduleDigest: undefined, module },
      module: undefined,
      generation,
    };
  }

  #rewritten(
    plan: Extract<WasmPlan, { readonly kind: 'fetch' }>,
    envelope: ConfigEnvelope,
    module: FetchedModule,
    generation: unknown,
  ): ReadyConfig {
    const config: PreparedConfig = {
      bytes: plan.rewrite(module.path),
      envelope,
      moduleDigest: module.digest,
      module: this.#gate.judgedModule(plan.request.url, module),
    };
    this.#gate.pass(config.module);
    return { config, module, generation };
  }
}
